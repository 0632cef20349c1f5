"""End to end on captured logs: after the fixes are applied to a store, the policy grants exactly the decisions.

What the resulting policy says is asked of audit2why and setools, not only of our own policy_index.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sepolicyd import profiles, settings
from sepolicyd.access import Access
from sepolicyd.cli.plan_view import document
from sepolicyd.errors import RefusedError
from sepolicyd.policy.delta import difference
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import open_labels
from sepolicyd.rollout.apply.desired_policy import rule_kind
from sepolicyd.rollout.apply.execute import Applied, Order
from sepolicyd.rollout.apply.link_and_prove import Plan
from sepolicyd.rollout.apply.pipeline import apply
from sepolicyd.rollout.apply.rollback import rollback
from sepolicyd.rollout.apply.session_draft import planned
from sepolicyd.rollout.review.answer import store_decision
from sepolicyd.rollout.review.queue import judge, with_interfaces
from sepolicyd.rollout.session import Session
from sepolicyd.rules.assess.assess import Assessed
from sepolicyd.rules.attribution.gather_evidence import attribute
from sepolicyd.rules.attribution.matcher import Matcher
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.fixes.detail import LabelledPorts
from sepolicyd.rules.fixes.fix import Fix
from sepolicyd.state.decisions import AnswerKind, Decision
from sepolicyd.state.fix_codec import encode
from tests.cli.asking import audit2why, under_boolean
from tests.cli.conftest import DATA
from tests.rules.lines import evidence_from, line, scan_files  # type: ignore[attr-defined]

pytestmark = pytest.mark.toolchain
LOGS = [*sorted(DATA.glob("0*.log.gz")), *sorted((DATA.parent / "vm").glob("*.log.gz"))]
# what these logs do not hold, so that each kind of fix is carried out: a web server in front, files without their labels
INVENTED = [
    line("name_connect", "httpd_t", "jupyterhub_port_t", "tcp_socket", pid=9, comm="nginx", dest=8000),
    line("read open", "jupyterhub_t", "var_t", "file", pid=9, comm="jupyterhub", path="/srv/jupyterhub/jupyterhub.sqlite"),
    line("read open", "jupyterhub_t", "default_t", "file", pid=9, comm="jupyterhub", path="/etc/jupyterhub/keys/hub.key"),
    line("name_bind", "jupyterhub_proxy_t", "soundd_port_t", "tcp_socket", pid=9, comm="node", src=8000),
    line("name_connect", "jupyterhub_t", "ldap_port_t", "tcp_socket", pid=9, comm="jupyterhub", dest=389),
    line("execute", "jupyterhub_user_t", "user_home_t", "file", pid=9, comm="bash", path="/home/alice/a.out"),
    line("add_name write", "jupyterhub_proxy_t", "var_run_t", "dir", pid=9, comm="node", path="/run"),
]


@dataclass(frozen=True)
class Done:
    """One round: what was asked, what was chosen, and the policy before and after."""

    session: Session
    items: list[Assessed]
    chosen: dict[str, Fix]
    decided: dict[Access, Decision]
    evidence: dict[Access, Evidence]
    before: Path
    plan: Plan
    shown: dict[str, Any]
    applied: Applied

    after: Path
    old: PolicyIndex
    new: PolicyIndex

    @property
    def kern(self) -> Path:
        return self.session.settings.root / "var/lib/selinux/default/active/policy.kern"


def evidence_of_logs(profile: profiles.Profile) -> dict[Access, Evidence]:
    found = attribute(scan_files(LOGS), Matcher(profile)).evidence
    for access, seen in evidence_from(INVENTED).items():
        found[access] = found[access].merge(seen) if access in found else seen
    return found


def proposed(item: Assessed) -> Fix:
    return item.fix


def other(item: Assessed) -> Fix:
    """Another fix than the proposed one, of the kinds that apply carries out as rules."""
    return next((fix for fix in item.alternatives if fix.kind in ("interface", "allow")), item.fix)


@pytest.fixture(scope="module", params=[proposed, other], ids=["the proposed fix", "an alternative"])
def done(request: pytest.FixtureRequest, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Everything that may be approved is approved by one of its fixes, and applied as one change."""
    choose: Callable[[Assessed], Fix] = request.param
    place = tmp_path_factory.mktemp("proof")
    shutil.copytree(prepared, place / "root", symlinks=True)
    configured = settings.load(root=place / "root", state=place / "state")
    session = Session(configured, profiles.load("jupyterhub", configured.policy_dirs))
    before = place / "before"
    shutil.copy(place / "root/var/lib/selinux/default/active/policy.kern", before)
    evidence, policy_index = evidence_of_logs(session.profile), PolicyIndex.load(before)
    items = judge(session, evidence, policy_index)
    store = session.decisions()
    chosen: dict[str, Fix] = {}
    # interfaces are looked up for some of them: 80 ms each
    asks = {number for number, item in enumerate(items) if item.fix.kind in ("port", "boolean", "relabel", "own-type")}
    for number, item in enumerate(items):
        if not item.approvable:
            with pytest.raises(RefusedError, match="cannot be approved"):
                store_decision(session, store, AnswerKind.ALLOW, item, reason="please")
            continue
        refined = with_interfaces(session, item) if choose is other and number in asks else item
        fix = choose(refined)
        chosen[item.candidate.id] = fix
        place_of = [refined.fix, *refined.alternatives].index(fix) + 1
        store_decision(session, store, AnswerKind.ALLOW, refined, place_of, "the proof")
    decided = store.decided()
    store.close()
    with planned(session) as plan:
        shown = document(plan)
        applied = apply(plan, configured, session.guard(), Order("proof"))
    after = place / "after"
    shutil.copy(place / "root/var/lib/selinux/default/active/policy.kern", after)
    return Done(
        session, items, chosen, decided, evidence, before, plan, shown, applied, after, policy_index, PolicyIndex.load(after)
    )


