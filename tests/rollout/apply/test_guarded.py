"""Changes without an allow rule are refused with a reason: joined attributes, constraint exemptions, base modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

from sepolicyd.errors import RefusedError
from sepolicyd.module.build import build, workdir
from sepolicyd.module.source import SourceText, render_te
from sepolicyd.policy.delta import difference
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.apply.link_and_prove import Plan, plan
from sepolicyd.rules.guard import policy_delta as judged
from sepolicyd.rules.guard.guard import load_guard
from tests.paths import POLICIES
from tests.rollout.apply.world import READ, World, allow

pytestmark = pytest.mark.toolchain
GUARD = load_guard([POLICIES])
# As in the reference policy: attributes whose members a constraint or a neverallow rule lets pass. No rule names
# can_change_object_identity, so that joining it gives no access at all.
ATTRIBUTES = """
(typeattribute can_read_shadow_passwords)
(typeattribute can_change_object_identity)
(typeattribute mcs_constrained_type)
(typeattributeset can_read_shadow_passwords (other_t))
(typeattributeset can_change_object_identity (other_t))
(typeattributeset mcs_constrained_type (svc_t))
(allow can_read_shadow_passwords etc_t (file (read)))
(constrain (file (create setattr)) (or (eq u1 u2) (eq t1 can_change_object_identity)))
(mlsconstrain (file (read)) (or (dom h1 h2) (neq t1 mcs_constrained_type)))
"""
JOINS = "typeattribute svc_t {0};"
PLAIN = "allow svc_t shadow_t:file {{ {0} }};"


@pytest.fixture
def store(machine: World, tmp_path: Path) -> World:
    attributes = tmp_path / "attributes.cil"
    attributes.write_text(ATTRIBUTES)
    machine.store.install([attributes], 100)
    return machine


def base(folder: Path, statement: str, requires: str) -> Path:
    """A base module that somebody wrote by hand."""
    te = f"module svcbase 1.0;\nrequire {{ type svc_t; {requires} }}\n{statement}\n"
    with workdir() as place:
        made = build(SourceText("svcbase", "1.0", te, "", (), ()), place).read_bytes()
    path = folder / "svcbase.pp"
    path.write_bytes(made)
    return path


def planned(world: World, packages: Sequence[Path], overrides: Optional[tuple[dict[str, str], ...]] = None) -> Plan:
    settings = replace(world.settings, overrides=overrides or ())
    return plan(settings, world.profile, allow(READ), GUARD, base=packages)


@pytest.mark.parametrize(
    ("statement", "requires", "code", "words"),
    [
        (JOINS.format("can_read_shadow_passwords"), "attribute can_read_shadow_passwords;", "R-011", "exempt from neverallow"),
        (PLAIN.format("read"), "type shadow_t; class file read;", "R-003", "password hashes"),
        (PLAIN.format("append"), "type shadow_t; class file append;", "R-003", "password hashes"),
        (
            JOINS.format("can_change_object_identity"), "attribute can_change_object_identity;",
            "R-020", "svc_t as source of constrain file { create setattr }",
        ),
        ("permissive svc_t;", "", "R-014", "permissive"),
    ],
    ids=["attribute", "the plain rule beside it", "append, which no neverallow covers", "constraint", "permissive"],
)  # fmt: skip
def test_a_base_module_by_hand_is_refused(store: World, tmp_path: Path, statement, requires, code, words) -> None:
    before = store.policy()
    made = planned(store, [base(tmp_path, statement, requires)])
    [said] = [text for text in made.proof.refusals if text.startswith(f"{code}:")]
    assert words in said
    with pytest.raises(RefusedError, match="may not be loaded"):
        store.load(made)
    assert store.policy() == before


def test_joining_gives_no_access_and_is_refused_all_the_same(store: World, tmp_path: Path) -> None:
    """No rule names the attribute: the difference of accesses is empty."""
    made = planned(store, [base(tmp_path, JOINS.format("can_change_object_identity"), "attribute can_change_object_identity;")])
    assert made.base_delta is not None and not made.base_delta.gained
    assert {text.split(":")[0] for text in made.proof.refusals} == {"R-011", "R-020"}


def test_an_override_is_for_an_access_and_not_for_an_attribute(store: World, tmp_path: Path) -> None:
    override = ({"access": "svc_t shadow_t:file read", "reason": "ticket 7", "by": "root"},)
    plain = base(tmp_path, PLAIN.format("read"), "type shadow_t; class file read;")
    assert planned(store, [plain], override).proof.refusals == ()
    joins = base(tmp_path, JOINS.format("can_read_shadow_passwords"), "attribute can_read_shadow_passwords;")
    assert planned(store, [joins], override).proof.refusals


def test_leaving_what_holds_a_type_back_counts_too(store: World, tmp_path: Path) -> None:
    start = PolicyIndex.load(store.store.policy())
    freed = tmp_path / "attributes.cil"
    freed.write_text(ATTRIBUTES.replace("mcs_constrained_type (svc_t)", "mcs_constrained_type (other_t)"))
    store.store.install([freed], 100)
    delta = difference(start, PolicyIndex.load(store.store.policy()))
    assert {str(found) for found in delta.exempted} == {"svc_t as source of mlsconstrain file { read }"}
    assert [finding.code for finding in judged.memberships(delta, GUARD, store.profile)] == ["R-020"]


def test_a_compiler_that_slips_an_attribute_in_is_told_with_the_rule_that_opens(
    store: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decisions' own module: the statement is no rule of the text, and it is refused by name, not only as strange."""
    import sepolicyd.rollout.apply.module_draft as planning

    real = planning.build  # type: ignore[attr-defined]

    def slipping(source, directory, *, mls):  # type: ignore[no-untyped-def]
        te = source.te.replace("require {", "require { attribute can_read_shadow_passwords;", 1)
        return real(replace(source, te=te + "typeattribute svc_t can_read_shadow_passwords;\n"), directory, mls=mls)

    monkeypatch.setattr(planning, "build", slipping)
    made = planned(store, [])
    assert any(
        "svc_t etc_t:file read (by the rule on can_read_shadow_passwords etc_t:file)" in text for text in made.proof.refusals
    )
    assert any(text.startswith("R-011:") for text in made.proof.refusals)


