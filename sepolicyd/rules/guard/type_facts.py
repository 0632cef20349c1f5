"""Facts that an installed policy tells of types: who declares them, who uses them, and which paths they label."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Optional
from weakref import WeakKeyDictionary

from sepolicyd.access import SELF, Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.index_store import place_for
from sepolicyd.policy.rule_queries import permissions_between, rules_of_class, types_that_hold
from sepolicyd.policy.type_owners import BASE, module_directory, type_owners

COMMON_SHARE = 0.3
"""Share of the policy's services that hold an access which is called common."""
USUAL_SERVICES = 8
"""Number of unrelated services that hold an access which is called usual."""
BROAD_SERVICES = 15
ADMINISTRATORS = frozenset({"admindomain", "userdomain", "sysadm_usertype"})
NEARLY_ROOT = frozenset({"sys_admin", "sys_ptrace", "sys_module", "sys_rawio"})
"""Capabilities that become root."""
CHANGES = frozenset({"write", "append", "create", "add_name", "unlink", "rename", "setattr"})
TAKES = frozenset({"read", "execute", "connectto", "send_msg"})
NARROW_ATTRIBUTE = 40
"""An attribute of at most this many types is made for one purpose."""
DEFAULT_STATE = Path("/var/lib/sepolicyd")
GENERIC_STEMS = frozenset({"system", "user", "default", "unlabeled", "sys"})
"""First words of type names that name no service."""


