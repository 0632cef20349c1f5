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
    """Collect the unconditional dontaudit rules of a policy whose source is one of these domains (not an attribute)."""
    own = frozenset(domains)
    rules = policy_index.rules("dontaudit", own)
    return BaseDontaudits({key: permissions for key, permissions, condition in rules if condition is None})


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
