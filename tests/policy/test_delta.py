"""Policy differences, compared with brute force on random policies, with sediff, and with expected values."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepolicyd.access import Access
from sepolicyd.errors import InputError
from sepolicyd.policy import delta as delta_module
from sepolicyd.policy.delta import Origin, difference
from sepolicyd.policy.index import PolicyIndex
from tests.policy.stores import link, package
from tests.policy.toys import DISTRIBUTION, compile_cil, needs_distribution, needs_secilc, types

pytestmark = [pytest.mark.toolchain, needs_secilc]

TYPES = ("t0_t", "t1_t", "t2_t", "t3_t")
ATTRIBUTES = ("a0", "a1", "a2")
BOOLEANS = ("b0", "b1")
PERMISSIONS = {"file": ("read", "write", "ioctl"), "process": ("fork", "transition")}
STATES = tuple(product((False, True), repeat=len(BOOLEANS)))
ALL = frozenset(range(0x10000))
EXAMPLES = int(os.environ.get("SEPOLICYD_EXAMPLES", "20"))


# -- random policies against brute force -----------------------------------------------------------------------------------


@st.composite
def rules(draw: st.DrawFn, words: tuple[str, ...] = ("allow", "allow", "dontaudit")) -> str:
    source = draw(st.sampled_from((*TYPES, *ATTRIBUTES)))
    target = draw(st.sampled_from((*TYPES, *ATTRIBUTES, "self")))
    tclass = draw(st.sampled_from(sorted(PERMISSIONS)))
    permissions = draw(st.lists(st.sampled_from(PERMISSIONS[tclass]), min_size=1, unique=True))
    return f"({draw(st.sampled_from(words))} {source} {target} ({tclass} ({' '.join(permissions)})))"


@st.composite
def conditionals(draw: st.DrawFn) -> str:
    expression = draw(st.sampled_from(("b0", "b1", "(not b0)", "(and b0 b1)", "(or b1 b0)", "(xor b0 b1)", "(eq b0 b1)")))
    parts = [
        f"({branch} {' '.join(found)})"
        for branch in ("true", "false")
        if (found := draw(st.lists(rules(("allow",)), max_size=2)))
    ]
    return f"(booleanif {expression} {' '.join(parts)})" if parts else ""


@st.composite
def bodies(draw: st.DrawFn) -> str:
    present = draw(st.sets(st.sampled_from(TYPES), min_size=3))
    lines = [types(*sorted(present)), types(*(name for name in TYPES if name not in present)).replace("_t", "_gone_t")]
    lines += [f"(typeattribute {name})" for name in ATTRIBUTES]
    for name in ATTRIBUTES:
        members = draw(st.sets(st.sampled_from(sorted(present))))
        lines += [f"(typeattributeset {name} ({' '.join(sorted(members))}))"] if members else []
    lines += [f"(boolean {name} {draw(st.sampled_from(('true', 'false')))})" for name in BOOLEANS]
    body = draw(st.lists(rules(), max_size=6)) + draw(st.lists(conditionals(), max_size=3))
    absent = [name for name in TYPES if name not in present]
    return "\n".join([*lines, *(line for line in body if not any(name in line for name in absent))])


def brute_force(path: Path, word: str = "allow") -> dict[Access, frozenset[tuple[bool, ...]]]:
    """Every access of a policy with the boolean states under which it holds, by setools' own expansion."""
    import setools

    found: dict[Access, frozenset[tuple[bool, ...]]] = {}
    for rule in setools.SELinuxPolicy(str(path)).terules():
        if str(rule.ruletype) == word:
            on = frozenset(state for state in STATES if rule.enabled(**dict(zip(BOOLEANS, state))))
            for part in rule.expand():
                for permission in part.perms:
                    access = Access.of(str(part.source), str(part.target), str(part.tclass), permission)
                    found[access] = found.get(access, frozenset()) | on
    return found