def rules_of(done: Done, word: str = "allow") -> set[Access]:
    """The accesses that a decision makes a rule for, by the decisions alone."""
    found = set()
    for access, decision in done.decided.items():
        if rule_kind(decision, access) == word:
            found.add(access)
    return found


def questions(access: Access, seen: Evidence) -> list[tuple[str, str, str, str]]:
    return [(scontext, tcontext, access.tclass, access.permission) for scontext, tcontext in seen.contexts]


def context(name: str, role: str) -> str:
    return f"system_u:{role}:{name}:s0"


def test_all_kinds_that_apply_carries_out_are_among_them(done: Done, request: pytest.FixtureRequest) -> None:
    kinds = {fix.kind for fix in done.chosen.values()}
    wanted = {"allow", "dontaudit", "boolean", "relabel", "own-type", "port"}
    if "alternative" in request.node.name:
        wanted = {"allow", "interface"}
    assert wanted <= kinds
    assert len(done.chosen) > 100
    assert done.applied.changed and done.applied.verified == "identical"


def test_what_is_refused_cannot_be_approved_and_is_not_in_the_policy(done: Done) -> None:
    refused = [item for item in done.items if item.level == "refuse"]
    assert refused and not any(item.approvable for item in refused)
    before, after = done.old, done.new
    for item in refused:
        for access in item.candidate.accesses:
            assert after.allowed(access).allowed == before.allowed(access).allowed, access


def test_the_policy_gains_exactly_the_decided_accesses(done: Done) -> None:
    before, after = done.old, done.new
    delta = difference(before, after)
    asked = {access for access in rules_of(done) if access not in done.plan.left_out}
    new = {a for a in asked if a.permission not in before.pair(a.source, a.target_type, a.tclass).permissions}
    assert delta.gained == new
    assert {one["access"] for one in done.shown["gained"]} == {str(access) for access in new}
    assert not delta.lost
    assert all(done.new.allowed(access).allowed for access in asked)
    quiet = {a for a in rules_of(done, "dontaudit") if not before.allowed(a).dontaudited}
    assert delta.dontaudit_gained == quiet
    moves = {tuple(one.values()) for fix in done.chosen.values() for one in encode(fix.detail).get("transitions", ())}
    assert {(t.source, t.target, t.tclass, t.default) for t in delta.transitions_added} <= moves
    assert not delta.joined and not delta.exempted and not delta.permissive_gained


def test_audit2why_agrees_access_by_access(done: Done) -> None:
    """Constraints and roles included, in the contexts of the log: denied before, allowed after; nothing else has changed."""
    asked = {access: questions(access, seen) for access, seen in done.evidence.items()}
    every = sorted({one for found in asked.values() for one in found})
    was, now = audit2why(done.before, every), audit2why(done.after, every)
    opened = {access for accesses in done.plan.opened.values() for access in accesses}
    given = rules_of(done) | opened
    denied_still = []
    for access, found in asked.items():
        for one in found:
            if was[one].startswith("!") or was[one].startswith("BAD"):
                continue  # a label that this policy does not have
            if access in given:
                if now[one] != "ALLOW":
                    denied_still.append((str(access), now[one]))
            else:
                assert (now[one] == "ALLOW") == (was[one] == "ALLOW"), (access, was[one], now[one])
    assert denied_still == []
    assert sum(was[one] != "ALLOW" for one in every) > 50


