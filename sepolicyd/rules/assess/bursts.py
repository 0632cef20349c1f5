"""Detect bursts: several refused accesses by one process within a short time, which look like an attack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sepolicyd.access import Access
from sepolicyd.rules.evidence import Evidence

MIN_TARGETS = 3
WINDOW_SECONDS = 120.0
# A single attempt is enough for these: no service has a reason for it
ALARMS = frozenset({"setenforce", "load_policy", "setsecparam"})


@dataclass(frozen=True)
class Burst:
    """One process, the refused targets that it tried (class and type), and the roles whose candidates are on hold.

    No separate state is needed: candidates are on hold as long as the refused accesses are undecided.
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
            return f"process {self.pid} tried {shown}, for which no service has a reason"
        seconds = max(self.last - self.first, 0.0)
        return f"process {self.pid} tried {len(self.targets)} refused targets within {seconds:.0f} s: {shown}"


def bursts(refused: Mapping[Access, Evidence]) -> list[Burst]:
    """Return processes that tried MIN_TARGETS different refused targets within WINDOW_SECONDS, or to disable SELinux.

    :param refused: accesses that the guard refuses because of their effect (not because of the rule's domain)
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
    """Return the attempts in the interval of WINDOW_SECONDS with the most different targets."""
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
