"""The module that the standing decisions make, before it is linked: source, package, and everything known without linking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.errors import RefusedError
from sepolicyd.module.build import build, workdir
from sepolicyd.module.source import SourceText
from sepolicyd.module.store import Store
from sepolicyd.module.transaction import Before, commit
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.policy_files import find_policy
from sepolicyd.profiles import Profile
from sepolicyd.rollout.apply.changes import target_booleans, target_ports
from sepolicyd.rollout.apply.desired_policy import DesiredPolicy, desired_policy
from sepolicyd.rollout.apply.installed_version import InstalledVersion, find_installed, fresh_bases, install, unchanged_bases
from sepolicyd.rollout.apply.outstanding import Outstanding, compose, outstanding
from sepolicyd.rollout.apply.versions import Version, Versions, module_name, sha256
from sepolicyd.rollout.session import load_policy
from sepolicyd.settings import Settings
from sepolicyd.state.decisions import Decision

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class Draft:
    """One change of the store, composed and compiled. It is valid while its :func:`drafted` block runs."""

    profile: Profile
    decided: Mapping[Access, Decision]
    module: str
    number: int
    """The version that it would become."""
    previous: Version
    """The installed version."""
    source: SourceText
    desired: DesiredPolicy
    outstanding: Outstanding
    packages: Mapping[str, bytes]
    """Every module of the version by name, base modules included."""
    fresh: tuple[str, ...]
    """Base modules that the store does not hold like this yet."""
    left_out: Mapping[Access, str]
    """Decided accesses that cannot be written, each with the reason."""
    before: Before
    """The store's local labels and values of every port and boolean that the change names."""
    store_policy: str
    """sha256 of the store's policy.kern."""
    present: PolicyIndex = field(repr=False, compare=False)
    """The policy today: the kernel's on the machine itself, else the store's."""
    start: PolicyIndex = field(repr=False, compare=False)
    """``present``, with the fresh base modules where there are any."""
    copy: Optional[Store] = field(repr=False, compare=False)
    """The copy of the store in which fresh base modules were linked."""

    @property
    def empty(self) -> bool:
        """Whether the store holds all of this already."""
        return not (self.fresh or self.outstanding.count)

    @property
    def changed(self) -> tuple[str, ...]:
        """The modules that the store does not hold like this yet."""
        return tuple(sorted([*self.fresh, *([self.module] if self.outstanding.module else [])]))


@contextmanager
def drafted(
    settings: Settings,
    profile: Profile,
    decided: Mapping[Access, Decision],
    *,
    base: Sequence[Path] = (),
    present: Optional[PolicyIndex] = None,
    on_step: Optional[OnStep] = None,
) -> Iterator[Draft]:
    """Compose and compile what the decisions ask for. The store is only read.

    :param base: packages (NAME.pp) of the profile that must be in the store
    :param present: the policy today, where the caller has read it already
    :param on_step: called with a word before each step that takes time
    :raises RefusedError: the store is locked or not writable, or a module of our name was not made by sepolicyd
    :raises ToolError: a tool failed
    """
    store = Store(settings.root)
    store.check()
    store.wait_for_lock()
    if not store.aligned:
        raise RefusedError(f"{store.installed_policy()} is not the policy that the store made", "run: semodule -B")
    with workdir("draft") as place:
        yield _Drafting(settings, profile, store, place, on_step or (lambda _: None)).draft(decided, base, present)


class _Drafting:
    """The work of one :func:`drafted` block."""

    def __init__(self, settings: Settings, profile: Profile, store: Store, place: Path, say: OnStep) -> None:
        self.settings, self.profile, self.store, self.place, self.say = settings, profile, store, place, say
        self.versions = Versions(settings.rollout_dir, module_name(profile.name))
        self.copy: Optional[Store] = None

    def draft(self, decided: Mapping[Access, Decision], base: Sequence[Path], present: Optional[PolicyIndex]) -> Draft:
        name, digest = self.versions.name, sha256(self.store.policy().read_bytes())
        with ThreadPoolExecutor(max_workers=1) as pool:  # the policy is read while semodule lists and extracts
            reading = pool.submit(lambda: present or load_policy(self.settings, find_policy(self.settings)))
            kept, fresh, packages = self._packages(base)
            today = reading.result()
        start = self._with_bases(fresh) if fresh else today
        desired, number = desired_policy(decided), self.versions.next()
        composed = compose(name, number, desired, start)
        local = self._local(kept.version, desired)
        todo = outstanding(composed.source, desired, kept.version, local)
        if fresh or todo.count:
            self.say("compile")
            packages[name] = build(composed.source, self.place, mls=start.mls).read_bytes()
        return Draft(
            profile=self.profile, decided=decided, module=name, number=number, previous=kept.version, source=composed.source,
            desired=desired, outstanding=todo, packages=packages, fresh=tuple(sorted(fresh)), left_out=composed.left_out,
            before=local, store_policy=digest, present=today, start=start, copy=self.copy,
        )  # fmt: skip

    def _packages(self, base: Sequence[Path]) -> tuple[InstalledVersion, dict[str, bytes], dict[str, bytes]]:
        """The installed version, the fresh base modules, and those together with the version's own unchanged ones."""
        place, priority = self.place / "bases", self.settings.priority
        kept = find_installed(self.store, self.versions, priority, self.place / "kept")
        fresh = fresh_bases(self.store, kept, base, priority, place)
        ours = unchanged_bases(self.store, kept.modules, kept.version, self.versions.name, priority, place)
        carried = {name: self.versions.package(kept.version.number, name) for name in ours}
        return kept, fresh, {**carried, **fresh}

    def _with_bases(self, fresh: Mapping[str, bytes]) -> PolicyIndex:
        self.say("link the base module in a copy of the store")
        self.copy = self.store.copy(self.place / "copy")
        install(self.copy, fresh, self.settings.priority, self.place)
        return PolicyIndex.load(self.copy.policy())

    def _local(self, version: Version, desired: DesiredPolicy) -> Before:
        """The store's present labels and values of what the version has changed and the decisions want."""
        store = self.store
        ports = target_ports(version.changes, desired.ports)
        booleans = target_booleans(version.changes, desired.booleans)
        if not ports and not booleans:
            return Before()
        return commit(store.root, store.kind, priority=self.settings.priority, ports=ports, booleans=booleans, dry=True)
