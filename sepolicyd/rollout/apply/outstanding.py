"""Comparison of the decisions in force with an installed version: the changes that `apply` would make.

`status`, `preview` and `apply` all use this comparison, so that they always agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.module.source import Rule, SourceText, render
from sepolicyd.module.transaction import Before, BooleanValue, PortLabel
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.apply.changes_besides_modules import paths_of, recorded, target_booleans, target_ports
from sepolicyd.rollout.apply.desired_policy import DesiredPolicy, desired_policy
from sepolicyd.rollout.apply.versions import NO_LABELS, Version, Versions, labels_of
from sepolicyd.state.decisions import Decision


@dataclass(frozen=True)
class Outstanding:
    """Changes that the decisions ask for and a version lacks, and content of the version beyond the decisions."""

    added: tuple[Rule, ...] = ()
    dropped: tuple[Rule, ...] = ()
    labels: bool = False
    """File contexts or type transitions differ."""
    ports: tuple[PortLabel, ...] = ()
    booleans: tuple[BooleanValue, ...] = ()
    paths: tuple[str, ...] = ()
    """Paths to relabel that no version has relabelled."""

    @property
    def module(self) -> bool:
        """Whether the module itself changes."""
        return bool(self.added or self.dropped or self.labels)

    @property
    def count(self) -> int:
        """Number of changes; 0 means that `apply` has nothing to do."""
        parts = (self.added, self.dropped, self.ports, self.booleans, self.paths)
        return sum(map(len, parts)) + self.labels


@dataclass(frozen=True)
class Composed:
    """The module for the decisions under one policy."""

    source: SourceText
    left_out: Mapping[Access, str]
    """Decided accesses that were left out of the module, each with the reason."""


def compose(name: str, number: int, desired: DesiredPolicy, policy: Optional[PolicyIndex]) -> Composed:
    """Write the module's source. Accesses with unknown names are left out, because semodule would refuse the whole module.

    :param policy: the policy to check names against, None if no policy can be read
    :raises RefusedError: a file context or transition cannot be written in a module
    """
    unknown = [] if policy is None else [(rule.access, unknown_names(rule.access, policy)) for rule in desired.rules]
    left_out = {access: reason for access, reason in unknown if reason}
    rules = [rule for rule in desired.rules if rule.access not in left_out]
    source = render(name, number, rules, desired.contexts, desired.transitions, mls=policy is None or policy.mls)
    left_out.update({item.access: item.reason for item in source.refused})
    return Composed(source, left_out)


def outstanding(source: SourceText, desired: DesiredPolicy, version: Version, local: Before) -> Outstanding:
    """Compare the desired policy with an installed version.

    :param source: the result of :func:`compose` for ``desired``; its version number is ignored
    :param version: the installed version
    :param local: the local labels and values of all ports and booleans in either (:func:`changes.recorded` returns those
        in the records)
    """
    ports = target_ports(version.changes, desired.ports)
    booleans = target_booleans(version.changes, desired.booleans)
    return Outstanding(
        added=tuple(sorted(set(source.rules) - set(version.rules))),
        dropped=tuple(sorted(set(version.rules) - set(source.rules))),
        labels=(version.labels or NO_LABELS) != labels_of(source),
        ports=tuple(port for port in ports if port not in local.ports),
        booleans=tuple(value for value in booleans if value not in local.booleans),
        paths=tuple(path for path in desired.paths if path not in paths_of(version.changes)),
    )


def outstanding_by_records(
    versions: Versions, decided: Mapping[Access, Decision], policy: Optional[PolicyIndex]
) -> Outstanding:
    """Return the changes that `apply` would make, according to sepolicyd's records of the store's content.

    :raises RefusedError: a decision cannot be carried out
    :raises StateError: the records are damaged
    """
    desired = desired_policy(decided)
    version = versions.load(versions.current())
    source = compose(versions.name, version.number + 1, desired, policy).source
    return outstanding(source, desired, version, recorded(version.changes))


def unknown_names(access: Access, policy: PolicyIndex) -> str:
    """Return the reason why a policy cannot contain a rule for an access, "" if it can."""
    missing = policy.missing_names(access)
    return f"the policy has no {' and no '.join(missing)}" if missing else ""
