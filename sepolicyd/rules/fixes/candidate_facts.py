"""Facts about one candidate, collected once for the steps that determine its fixes and its risk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Optional
from weakref import WeakKeyDictionary

from sepolicyd.access import Access
from sepolicyd.audit.model import ErrorOperation
from sepolicyd.policy.explain import Why
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.interfaces import Offer
from sepolicyd.policy.labels import FILE_CLASSES, Labels
from sepolicyd.policy.model import VerdictKind
from sepolicyd.profiles import OwnedPath, Port, Profile
from sepolicyd.rules.candidate import Candidate
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.fixes.fix import is_plain_path
from sepolicyd.rules.fixes.known_denials import KnownDenial
from sepolicyd.rules.guard.generic_profile import NOWHERE
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.rules.guard.rule import About, Finding

CONTAINERS = frozenset({"container_t", "svirt_lxc_net_t", "spc_t", "container_init_t"})
CONTAINER_ATTRIBUTES = frozenset({"container_domain", "svirt_sandbox_domain", "sandbox_type"})


@dataclass(frozen=True)
class Question:
    """Facts about one candidate.

    ``walked``: directories of this candidate that processes only passed through on the way to other denials.
    ``noise``: according to the guard, only libraries request the accesses, and work without them.
    """

    candidate: Candidate
    profile: Profile
    policy: Optional[PolicyIndex] = None
    labels: Optional[Labels] = None
    findings: tuple[Finding, ...] = ()
    known: tuple[KnownDenial, ...] = ()
    whys: Mapping[Access, Why] = field(default_factory=dict)
    walked: bool = False
    offers: tuple[Offer, ...] = ()
    noise: bool = False

    @cached_property
    def seen(self) -> Evidence:
        return self.candidate.merged

    @property
    def source(self) -> str:
        return self.candidate.source

    @property
    def target(self) -> str:
        """The target type; self is replaced by the source type."""
        return self.candidate.accesses[0].target_type

    @property
    def tclass(self) -> str:
        return self.candidate.tclass

    @cached_property
    def permissions(self) -> frozenset[str]:
        return frozenset(self.candidate.permissions)

    @property
    def accesses(self) -> tuple[Access, ...]:
        return self.candidate.accesses

    @property
    def is_file(self) -> bool:
        return self.tclass in FILE_CLASSES

    @property
    def is_error(self) -> bool:
        """Whether the candidate is an SELINUX_ERR record, with its operation in place of a permission."""
        return any(ErrorOperation.of(name) is not None for name in self.permissions)

    @property
    def is_unlabelled_mount(self) -> bool:
        """Whether the target is the label of a mount without labels of single files (NFS, CIFS, FUSE)."""
        return self.is_file and self.is_about(About.NO_LABELS)

    def is_own(self, type_name: str) -> bool:
        """Tell whether the service's base module defines a type."""
        return type_name in self.profile.own_types

    def is_declared(self, type_name: str) -> bool:
        """Tell whether a base module, loaded or not, declares a type; a generic profile has no such module."""
        return self.profile.directory != NOWHERE and self.is_own(type_name)

    def is_about(self, about: About) -> bool:
        """Tell whether there is a finding with this topic."""
        return any(finding.about is about for finding in self.findings)

    @property
    def refused(self) -> bool:
        return any(finding.level is GuardLevel.REFUSE for finding in self.findings)

    @property
    def attacked(self) -> bool:
        """Whether it is refused because of its effect, so that a dontaudit rule would hide an attack."""
        return any(finding.level is GuardLevel.REFUSE and finding.attack for finding in self.findings)

    @cached_property
    def user_only(self) -> bool:
        """Whether only user code requested it (False if no role is known)."""
        return self.profile.is_user_code(self.seen.roles)

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Names that are missing from both the policy and the service's base module."""
        missing = {name for why in self.whys.values() if why.te.kind is VerdictKind.UNKNOWN for name in why.te.unknown}
        known = (name for name in missing if not self.is_declared(name.rpartition(" ")[2]))
        return tuple(sorted(name for name in known if not (self.is_error and name.startswith("permission "))))

    @cached_property
    def obstacles(self) -> tuple[str, ...]:
        """Obstacles that would still deny the access with the rule (constraints, roles, bounds), one sentence each."""
        found: dict[str, list[str]] = {}
        for access in sorted(self.whys):
            why = self.whys[access]
            if why.hindered:
                found.setdefault(why.sentence, []).append(access.permission)
        helped = [access.permission for access, why in sorted(self.whys.items()) if not why.hindered]
        if not helped:
            return tuple(found)
        return tuple(
            f"it is effective for {' '.join(helped)}, but not for {' '.join(names)}: {text}" for text, names in found.items()
        )

    def hindered(self, access: Access) -> bool:
        """Tell whether an access stays denied after a rule allows it."""
        why = self.whys.get(access)
        return why is not None and why.hindered

    @cached_property
    def silenced(self) -> bool:
        """Whether dontaudit rules with this domain (not an attribute) as source cover all missing accesses."""
        missing = [access for access, why in self.whys.items() if not why.allowed]
        return bool(missing) and all(self._hidden(access) for access in missing)

    def _hidden(self, access: Access) -> bool:
        policy = self.policy
        if policy is None or not self.whys[access].te.dontaudited:
            return False
        source, target = policy.resolve(access.source), policy.resolve(access.target_type)
        return any(
            access.permission in policy.rule("dontaudit", source, name, access.tclass)
            for name in (target, *policy.attributes_of(target))
        )

    @property
    def mendable(self) -> bool:
        """Whether a rule would be effective for at least one of the denied accesses."""
        missing = [why for why in self.whys.values() if not why.allowed]
        return not missing or any(not why.hindered for why in missing)

    @property
    def allowed(self) -> bool:
        """Whether the policy now allows all accesses."""
        return bool(self.whys) and all(why.allowed for why in self.whys.values())

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Paths of the evidence that name a file of this host with a label of its own; a container has paths of its own."""
        return () if self.is_contained else tuple(path for path in self.seen.paths if is_plain_path(path))

    @property
    def is_contained(self) -> bool:
        """Whether the source is a process in a container, which sees another file system than the host."""
        if self.source.endswith(".process"):
            return True  # a domain that udica has made
        attributes = frozenset[str]() if self.policy is None else self.policy.attributes_of(self.source)
        return self.source in CONTAINERS or not CONTAINER_ATTRIBUTES.isdisjoint(attributes)

    @cached_property
    def owned(self) -> dict[str, OwnedPath]:
        """The paths inside trees of the service, each with the first matching entry of the profile."""
        found: dict[str, OwnedPath] = {}
        for path in self.paths:
            tree = next((owned for owned in self.profile.paths if owned.matches(path)), None)
            if tree is not None:
                found[path] = tree
        return found

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The requested ports: the local port of a bind, the remote port of a connect."""
        found: set[int] = set()
        for access, seen in self.candidate.evidence.items():
            keys = {"name_bind": ("src", "lport"), "name_connect": ("dest", "fport")}.get(access.permission, ())
            found.update(number for key, number in seen.ports if key in keys)
        return tuple(sorted(found))

    @property
    def protocol(self) -> str:
        return self.tclass[: -len("_socket")] if self.tclass.endswith("_socket") else self.tclass

    def own_port(self, number: int) -> Optional[Port]:
        return next((port for port in self.profile.ports if (port.protocol, port.number) == (self.protocol, number)), None)

    def holders(self, permission: str) -> tuple[str, ...]:
        """Return the confined domains with this access, () without a policy."""
        return () if self.policy is None else _holders(self.policy, self.tclass, permission, self.candidate.target)

    def is_common(self, share: float) -> bool:
        """Tell whether at least this share of the confined domains has every permission."""
        if self.policy is None:
            return False
        confined = len(self.policy.domains - self.policy.unconfined)
        return all(len(self.holders(permission)) >= share * confined for permission in self.permissions)


# cached as long as the policy object exists; an index takes 140 MB, and a strong reference would keep it alive
_HELD: WeakKeyDictionary[PolicyIndex, dict[tuple[str, str, str], tuple[str, ...]]] = WeakKeyDictionary()


def _holders(policy: PolicyIndex, tclass: str, permission: str, target: str) -> tuple[str, ...]:
    held = _HELD.setdefault(policy, {})
    key = (tclass, permission, target)
    if key not in held:
        held[key] = tuple(policy.holders(*key))
    return held[key]
