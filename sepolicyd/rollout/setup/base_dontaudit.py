"""The base module's own dontaudit rules, recorded at `init`.

During a `--hidden` lease (``semodule -DB``) the loaded policy has no dontaudit rules. Denials covered by the base module's
dontaudit rules are then not offered as candidates (`ps` in a notebook alone would cause thirty). Only rules whose source is a
domain of the profile are recorded, because a rule on an attribute may hide denials that matter for this service.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sepolicyd.access import Access
from sepolicyd.errors import StateError
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.settings import Settings
from sepolicyd.storage.files import write_whole

VERSION = 1
Key = tuple[str, str, str]
# Asked by the kernel at each change of domain (selinux_bprm_committing_creds); where denied, the program starts without its
# parent's environment, limits and signals.
ASKED_AT_TRANSITION = frozenset({"noatsecure", "rlimitinh", "siginh"})


@dataclass(frozen=True)
class BaseDontaudits:
    """The recorded rules."""

    rules: Mapping[Key, frozenset[str]] = field(default_factory=dict)
    """(domain, target type or attribute, class) to permissions."""

    def among(self, accesses: Iterable[Access], policy_index: PolicyIndex) -> frozenset[Access]:
        """Return the accesses that a recorded rule covers."""
        return frozenset(access for access in accesses if self._holds(access, policy_index))

    def _holds(self, access: Access, policy_index: PolicyIndex) -> bool:
        target = access.target_type
        names = (target, *policy_index.attributes_of(target))
        return any(access.permission in self.rules.get((access.source, name, access.tclass), ()) for name in names)


def silent_of(policy_index: PolicyIndex, domains: Iterable[str]) -> BaseDontaudits:
    """Collect the unconditional dontaudit rules of a policy whose source is one of these domains.

    Of rules on an attribute only what each domain transition asks is taken: the reference policy's pattern for transitions has
    such a rule for the two domains, Fedora's policy has one for all of them.
    """
    own = frozenset(domains)
    found: dict[Key, frozenset[str]] = {}
    for key, permissions, condition in policy_index.rules("dontaudit", own):
        if condition is None:
            found[key] = found.get(key, frozenset()) | permissions
    for domain in sorted(own):
        for (_, target, tclass), permissions, condition in policy_index.rules("dontaudit", policy_index.attributes_of(domain)):
            asked = permissions & ASKED_AT_TRANSITION if tclass == "process" and condition is None else frozenset()
            if asked:
                key = (domain, target, tclass)
                found[key] = found.get(key, frozenset()) | asked
    return BaseDontaudits(found)


def path_of(settings: Settings, profile: str) -> Path:
    """Return the path of a profile's record."""
    return settings.rollout_dir / f"silent-{profile}.json"


def write(settings: Settings, profile: str, base: BaseDontaudits) -> None:
    """Record the rules of a profile's base module.

    :raises StateError: the record cannot be written
    """
    rows = [[*key, sorted(permissions)] for key, permissions in sorted(base.rules.items())]
    write_whole(path_of(settings, profile), json.dumps({"version": VERSION, "rules": rows}).encode())


def read(settings: Settings, profile: str) -> BaseDontaudits:
    """Return the recorded rules, or an empty record if `init` has not been run.

    :raises StateError: the file is damaged
    """
    path = path_of(settings, profile)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = data["rules"] if data["version"] == VERSION else []
        return BaseDontaudits({(source, target, tclass): frozenset(names) for source, target, tclass, names in rows})
    except FileNotFoundError:
        return BaseDontaudits()
    except PermissionError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}", "run this as root") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path} cannot be read: {error}", "remove it, and run init again") from error


def remove(settings: Settings, profile: str) -> None:
    """Remove the record; a missing record is not an error."""
    path_of(settings, profile).unlink(missing_ok=True)
