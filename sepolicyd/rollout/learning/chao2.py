"""Chao2 estimator of unseen species, applied to accesses and exercises."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

Z_95 = 1.959963984540054  # standard normal quantile of 0.975


@dataclass(frozen=True)
class Unseen:
    """Chao2 of one set of incidence counts. ``total`` and its 95 % interval count accesses, seen ones included."""

    seen: int
    samples: int
    uniques: int
    duplicates: int
    total: float
    error: float
    lower: float
    upper: float

    @property
    def unseen(self) -> float:
        return self.total - self.seen


def chao2(counts: Iterable[int], samples: int) -> Optional[Unseen]:
    """Estimate from "seen in k of t exercises".

    :param counts: for each access in how many exercises it was seen (zeros are left out)
    :param samples: t, the number of exercises
    :return: None with fewer than two exercises, or nothing seen: there is nothing to estimate from
    """
    # sorted, so that the same counts in another order give the same floating-point sums
    frequencies = Counter(sorted(count for count in counts if count > 0))
    seen = sum(frequencies.values())
    if samples < 2 or not seen:
        return None
    q1, q2 = frequencies[1], frequencies[2]
    factor = (samples - 1) / samples
    missing = factor * q1 * (q1 - 1) / (2 * (q2 + 1))
    if missing == 0:
        error, upper = _complete(frequencies, seen, samples)
        return Unseen(seen, samples, q1, q2, float(seen), error, float(seen), upper)
    variance = missing
    variance += factor**2 * q1 * (2 * q1 - 1) ** 2 / (4 * (q2 + 1) ** 2)
    variance += factor**2 * q1**2 * q2 * (q1 - 1) ** 2 / (4 * (q2 + 1) ** 4)
    spread = math.exp(Z_95 * math.sqrt(math.log1p(variance / missing**2)))
    return Unseen(
        seen, samples, q1, q2, seen + missing, math.sqrt(variance), seen + missing / spread, seen + missing * spread
    )  # fmt: skip


def _complete(frequencies: Mapping[int, int], seen: int, samples: int) -> tuple[float, float]:
    """Standard error and upper bound where nothing is estimated as unseen (SpadeR's SpecInciChao2bc, else branch)."""
    variance = sum(count * (math.exp(-k) - math.exp(-2 * k)) for k, count in frequencies.items())
    variance -= sum(k * math.exp(-k) * count for k, count in frequencies.items()) ** 2 / samples
    error = math.sqrt(max(0.0, variance))
    missed = sum(count * math.exp(-k) for k, count in frequencies.items()) / seen
    return error, (seen + Z_95 * error) / (1 - missed)
