"""Link and prove a draft: the accesses that the resulting policy gains, and whether it may be loaded.

Gained accesses are read from the linked policy with attributes expanded. Each must be covered by a decision. The guard checks
the difference itself, not the module's text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.module.build import workdir
from sepolicyd.module.store import Store
from sepolicyd.policy.boolean_effects import opened
from sepolicyd.policy.delta import Delta, difference
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile
from sepolicyd.rollout.apply.installed_version import install
from sepolicyd.rollout.apply.module_draft import Draft, OnStep, drafted
from sepolicyd.rollout.apply.proof import Proof, prove
from sepolicyd.rollout.apply.versions import sha256
from sepolicyd.rules.guard.override import parse_overrides
from sepolicyd.rules.guard.policy_delta import Judge
from sepolicyd.settings import Settings
from sepolicyd.state.decisions import Decision


@dataclass(frozen=True)
class Plan(Draft):
    """The change that `apply` would make, with its proof. It may be applied if ``proof.refusals`` is empty."""

    delta: Delta
    """The difference made by the module of decisions."""
    base_delta: Optional[Delta]
    """The difference made by fresh base modules, None without any."""
    proof: Proof
    opened: Mapping[str, frozenset[Access]]
    """All accesses, of any domain, that setting a boolean enables; by boolean."""
    linked_policy: str
    """sha256 of the linked policy.kern."""
    linked: PolicyIndex = field(repr=False, compare=False)


def plan(
    settings: Settings,
    profile: Profile,
    decided: Mapping[Access, Decision],
    guard: Judge,
    *,
    base: Sequence[Path] = (),
    on_step: Optional[OnStep] = None,
) -> Plan:
    """Link the module for the decisions in a copy of the store, and prove it. The machine is not changed.

    :raises RefusedError: the store is locked or not writable, or a module of that name was not built by sepolicyd
    :raises ToolError: a tool failed
    """
    with drafted(settings, profile, decided, base=base, on_step=on_step) as draft:
        return proved_in_copy(draft, settings, guard, on_step)


def proved_in_copy(draft: Draft, settings: Settings, guard: Judge, on_step: Optional[OnStep] = None) -> Plan:
    """Link a draft in a copy of the store, and prove it.

    :raises ToolError: a tool failed
    """
    say: OnStep = on_step or (lambda _: None)
    if draft.empty:  # the store already holds it
        return proved(draft, settings, guard, draft.start, draft.store_policy)
    with workdir("plan") as place:
        say("link in a copy of the store")
        copy = draft.copy or Store(settings.root).copy(place / "copy")
        todo = draft.outstanding
        own = {draft.module: draft.packages[draft.module]}
        install(copy, own, settings.priority, place, ports=todo.ports, booleans=todo.booleans)
        say("compare")
        return proved(draft, settings, guard, PolicyIndex.load(copy.policy()), sha256(copy.policy().read_bytes()))


def proved(draft: Draft, settings: Settings, guard: Judge, linked: PolicyIndex, linked_policy: str) -> Plan:
    """Prove the policy that results from a draft."""
    delta = difference(draft.start, linked)
    base_delta = difference(draft.present, draft.start) if draft.fresh else None
    switched = opened_by(draft, linked)
    overrides, _ = parse_overrides(settings.overrides)

    def judge(drift: Optional[Delta]) -> Proof:
        every = frozenset().union(*switched.values())
        asked = (draft.source, draft.desired, draft.decided, guard, draft.profile, overrides, drift)
        return prove(delta, linked, *asked, base=base_delta, opened=every)

    proof = judge(None)
    if proof.refusals and settings.live:  # the kernel's policy may differ from the store's for other reasons
        proof = judge(difference(draft.present, PolicyIndex.load(Store(settings.root).policy())))
    known = {one.name: getattr(draft, one.name) for one in fields(Draft)}
    return Plan(
        **known, delta=delta, base_delta=base_delta, proof=proof, opened=switched, linked_policy=linked_policy, linked=linked
    )


def opened_by(draft: Draft, linked: PolicyIndex) -> dict[str, frozenset[Access]]:
    """Return the accesses that each decided boolean enables in the linked policy, set one after another."""
    states = {name: draft.start.booleans.get(name, state) for name, state in linked.booleans.items()}
    found = {}
    for one in draft.desired.booleans:
        found[one.name] = opened(linked, {one.name: bool(one.on)}, states)
        states[one.name] = bool(one.on)
    return found
