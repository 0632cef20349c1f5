"""Labels on files that systemd itself uses for a unit. A type to which systemd has no access would prevent the service's start.

systemd opens the file of StandardOutput=append:PATH in its own domain, before it starts the program (systemd.exec(5)). If that
is denied, the unit fails with 209/STDOUT. It also mounts over the paths of ReadOnlyPaths=, InaccessiblePaths= and similar
options; if that is denied, the unit fails with 226/NAMESPACE.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.problems import Problem, Severity
from sepolicyd.services.discovery import Label
from sepolicyd.services.unit_file import Unit
from sepolicyd.services.unit_labels import mount_points, output_files

SERVICE_MANAGER = "init_t"  # in both families of base policy
OPENS = {"append": ("open", "append"), "file": ("open", "write"), "truncate": ("open", "write")}


class OutputFile(NamedTuple):
    """One file of StandardOutput= or StandardError=; ``way`` is append, file or truncate."""

    setting: str
    way: str
    path: str


class MountPoint(NamedTuple):
    """One path of a sandbox setting of the unit, such as ReadOnlyPaths=."""

    setting: str
    path: str


class UsedBySystemd(NamedTuple):
    """Paths that systemd itself uses before it starts a unit's program."""

    outputs: tuple[OutputFile, ...] = ()
    mounts: tuple[MountPoint, ...] = ()


NOTHING = UsedBySystemd()


def of_unit(unit: Optional[Unit]) -> UsedBySystemd:
    """Return what systemd uses for a unit, nothing for a service without one."""
    if unit is None:
        return NOTHING
    outputs = tuple(OutputFile(*each) for each in output_files(unit))
    return UsedBySystemd(outputs, tuple(MountPoint(*each) for each in mount_points(unit)))


def refused(labels: Iterable[Label], used: UsedBySystemd, policy: PolicyIndex) -> dict[Label, Problem]:
    """Return the labels that would prevent the unit from starting, each with a warning that it is not applied.

    :param policy: the policy with the module that declares the types
    """
    labels = tuple(labels)
    found = {}
    for output in used.outputs:
        for label in labels:
            if output.path == label.path and not _may(policy, label, "file", OPENS[output.way]):
                what = (
                    f"{label.path} keeps its label: systemd ({SERVICE_MANAGER}) may not open {label.type} for {output.setting}"
                )
                hint = f"let the module allow it: append_files_pattern({SERVICE_MANAGER}, {label.type}, {label.type})"
                found[label] = Problem(Severity.WARN, "I-output", what, hint)
    for mount in used.mounts:
        holder = _holder(labels, mount.path)
        tclass = "dir" if holder is None or holder.tree else "file"
        if holder is not None and not _may(policy, holder, tclass, ("mounton",)):
            what = (
                f"{holder.path} keeps its label: systemd ({SERVICE_MANAGER}) may not mount over {holder.type}, as the unit's "
                f"{mount.setting}={mount.path} asks"
            )
            hint = f"let the module allow it: allow {SERVICE_MANAGER} {holder.type}:{tclass} mounton;"
            found[holder] = Problem(Severity.WARN, "I-sandbox", what, hint)
    return found


def _holder(labels: Sequence[Label], path: str) -> Optional[Label]:
    """Return the label that a path would get: of the labels that cover it the longest."""
    covering = [label for label in labels if label.path == path or (label.tree and path.startswith(f"{label.path}/"))]
    return max(covering, key=lambda label: len(label.path), default=None)


def _may(policy: PolicyIndex, label: Label, tclass: str, permissions: Sequence[str]) -> bool:
    """Tell whether the service manager is allowed these permissions on a label's type."""
    asked = [Access.of(SERVICE_MANAGER, label.type, tclass, permission) for permission in permissions]
    return all(policy.allowed(access).allowed for access in asked)
