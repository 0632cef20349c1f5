"""What a base module denies knowingly and in silence: read off the linked policy at init, asked when a lease has made it loud.

While hidden denials are logged (``semodule -DB``) the loaded policy has no dontaudit rule left, so that `ps` in a notebook
would be thirty questions which the base module has answered. Only rules whose source is a domain of the profile count, as the
linked policy has them: what it still hides by an attribute of the source may be a need of this service.
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

VERSION = 1
Key = tuple[str, str, str]


@dataclass(frozen=True)
class BaseDontaudits:
    """``rules``: (domain, target type or attribute, class) to the permissions that are denied without a word."""

    rules: Mapping[Key, frozenset[str]] = field(default_factory=dict)

    def among(self, accesses: Iterable[Access], policy_index: PolicyIndex) -> frozenset[Access]:
        """Those of the accesses that the base module answers so."""
        return frozenset(access for access in accesses if self._holds(access, policy_index))

    def _holds(self, access: Access, policy_index: PolicyIndex) -> bool:
        target = access.target_type
        names = (target, *policy_index.attributes_of(target))
        return any(access.permission in self.rules.get((access.source, name, access.tclass), ()) for name in names)


def silent_of(policy_index: PolicyIndex, domains: Iterable[str]) -> BaseDontaudits:
    """The unconditional dontaudit rules of a policy whose source is one of these domains, and no attribute."""
    own = frozenset(domains)
    rules = {key: permissions for key, permissions in policy_index.raw.av["dontaudit"].items() if key[0] in own}
    return BaseDontaudits({key: frozenset(permissions) for key, permissions in rules.items()})


def path_of(settings: Settings, profile: str) -> Path:
    return settings.rollout_dir / f"silent-{profile}.json"


def write(settings: Settings, profile: str, silent: BaseDontaudits) -> None:
    """:raises StateError: it cannot be written"""
    path = path_of(settings, profile)
    rows = [[*key, sorted(permissions)] for key, permissions in sorted(silent.rules.items())]
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.write_text(json.dumps({"version": VERSION, "rules": rows}), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}", "free space there") from error


def read(settings: Settings, profile: str) -> BaseDontaudits:
    """What was written at init; nothing where init has not been done.

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
    """Harmless when it is not there."""
    path_of(settings, profile).unlink(missing_ok=True)