@settings(max_examples=EXAMPLES, deadline=None)
@given(bodies(), bodies())
def test_exact_on_random_policies(old: str, new: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        left, right = compile_cil(old, Path(folder, "old")), compile_cil(new, Path(folder, "new"))
        delta = difference(left, right)
        for word, gained, lost in (
            ("allow", delta.gained, delta.lost),
            ("dontaudit", delta.dontaudit_gained, delta.dontaudit_loss.accesses),
        ):
            before, after = brute_force(left, word), brute_force(right, word)
            assert gained == {access for access, on in after.items() if on - before.get(access, frozenset())}
            assert lost == {access for access, on in before.items() if on - after.get(access, frozenset())}
        before, after = brute_force(left), brute_force(right)
        for access in delta.gained:
            conditions = delta.conditions(access)
            shown = {state for state in STATES if any(item.active(dict(zip(BOOLEANS, state))) for item in conditions)}
            new_states = after[access] - before.get(access, frozenset())
            assert not conditions or new_states <= shown <= after[access]
            assert delta.origins(access)


XPERMS = {
    "none": "",
    "low": "(allowx {} {} (ioctl file (range 0x5400 0x5410)))",
    "high": "(allowx {} {} (ioctl file (range 0x0600 0x08ff)))",
    "silent": "(dontauditx {} {} (ioctl file (0x5401)))",
}


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("t0_t", "t1_t", "a0")),
            st.sampled_from(("t1_t", "a1")),
            st.sampled_from(sorted(XPERMS)),
            st.booleans(),
        ),
        max_size=4,
    ),
    st.lists(
        st.tuples(
            st.sampled_from(("t0_t", "t1_t", "a0")),
            st.sampled_from(("t1_t", "a1")),
            st.sampled_from(sorted(XPERMS)),
            st.booleans(),
        ),
        max_size=4,
    ),
)
def test_exact_numbers_of_ioctl(old: list[tuple[str, str, str, bool]], new: list[tuple[str, str, str, bool]]) -> None:
    def body(parts: list[tuple[str, str, str, bool]]) -> str:
        head = (
            types("t0_t", "t1_t")
            + "(typeattribute a0)(typeattributeset a0 (t0_t))(typeattribute a1)(typeattributeset a1 (t1_t t0_t))"
        )
        lines = [XPERMS[kind].format(source, target) for source, target, kind, _ in parts]
        lines += [f"(allow {source} {target} (file (ioctl)))" for source, target, _, allowed in parts if allowed]
        return "\n".join([head, *lines])

    with tempfile.TemporaryDirectory() as folder:
        left, right = compile_cil(body(old), Path(folder, "old")), compile_cil(body(new), Path(folder, "new"))
        before, after = effective_numbers(left), effective_numbers(right)
        delta = difference(left, right)
        for found, here, there in ((delta.gained, after, before), (delta.lost, before, after)):
            wanted = {pair: numbers - there.get(pair, frozenset()) for pair, numbers in here.items()}
            assert {
                (access.source, access.target_type): frozenset(
                    number for low, high in access.xperms or ((0, 0xFFFF),) for number in range(low, high + 1)
                )
                for access in found
                if access.permission == "ioctl"
            } == {pair: numbers for pair, numbers in wanted.items() if numbers}


def effective_numbers(path: Path) -> dict[tuple[str, str], frozenset[int]]:
    """What the kernel lets through of ioctl on files: nothing without the permission, all where no xperm rule stands."""
    import setools

    allowed: set[tuple[str, str]] = set()
    filters: dict[tuple[str, str], set[int]] = {}
    for rule in setools.SELinuxPolicy(str(path)).terules():
        for part in rule.expand():
            pair, word = (str(part.source), str(part.target)), str(rule.ruletype)
            if word == "allow" and "ioctl" in part.perms:
                allowed.add(pair)
            elif word.endswith("xperm"):
                filters.setdefault(pair, set()).update(part.perms if word == "allowxperm" else ())
    return {pair: frozenset(filters[pair]) if pair in filters else ALL for pair in allowed}


# -- by hand ---------------------------------------------------------------------------------------------------------------

BASE = (
    types("app_t", "data_t", "other_t")
    + """
(typeattribute domain)(typeattributeset domain (app_t other_t))
(typeattribute readers)(typeattributeset readers (other_t))
(typeattribute empty_list)
(allow readers data_t (file (read open)))
(boolean app_net false)
(booleanif app_net (true (allow app_t data_t (tcp_socket (name_connect)))))
(portcon tcp 80 (u r data_t ((s0)(s0))))
"""
)


def delta_of(folder: Path, old: str, new: str) -> Any:
    return difference(compile_cil(old, folder / "old"), compile_cil(new, folder / "new"))


def test_same_policy_is_no_difference(tmp_path: Path) -> None:
    delta = delta_of(tmp_path, BASE, BASE)
    assert delta.empty
    assert not delta.gained


