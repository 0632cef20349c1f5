"""Detect bursts: one process that tried several refused accesses within a short time, which looks like an attack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sepolicyd.access import Access
from sepolicyd.rules.evidence import Evidence

MIN_TARGETS = 3
WINDOW_SECONDS = 120.0
# One attempt is enough: no service has a reason to try
ALARMS = frozenset({"setenforce", "load_policy", "setsecparam"})


@dataclass(frozen=True)
class Burst:
    """One process, the refused things that it tried (class and target type), and the roles whose questions wait for a look.

    The freeze needs no state of its own: it lasts as long as the refused accesses are undecided, and ends when a person
    has looked at them and answered (``deny``).
    """

    pid: int
    comms: tuple[str, ...]
    roles: tuple[str, ...]
    targets: tuple[str, ...]
    first: float
    last: float

    def __str__(self) -> str:
        shown = ", ".join(self.targets[:6])
        if len(self.targets) == 1:
            return f"process {self.pid} tried {shown}, which no service has a reason to"
        seconds = max(self.last - self.first, 0.0)
        return f"process {self.pid} tried {len(self.targets)} refused things within {seconds:.0f} s: {shown}"


def bursts(refused: Mapping[Access, Evidence]) -> list[Burst]:
    """Processes denied MIN_TARGETS different refused targets within WINDOW_SECONDS, or that tried to switch SELinux off.

    :param refused: the accesses that the guard refuses, for what they open (not for whose rule it would be)
    """
    by_pid: dict[int, list[tuple[float, str, Evidence]]] = {}
    alarmed: set[int] = set()
    for access, seen in refused.items():
        if access.tclass == "security" and access.permission in ALARMS:
            alarmed.update(seen.pids)
        for pid in seen.pids:
            by_pid.setdefault(pid, []).append((seen.first, f"{access.target_type}:{access.tclass}", seen))
    found = []
    for pid, tried in sorted(by_pid.items()):
        best = _densest(sorted(tried, key=lambda item: item[:2]))
        if pid in alarmed:
            best = sorted(tried, key=lambda item: item[:2])
        if pid in alarmed or len({name for _, name, _ in best}) >= MIN_TARGETS:
            found.append(
                Burst(
                    pid,
                    _all(seen.comms for _, _, seen in best),
                    _all(seen.roles for _, _, seen in best),
                    tuple(sorted({name for _, name, _ in best})),
                    best[0][0],
                    best[-1][0],
                )
            )
    return found


def _densest(tried: list[tuple[float, str, Evidence]]) -> list[tuple[float, str, Evidence]]:
    """The stretch of WINDOW_SECONDS with the most different targets."""
    inside: Counter[str] = Counter()
    best, start = (0, 0, 0), 0
    for end, (time, name, _) in enumerate(tried):
        inside[name] += 1
        while time - tried[start][0] > WINDOW_SECONDS:
            left = tried[start][1]
            inside[left] -= 1
            if not inside[left]:
                del inside[left]
            start += 1
        if len(inside) > best[0]:
            best = (len(inside), start, end + 1)
    return tried[best[1] : best[2]]


def _all(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({value for part in parts for value in part}))