class PolicyFacts:
    """What one policy tells of kinship and use. A service is a module of the store, or a first word of type names."""

    def __init__(self, policy: PolicyIndex, owners: Mapping[str, str], paths: Mapping[str, tuple[str, ...]]) -> None:
        self.policy = policy
        self._owners = owners
        self._paths = paths
        self._services: dict[str, str] = {}
        self._narrow_names: dict[str, frozenset[str]] = {}
        self._narrow_attributes: dict[str, bool] = {}
        self.matched_paths: dict[tuple[str, str], bool] = {}
        """Whether most paths of a type match some patterns; the key is the patterns and the type."""
        self._holding: dict[tuple[str, str, str], frozenset[str]] = {}

    def service_of(self, type_name: str) -> str:
        """The service that a type belongs to, "" where it is shared by all.

        The module that declares it. Debian links many services into the base module, and a policy file alone names no
        modules: there it is the domain whose name the type's name continues (sshd_key_t: sshd_t).
        """
        found = self._services.get(type_name)
        if found is None:
            name = self.policy.resolve(type_name)
            owner = self._owners.get(name, "")
            found = self._services[type_name] = owner if owner not in ("", BASE) else self._stem_of(name)
        return found

    def _stem_of(self, type_name: str) -> str:
        """The longest beginning of a type's name, in whole words, that is a domain's name."""
        words = _stem(type_name).split("_")
        for end in range(len(words), 0, -1):
            found = "_".join(words[:end])
            if found in self._stems and found not in GENERIC_STEMS:
                owner = self._owners.get(f"{found}_t", "")
                return found if owner in ("", BASE) else owner
        return ""

    @cached_property
    def _stems(self) -> frozenset[str]:
        return frozenset(map(_stem, self.policy.domains))

    def are_kin(self, source: str, target: str) -> bool:
        """Whether both types belong to the same service."""
        own_service = self.service_of(source)
        if own_service and own_service == self.service_of(target):
            return True
        return target.startswith(f"{_stem(source)}_") or source.startswith(f"{_stem(target)}_")

    def paths_of(self, type_name: str) -> tuple[str, ...]:
        """Patterns of file_contexts that give a path this type."""
        return self._paths.get(self.policy.resolve(type_name), ())

    def services_holding(self, access: Access) -> frozenset[str]:
        """The services, other than the access's own two, of which a confined domain holds the access already."""
        key = (access.tclass, access.permission, access.target)
        found = self._holding.get(key)
        if found is None:
            names = self._confined.intersection(self._granted(access))
            found = self._holding[key] = frozenset(self.service_of(name) or name for name in names)
        return found - {self.service_of(access.source) or access.source, self.service_of(access.target_type)}

    def _granted(self, access: Access) -> Collection[str]:
        """The types that a rule on the type itself, or on a narrow attribute of it, gives the access.

        What backup, package and login programs hold on all files of the machine says nothing of a single type.
        """
        if access.target == SELF:
            return self.policy.sources_of(access.tclass, access.permission, SELF)
        names = self._narrow(self.policy.resolve(access.target))
        return types_that_hold(self.policy, names, access.tclass, access.permission)

    def is_common(self, access: Access) -> bool:
        """Whether many services hold it."""
        return len(self.services_holding(access)) >= COMMON_SHARE * self._service_count

    def is_usual(self, access: Access) -> bool:
        """Whether several unrelated services hold it."""
        return len(self.services_holding(access)) >= USUAL_SERVICES

    def holds_alike(self, access: Access) -> bool:
        """Whether the source may read, write or call the same target already: one permission more of the same kind."""
        policy, tclass = self.policy, access.tclass
        if access.source not in policy.types or access.target_type not in policy.types or access.target == SELF:
            return False
        if policy.grants(access.source, access.target_type, tclass, access.permission):
            return False  # the rule itself says nothing of the need for it
        lefts = self._narrow(policy.resolve(access.source))
        rights = self._narrow(policy.resolve(access.target))
        alike = CHANGES if access.permission in CHANGES else CHANGES | TAKES
        return not permissions_between(policy, lefts, rights, tclass).isdisjoint(alike)

    def _narrow(self, type_name: str) -> frozenset[str]:
        """A type and those of its attributes that are made for one purpose."""
        found = self._narrow_names.get(type_name)
        if found is None:
            narrow = (name for name in self.policy.attributes_of(type_name) if self._is_narrow(name))
            found = self._narrow_names[type_name] = frozenset((type_name, *narrow))
        return found

    def _is_narrow(self, attribute: str) -> bool:
        found = self._narrow_attributes.get(attribute)
        if found is None:
            found = self._narrow_attributes[attribute] = len(self.policy.types_of(attribute)) <= NARROW_ATTRIBUTE
        return found

    def is_powerful(self, source: str) -> bool:
        """Whether a domain is nearly root, or an administrator's, already."""
        name = self.policy.resolve(source)
        if name in self.policy.unconfined or not self.policy.attributes_of(name).isdisjoint(ADMINISTRATORS):
            return True
        held = self.policy.pair(name, name, "capability").permissions
        return bool(held & NEARLY_ROOT)

    def is_broad(self, access: Access) -> bool:
        """Whether the source calls very many services in the same way already, as an administrator's domain does."""
        return self._breadth.get((access.source, access.tclass), 0) >= BROAD_SERVICES

    @cached_property
    def _breadth(self) -> Mapping[tuple[str, str], int]:
        reached: dict[tuple[str, str], set[str]] = {}
        for source, target, permissions in rules_of_class(self.policy, "dbus"):
            if "send_msg" in permissions and source in self.policy.types and target in self.policy.types:
                reached.setdefault((source, "dbus"), set()).add(self.service_of(target) or target)
        return {key: len(services) for key, services in reached.items()}

    @cached_property
    def _confined(self) -> frozenset[str]:
        return self.policy.domains - self.policy.unconfined

    @cached_property
    def _service_count(self) -> int:
        return max(len({self.service_of(name) or name for name in self._confined}), 1)


def _stem(type_name: str) -> str:
    return type_name[:-2] if type_name.endswith("_t") else type_name


# Kept with the policy and no longer than it
_FACTS: WeakKeyDictionary[PolicyIndex, PolicyFacts] = WeakKeyDictionary()


def facts_of_policy(policy: object) -> Optional[PolicyFacts]:
    """The facts of a policy, gathered once; None for an object that only knows attributes."""
    if not isinstance(policy, PolicyIndex):
        return None
    found = _FACTS.get(policy)
    if found is None:
        modules = module_directory(policy.path)
        owners = type_owners(modules, place_for(DEFAULT_STATE)) if modules is not None else {}
        contexts = policy.path.absolute().parent.parent / "contexts/files/file_contexts"
        found = _FACTS[policy] = PolicyFacts(policy, owners, _paths_by_type(contexts) if modules is not None else {})
    return found


def _paths_by_type(contexts: Path) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for suffix in ("", ".homedirs"):
        try:
            text = Path(f"{contexts}{suffix}").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            words = line.split()
            parts = words[-1].split(":") if len(words) > 1 and not words[0].startswith("#") else []
            if len(parts) > 2:
                found.setdefault(parts[2], []).append(words[0].replace("\\.", ".").replace("\\-", "-"))
    return {name: tuple(patterns) for name, patterns in found.items()}