def test_a_new_member_of_an_attribute_gains_what_its_rules_give(tmp_path: Path) -> None:
    delta = delta_of(tmp_path, BASE, BASE + "(typeattributeset readers (app_t))")
    read = Access("app_t", "data_t", "file", "read")
    assert delta.gained == {read, Access("app_t", "data_t", "file", "open")}
    assert delta.origins(read) == (Origin("readers", "data_t", "file", new_rule=False),)
    assert delta.joined == {("app_t", "readers")}
    assert not delta.lost


def test_a_new_rule_says_that_it_is_new(tmp_path: Path) -> None:
    delta = delta_of(tmp_path, BASE, BASE + "(allow app_t data_t (file (read)))")
    (access,) = delta.gained
    assert delta.origins(access) == (Origin("app_t", "data_t", "file", new_rule=True),)


def test_a_rule_that_another_already_gives_is_no_gain(tmp_path: Path) -> None:
    delta = delta_of(tmp_path, BASE, BASE + "(allow other_t data_t (file (read)))")
    assert not delta.gained
    assert not delta.lost


def test_conditional_rules_tell_their_boolean_and_whether_it_stands(tmp_path: Path) -> None:
    branches = "(true (allow app_t data_t (file (write)))) (false (allow app_t data_t (file (append))))"
    more = f"(boolean extra true)(booleanif extra {branches})"
    delta = delta_of(tmp_path, BASE, BASE + more)
    write, append = Access("app_t", "data_t", "file", "write"), Access("app_t", "data_t", "file", "append")
    assert delta.gained == {write, append}
    assert [str(item) for item in delta.conditions(write)] == ["extra"]
    assert [str(item) for item in delta.conditions(append)] == ["!extra"]
    assert delta.active(write)
    assert not delta.active(append)
    assert delta.added["boolean"] == {"extra on"}


def test_a_conditional_access_that_becomes_unconditional_is_a_gain(tmp_path: Path) -> None:
    delta = delta_of(tmp_path, BASE, BASE + "(allow app_t data_t (tcp_socket (name_connect)))")
    assert delta.gained == {Access("app_t", "data_t", "tcp_socket", "name_connect")}
    assert delta.conditions(Access("app_t", "data_t", "tcp_socket", "name_connect")) == ()


def test_both_branches_of_a_boolean_are_no_gain_over_always(tmp_path: Path) -> None:
    always = BASE + "(allow app_t data_t (dir (read)))"
    both = BASE + "(booleanif app_net (true (allow app_t data_t (dir (read)))) (false (allow app_t data_t (dir (read)))))"
    assert not delta_of(tmp_path, both, always).gained
    assert not delta_of(tmp_path, always, both).gained


@pytest.mark.parametrize(
    ("more", "kind", "line"),
    [
        ("(typepermissive app_t)", "permissive", "app_t"),
        ("(roletype q app_t)", "role", "q app_t"),
        ("(roleallow r q)", "role rule", "allow r q;"),
        ("(typebounds other_t app_t)", "typebounds", "other_t app_t"),
        ("(portcon tcp 81 (u r app_t ((s0)(s0))))", "portcon", "portcon tcp 81 u:r:app_t:s0"),
        ('(genfscon proc "/x" (u r app_t ((s0)(s0))))', "genfscon", "genfscon proc /x  u:r:app_t:s0"),
        ("(fsuse xattr ext4 (u r app_t ((s0)(s0))))", "fs_use", "fs_use_xattr ext4 u:r:app_t:s0;"),
        ("(rangetransition app_t data_t process ((s1)(s1)))", "range_transition", "range_transition app_t data_t:process s1;"),
        ("(constrain (file (read)) (eq u1 u2))", "constraint", "constrain file { read } (u1 == u2)"),
        ("(auditallow app_t data_t (file (read)))", "auditallow", "app_t data_t:file { read }"),
        ("(policycap nnp_nosuid_transition)", "policycap", "policycap nnp_nosuid_transition;"),
        ("(userrole v q)", "user", "user v roles { q r } level s0 range s0 - s1:c0.c3"),
        ("(typealias old_app_t)(typealiasactual old_app_t app_t)", "alias", "old_app_t app_t"),
    ],
)
def test_what_is_no_access_is_told_by_kind(tmp_path: Path, more: str, kind: str, line: str) -> None:
    delta = delta_of(tmp_path, BASE, BASE + more)
    assert line in delta.added[kind], delta.added[kind]
    assert not delta.empty
    assert not delta.gained


