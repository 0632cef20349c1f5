"""The Chao2 estimator of unseen species, applied to accesses and exercises."""

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
    """Estimate the number of unseen accesses from the exercises in which each access was seen.

    :param counts: the number of exercises in which each access was seen (zeros are ignored)
    :param samples: t, the number of exercises
    :return: None if fewer than two exercises were done or no access was seen
    """
    # sorted, so that floating-point sums do not depend on the order of the counts
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
    """Return standard error and upper bound if the estimate of unseen accesses is 0 (SpadeR, SpecInciChao2bc, else branch)."""
    variance = sum(count * (math.exp(-k) - math.exp(-2 * k)) for k, count in frequencies.items())
    variance -= sum(k * math.exp(-k) * count for k, count in frequencies.items()) ** 2 / samples
    error = math.sqrt(max(0.0, variance))
    missed = sum(count * math.exp(-k) for k, count in frequencies.items()) / seen
    return error, (seen + Z_95 * error) / (1 - missed)
