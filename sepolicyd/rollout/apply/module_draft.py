"""Draft of the module for the decisions in force: source, package, and everything that is known before linking."""

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
from sepolicyd.rollout.apply.changes_besides_modules import target_booleans, target_ports
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
    """One change of the store, composed and compiled. Valid inside its :func:`drafted` block."""

    profile: Profile
    decided: Mapping[Access, Decision]
    module: str
    number: int
    """The number of the new version."""
    previous: Version
    """The installed version."""
    source: SourceText
    desired: DesiredPolicy
    outstanding: Outstanding
    packages: Mapping[str, bytes]
    """All modules of the version by name, including base modules."""
    fresh: tuple[str, ...]
    """Base modules that are missing from the store or differ from its content."""
    left_out: Mapping[Access, str]
    """Decided accesses that cannot be written as a rule, each with the reason."""
    before: Before
    """The store's local labels and values of all ports and booleans in the change."""
    store_policy: str
    """sha256 of the store's policy.kern."""
    present: PolicyIndex = field(repr=False, compare=False)
    """The present policy: the kernel's on this machine, the store's otherwise."""
    start: PolicyIndex = field(repr=False, compare=False)
    """``present`` with the fresh base modules added, if there are any."""
    copy: Optional[Store] = field(repr=False, compare=False)
    """The copy of the store in which fresh base modules were linked."""

    @property
    def empty(self) -> bool:
        """Whether the store already holds everything."""
        return not (self.fresh or self.outstanding.count)

    @property
    def changed(self) -> tuple[str, ...]:
        """The modules that are missing from the store or differ from its content."""
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
    """Compose and compile the module for the decisions. The store is only read.

    :param base: packages (NAME.pp) of the profile that must be in the store
    :param present: the present policy, if the caller has already read it
    :param on_step: called with a description before each slow step
    :raises RefusedError: the store is locked or not writable, or a module of that name was not built by sepolicyd
    :raises ToolError: a tool failed
    """
    store = Store(settings.root)
    store.check()
    store.wait_for_lock()
    if not store.aligned:
        raise RefusedError(f"{store.installed_policy()} is not the policy that the store built", "run: semodule -B")
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
        with ThreadPoolExecutor(max_workers=1) as pool:  # read the policy while semodule lists and extracts modules
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
        """Return the installed version, the fresh base modules, and all base modules including the unchanged ones."""
        place, priority = self.place / "bases", self.settings.priority
        kept = find_installed(self.store, self.versions, priority, self.place / "kept")
        fresh = fresh_bases(self.store, kept, base, priority, place)
        own_bases = unchanged_bases(self.store, kept.modules, kept.version, self.versions.name, priority, place)
        carried = {name: self.versions.package(kept.version.number, name) for name in own_bases}
        return kept, fresh, {**carried, **fresh}

    def _with_bases(self, fresh: Mapping[str, bytes]) -> PolicyIndex:
        self.say("link the base module in a copy of the store")
        self.copy = self.store.copy(self.place / "copy")
        install(self.copy, fresh, self.settings.priority, self.place)
        return PolicyIndex.load(self.copy.policy())

    def _local(self, version: Version, desired: DesiredPolicy) -> Before:
        """Return the store's labels and values of all ports and booleans in the version or the decisions."""
        store = self.store
        ports = target_ports(version.changes, desired.ports)
        booleans = target_booleans(version.changes, desired.booleans)
        if not ports and not booleans:
            return Before()
        return commit(store.root, store.kind, priority=self.settings.priority, ports=ports, booleans=booleans, dry=True)