def test_unrelated_policies_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta_module, "MAX_PAIRS", 3)
    delta = delta_of(tmp_path, "", BASE + "(allow domain domain (file (read)))(allow domain data_t (dir (read)))")
    with pytest.raises(InputError, match="more than 3 pairs of types"):
        delta.gained  # noqa: B018
    assert not delta.lost
    assert delta.new_types == {"app_t", "data_t", "other_t"}


def test_rules_on_numbers_are_told_as_text(tmp_path: Path) -> None:
    more = "(dontauditx app_t data_t (ioctl file ((range 0x5401 0x5403) 0x5410)))"
    delta = delta_of(tmp_path, BASE, BASE + more)
    assert delta.xperm_rules_added == {"dontauditxperm app_t data_t:file ioctl { 0x5401-0x5403 0x5410 };"}
    assert not delta.xperm_rules_removed
    assert not delta.empty


def test_permissive_and_type_sets(tmp_path: Path) -> None:
    delta = delta_of(tmp_path, BASE + "(typepermissive other_t)", BASE + types("new_t") + "(typepermissive app_t)")
    assert (delta.permissive_gained, delta.new_types) == ({"app_t"}, {"new_t"})


def test_transitions(tmp_path: Path) -> None:
    more = '(typetransition app_t data_t process other_t)(typetransition app_t data_t file "hub.pid" other_t)'
    delta = delta_of(tmp_path, BASE, BASE + more)
    assert {str(item) for item in delta.transitions_added} == {
        "type_transition app_t data_t:process other_t;",
        'type_transition app_t data_t:file other_t "hub.pid";',
    }


# -- the distribution's policy ---------------------------------------------------------------------------------------------

MODULE = """module probe 1.0;
require {
  attribute domain; attribute daemon; attribute file_type; attribute can_read_shadow_passwords;
  type etc_t; type chronyd_t; type init_t; role system_r; class file { read open getattr execute }; class process transition;
}
type probe_t; type probe_exec_t;
role system_r types probe_t;
typeattribute probe_t domain; typeattribute probe_t daemon; typeattribute probe_exec_t file_type;
typeattribute chronyd_t can_read_shadow_passwords;
allow probe_t etc_t:file { read open getattr };
allow init_t probe_t:process transition;
bool probe_can false;
if (probe_can) { allow probe_t probe_exec_t:file execute; }
"""


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution's policy with MODULE linked in a copy of its store."""
    folder = tmp_path_factory.mktemp("linked")
    return link(folder / "root", package(folder, "probe", MODULE))


@needs_distribution
def test_a_module_in_the_distributions_policy(linked: Path, distribution: PolicyIndex) -> None:
    delta = difference(distribution, linked)
    assert delta.new_types == {"probe_t", "probe_exec_t"}
    assert ("chronyd_t", "can_read_shadow_passwords") in delta.joined
    assert not delta.lost
    new = {access for access in delta.gained if any(origin.new_rule for origin in delta.origins(access))}
    assert Access("probe_t", "etc_t", "file", "read") not in new or all(
        origin.new_rule for origin in delta.origins(Access("probe_t", "etc_t", "file", "read"))
    )
    assert Access("init_t", "probe_t", "process", "transition") in new
    conditional = Access("probe_t", "probe_exec_t", "file", "execute")
    assert [str(item) for item in delta.conditions(conditional)] == ["probe_can"]
    assert {origin.source for access in delta.gained - new for origin in delta.origins(access)} >= {"domain"}


@needs_distribution
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sediff") is None, reason="sediff is not installed")
def test_as_sediff_on_the_distributions_policy(linked: Path, distribution: PolicyIndex) -> None:
    shown = subprocess.run(["sediff", "--allow", str(DISTRIBUTION), str(linked)], capture_output=True, text=True, check=False)
    pattern = re.compile(r"\+ allow (\S+) (\S+):(\S+) (?:\{ (.*?) \}|(\S+));")
    theirs = {
        Access.of(source, target, tclass, permission)
        for source, target, tclass, many, one in pattern.findall(shown.stdout)
        for permission in (many or one).split()
    }
    assert theirs
    assert difference(distribution, linked).gained == theirs