def test_what_a_decided_boolean_opens_is_told_and_judged(machine: World) -> None:
    read_var = READ.of("svc_t", "var_t", "file", "read")
    decided = allow(read_var, fix="boolean", detail={"boolean": "svc_may_read", "value": True})
    made = plan(machine.settings, machine.profile, decided, GUARD)
    assert made.opened == {"svc_may_read": {read_var}}
    assert not made.delta.gained and not made.proof.refusals
    machine.load(made)
    again = plan(machine.settings, machine.profile, decided, GUARD)
    assert again.empty and again.opened == {"svc_may_read": frozenset()}


def test_a_boolean_that_opens_what_is_refused_is_not_set(machine: World, tmp_path: Path) -> None:
    more = tmp_path / "more.cil"
    more.write_text(
        "(booleanif svc_may_read (true (allow svc_t shadow_t (file (read))) (allow other_t shadow_t (file (write)))))"
    )
    machine.store.install([more], 100)
    detail = {"boolean": "svc_may_read", "value": True}
    made = plan(
        machine.settings, machine.profile, allow(READ.of("svc_t", "var_t", "file", "read"), fix="boolean", detail=detail), GUARD
    )
    assert len(made.opened["svc_may_read"]) == 3
    [said] = made.proof.refusals
    assert said.startswith("R-003:") and "svc_t shadow_t:file read" in said  # other_t's is its author's


def test_a_plain_base_is_not_refused(store: World, tmp_path: Path) -> None:
    with workdir() as place:
        plain = tmp_path / "svcbase.pp"
        plain.write_bytes(build(render_te("svcbase", [READ]), place).read_bytes())
    assert planned(store, [plain]).proof.refusals == ()
