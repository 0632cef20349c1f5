"""Facts about types in an installed policy: the declaring module, the using domains, and the labelled paths."""

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
"""Share of the policy's services above which an access is called common."""
USUAL_SERVICES = 8
"""Number of unrelated services above which an access is called usual."""
BROAD_SERVICES = 15
ADMINISTRATORS = frozenset({"admindomain", "userdomain", "sysadm_usertype"})
NEARLY_ROOT = frozenset({"sys_admin", "sys_ptrace", "sys_module", "sys_rawio"})
"""Capabilities equivalent to root."""
CHANGES = frozenset({"write", "append", "create", "add_name", "unlink", "rename", "setattr"})
TAKES = frozenset({"read", "execute", "connectto", "send_msg"})
NARROW_ATTRIBUTE = 40
"""An attribute with at most this many types is considered as made for one purpose."""
DEFAULT_STATE = Path("/var/lib/sepolicyd")
GENERIC_STEMS = frozenset({"system", "user", "default", "unlabeled", "sys"})
"""First words of type names that do not name a service."""


class PolicyFacts:
    """Kinship and use of types in one policy. A service is a module of the store, or a first word of type names."""

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
        """Return the service of a type, "" if it is shared by all.

        The service is the module that declares the type. Since Debian links many services into the base module, and a policy
        file contains no module names, it is otherwise the domain whose name begins the type's name (sshd_key_t: sshd_t).
        """
        found = self._services.get(type_name)
        if found is None:
            name = self.policy.resolve(type_name)
            owner = self._owners.get(name, "")
            found = self._services[type_name] = owner if owner not in ("", BASE) else self._stem_of(name)
        return found

    def _stem_of(self, type_name: str) -> str:
        """Return the longest prefix of a type's name, in whole words, that is the name of a domain."""
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
        """Tell whether both types belong to the same service."""
        own_service = self.service_of(source)
        if own_service and own_service == self.service_of(target):
            return True
        return target.startswith(f"{_stem(source)}_") or source.startswith(f"{_stem(target)}_")

    def paths_of(self, type_name: str) -> tuple[str, ...]:
        """Return the patterns in file_contexts with this type."""
        return self._paths.get(self.policy.resolve(type_name), ())

    def services_holding(self, access: Access) -> frozenset[str]:
        """Return the services, other than the two of the access, with a confined domain that already has the access."""
        key = (access.tclass, access.permission, access.target)
        found = self._holding.get(key)
        if found is None:
            names = self._confined.intersection(self._granted(access))
            found = self._holding[key] = frozenset(self.service_of(name) or name for name in names)
        return found - {self.service_of(access.source) or access.source, self.service_of(access.target_type)}

    def _granted(self, access: Access) -> Collection[str]:
        """Return the types to which a rule on the target type itself, or on a narrow attribute of it, grants the access.

        Accesses of backup, package and login programs to all files are ignored, since they say nothing about a single type.
        """
        if access.target == SELF:
            return self.policy.sources_of(access.tclass, access.permission, SELF)
        names = self._narrow(self.policy.resolve(access.target))
        return types_that_hold(self.policy, names, access.tclass, access.permission)

    def is_common(self, access: Access) -> bool:
        """Tell whether many services have the access."""
        return len(self.services_holding(access)) >= COMMON_SHARE * self._service_count

    def is_usual(self, access: Access) -> bool:
        """Tell whether several unrelated services have the access."""
        return len(self.services_holding(access)) >= USUAL_SERVICES

    def holds_alike(self, access: Access) -> bool:
        """Tell whether the source can already read, write or call the target, which the access only extends."""
        policy, tclass = self.policy, access.tclass
        if access.source not in policy.types or access.target_type not in policy.types or access.target == SELF:
            return False
        if policy.grants(access.source, access.target_type, tclass, access.permission):
            return False  # the rule under review itself does not count
        lefts = self._narrow(policy.resolve(access.source))
        rights = self._narrow(policy.resolve(access.target))
        alike = CHANGES if access.permission in CHANGES else CHANGES | TAKES
        return not permissions_between(policy, lefts, rights, tclass).isdisjoint(alike)

    def _narrow(self, type_name: str) -> frozenset[str]:
        """Return a type and its single-purpose attributes."""
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
        """Tell whether a domain is already nearly root, or belongs to an administrator."""
        name = self.policy.resolve(source)
        if name in self.policy.unconfined or not self.policy.attributes_of(name).isdisjoint(ADMINISTRATORS):
            return True
        held = self.policy.pair(name, name, "capability").permissions
        return bool(held & NEARLY_ROOT)

    def is_broad(self, access: Access) -> bool:
        """Tell whether the source already calls very many services in the same way, like an administrator's domain."""
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


# cached as long as the policy object exists
_FACTS: WeakKeyDictionary[PolicyIndex, PolicyFacts] = WeakKeyDictionary()


def facts_of_policy(policy: object) -> Optional[PolicyFacts]:
    """Return the facts of a policy, computed once; None for an object that only has attributes."""
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
