"""Standing decisions in, a Plan out: the module that they make, linked in a copy, and the proof of what it would change.

Nothing of the machine is changed here. What a plan would gain is read from the linked policy, attributes expanded, and each
access must be covered by a decision; the guard judges that difference and not the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.errors import RefusedError
from sepolicyd.module.build import workdir
from sepolicyd.module.source import Rule, SourceText
from sepolicyd.module.store import Store
from sepolicyd.module.transaction import Before, BooleanValue, PortLabel
from sepolicyd.policy.boolean_effects import opened
from sepolicyd.policy.delta import Delta, difference
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.policy_files import find_policy
from sepolicyd.profiles import Profile
from sepolicyd.rollout.apply.desired import DesiredPolicy, desired_policy
from sepolicyd.rollout.apply.installed import (
    InstalledVersion,
    fresh_bases,
    standing,
    still_ours,
    target_booleans,
    target_ports,
)
from sepolicyd.rollout.apply.link import LinkBench, Linked, OnStep
from sepolicyd.rollout.apply.proof import Proof, prove
from sepolicyd.rollout.apply.versions import NONE, Version, Versions, labels_of, module_name, sha256
from sepolicyd.rules.guard.delta import Judge
from sepolicyd.rules.guard.override import parse_overrides
from sepolicyd.settings import Settings
from sepolicyd.state.decisions import Decision


@dataclass(frozen=True)
class Plan:
    """What `apply` would do, and everything known of it. It may be done where ``proof.refusals`` is ().

    ``delta`` is the decisions' own difference (base modules left out: theirs is ``base_delta``). ``left_out``: decided
    accesses that cannot be judged or written, with the reason; everything else goes on. ``opened``: boolean -> exactly the
    accesses that setting it switches on, for whatever domain.
    ``packages``: every module of the version by name, ``changed`` those that the store does not hold like this yet;
    ``before``: the local labels and values that the store has now; the two policies are sha256 of policy.kern.
    """

    profile: str
    module: str
    number: int
    previous: Version
    source: SourceText
    desired: DesiredPolicy
    packages: Mapping[str, bytes]
    changed: tuple[str, ...]
    delta: Delta
    base_delta: Optional[Delta]
    proof: Proof
    left_out: Mapping[Access, str]
    opened: Mapping[str, frozenset[Access]]
    before: Before
    store_policy: str
    linked_policy: str
    linked: PolicyIndex = field(repr=False, compare=False)

    @property
    def ports(self) -> tuple[PortLabel, ...]:
        """Ports whose local label would change; those of the previous version that nobody wants any more get theirs back."""
        return tuple(port for port in target_ports(self.previous, self.desired.ports) if port not in self.before.ports)

    @property
    def booleans(self) -> tuple[BooleanValue, ...]:
        return tuple(one for one in target_booleans(self.previous, self.desired.booleans) if one not in self.before.booleans)

    @property
    def empty(self) -> bool:
        """Whether the store holds all of this already."""
        return not (self.changed or self.ports or self.booleans)

    @property
    def new_rules(self) -> tuple[Rule, ...]:
        return tuple(sorted(set(self.source.rules) - set(self.previous.rules)))

    @property
    def dropped_rules(self) -> tuple[Rule, ...]:
        return tuple(sorted(set(self.previous.rules) - set(self.source.rules)))


def plan(
    settings: Settings,
    profile: Profile,
    decided: Mapping[Access, Decision],
    guard: Judge,
    *,
    base: Sequence[Path] = (),
    on_step: Optional[OnStep] = None,
) -> Plan:
    """
    :param base: packages (NAME.pp) of the profile that must be in the store; those that are there alike are passed over
    :param on_step: called with a word before each step that takes time
    :raises RefusedError: store locked or not writable, or a module of our name that is not ours
    :raises ToolError: a tool failed; nothing has been changed
    """
    store = Store(settings.root)
    store.check()
    store.wait_for_lock()
    if not store.aligned:
        raise RefusedError(f"{store.installed_policy()} is not the policy that the store made", "run: semodule -B")
    versions = Versions(settings.rollout_dir, module_name(profile.name))
    overrides, _ = parse_overrides(settings.overrides)
    with workdir("plan") as directory, ThreadPoolExecutor(max_workers=1) as pool:
        before = pool.submit(PolicyIndex.load, find_policy(settings))
        kept = standing(store, versions, settings.priority, directory / "kept")
        fresh = fresh_bases(store, kept, base, settings.priority, directory / "bases")
        bench = LinkBench(
            settings, store, versions, kept.version, desired_policy(decided), directory, on_step or (lambda _: None)
        )
        linked = bench.link(fresh, before)
        delta = difference(linked.start, linked.policy)
        base_delta = difference(before.result(), linked.start) if fresh else None
        switched = _opened(linked, bench.asked)

        def judge(drift: Optional[Delta]) -> Proof:
            every = frozenset().union(*switched.values())
            asked = (linked.source, bench.asked, decided, guard, profile, overrides, drift)
            return prove(delta, linked.policy, *asked, base=base_delta, opened=every)

        proof = judge(None)
        if proof.refusals and settings.live:
            proof = judge(difference(before.result(), PolicyIndex.load(store.policy())))
        ours = still_ours(store, kept.version, versions.name, settings.priority, directory / "bases")
        carried = {name: versions.package(kept.version.number, name) for name in ours}
        return Plan(
            profile=profile.name,
            module=versions.name,
            number=versions.next(),
            previous=kept.version,
            source=linked.source,
            desired=bench.asked,
            packages={**carried, **fresh, versions.name: linked.package},
            changed=tuple(sorted([*fresh, *([] if _same(kept, linked.source) else [versions.name])])),
            delta=delta,
            base_delta=base_delta,
            proof=proof,
            left_out=linked.left_out,
            opened=switched,
            before=bench.local,
            store_policy=bench.store_policy,
            linked_policy=sha256(bench.copy.policy().read_bytes()),
            linked=linked.policy,
        )


def _opened(linked: Linked, asked: DesiredPolicy) -> dict[str, frozenset[Access]]:
    """What each decided boolean opens in the linked policy, one after another from how they stand today."""
    policy = linked.policy
    today = {name: linked.start.booleans.get(name, state) for name, state in policy.booleans.items()}
    found = {}
    for one in asked.booleans:
        found[one.name] = opened(policy, {one.name: bool(one.on)}, today)
        today[one.name] = bool(one.on)
    return found


def _same(kept: InstalledVersion, source: SourceText) -> bool:
    """Whether the store's module says the same; the version's number stands in the text, so the text cannot tell."""
    if kept.version.number == NONE:
        return not (source.rules or source.fc or source.transitions)
    return set(kept.version.rules) == set(source.rules) and kept.version.labels == labels_of(source)