def test_a_boolean_opens_what_the_preview_told_and_nothing_else(done: Done) -> None:
    before, after = done.old, done.new
    names = {encode(fix.detail)["boolean"] for fix in done.chosen.values() if fix.kind == "boolean"}
    assert {name for name in after.booleans if after.booleans[name] != before.booleans[name]} == names
    told = {one["name"]: set(one["opens"]) for one in done.shown["booleans"]}
    assert set(told) == names and all(told.values())
    for name in names:
        rules = under_boolean(done.before, name)
        asked = [(context(s, "system_r"), context(t, "system_r" if c in ("process", "capability") else "object_r"), c, p)
                 for s, t, c, p in rules]  # fmt: skip
        was = audit2why(done.before, asked)
        assert told[name] == {
            str(Access.of(*row)) for row, one in zip(rules, asked) if was[one] in ("BOOLEAN", "TERULE", "DONTAUDIT")
        }
        now = audit2why(done.after, asked)
        assert all(now[one] == "ALLOW" for row, one in zip(rules, asked) if str(Access.of(*row)) in told[name])


def test_a_new_label_answers_and_the_old_one_gives_nothing(done: Done) -> None:
    before, after = done.old, done.new
    labels = open_labels(done.session.settings, after)
    checked = 0
    for item in done.items:
        fix = done.chosen.get(item.candidate.id)
        if fix is None or fix.kind not in ("relabel", "own-type"):
            continue
        moved: dict[Access, Evidence] = {}
        for access, seen in item.candidate.evidence.items():
            if access.permission not in encode(fix.detail).get("allow", ()):
                assert after.allowed(access).allowed == before.allowed(access).allowed, access
            for name in new_types(fix, item, labels):
                moved[Access.of(access.source, name, access.tclass, access.permission)] = replace(seen, contexts=())
        checked += bool(moved)
        left = {access: seen for access, seen in moved.items() if not after.allowed(access).allowed}
        for again in judge(done.session, left, after):
            assert again.fix.kind not in ("relabel", "own-type"), (item.candidate.accesses, again.fix)
    assert checked > 2 or not any(fix.kind in ("relabel", "own-type") for fix in done.chosen.values())


def new_types(fix: Fix, item: Assessed, labels: Any) -> set[str]:
    """The types that what was denied has after the fix, as file_contexts and the transitions of the store say."""
    tclass = item.candidate.tclass
    found = {one["type"] for one in encode(fix.detail).get("transitions", ()) if one["class"] == tclass}
    wanted = {one["type"] for one in encode(fix.detail).get("contexts", ())}
    for path in encode(fix.detail).get("paths", ()):
        name = labels.lookup(path, tclass)
        assert name is not None and name != item.candidate.target, (path, name)
        assert not wanted or name in wanted, (path, name, wanted)
        found.add(name)
    return found


def test_a_port_has_its_new_owner_and_the_old_type_gives_nothing(done: Done) -> None:
    before, after = done.old, done.new
    labels = open_labels(done.session.settings, after)
    chosen = [(item, done.chosen[item.candidate.id].detail) for item in done.items if item.candidate.id in done.chosen]
    ports = [(item, port) for item, detail in chosen if isinstance(detail, LabelledPorts) for port in detail.ports]
    for item, port in ports:
        assert labels.ports.owner(port.protocol, port.number) == port.type
        for access in item.candidate.accesses:
            assert after.allowed(access).allowed == before.allowed(access).allowed, access
            again = Access.of(access.source, port.type, access.tclass, access.permission)
            seen = replace(item.candidate.evidence[access], contexts=())
            for question in judge(done.session, {again: seen}, after):
                assert after.allowed(again).allowed or question.fix.kind != "port", question.fix


def test_rollback_takes_all_of_it_back(done: Done) -> None:
    rollback(done.session.settings, "jupyterhub", by="proof")
    assert done.kern.read_bytes() == done.before.read_bytes()
    contexts = done.session.settings.root / "etc/selinux/default/contexts/files/file_contexts"
    for fix in done.chosen.values():
        for one in encode(fix.detail).get("contexts", ()):
            assert f"{one['pattern']}\t" not in contexts.read_text() or one["type"].startswith("jupyterhub")
