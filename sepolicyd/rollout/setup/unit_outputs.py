"""Files that systemd opens for a unit: a label that systemd may not open would keep the service from starting.

systemd opens the file of StandardOutput=append:PATH in its own domain, before the service's program runs (systemd.exec(5)).
Where that is denied the unit fails with 209/STDOUT, and again at each restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.problems import Problem, Severity
from sepolicyd.services.discovery import Label

SERVICE_MANAGER = "init_t"  # in both families of base policy
OPENS = {"append": ("open", "append"), "file": ("open", "write"), "truncate": ("open", "write")}


class OutputFile(NamedTuple):
    """One file of StandardOutput= or StandardError=; ``way`` is append, file or truncate."""

    setting: str
    way: str
    path: str


def refused(labels: Iterable[Label], outputs: Sequence[OutputFile], policy: PolicyIndex) -> dict[Label, Problem]:
    """Return the labels that would keep the unit from starting, each with the warning that it is not given.

    :param policy: the policy that the module of the labels' types is part of
    """
    found = {}
    for label in labels:
        for output in outputs:
            if output.path != label.path:
                continue
            asked = [Access.of(SERVICE_MANAGER, label.type, "file", permission) for permission in OPENS[output.way]]
            if not all(policy.allowed(access).allowed for access in asked):
                what = (
                    f"{label.path} keeps its label: systemd ({SERVICE_MANAGER}) may not open {label.type} for {output.setting}"
                )
                hint = f"let the module allow it: append_files_pattern({SERVICE_MANAGER}, {label.type}, {label.type})"
                found[label] = Problem(Severity.WARN, "I-output", what, hint)
    return found
