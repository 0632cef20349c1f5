"""Estimate the number of new accesses that the next host will bring.

Hosts are samples of incidence data. The expected number is Chao2's extrapolation by one sample (R. K. Colwell et al., Journal
of Plant Ecology 5 (2012) 3, equation 18). Its normal interval is too narrow here, because accesses come in groups: a host with
a unique feature brings all accesses of that feature. The upper bound is therefore taken from the hosts themselves. If hosts
are exchangeable, the number of accesses unique to one host exceeds the k-th smallest of n such numbers with a probability
of at most 1 - k/(n+1), for any distribution (V. Vovk et al., Algorithmic Learning in a Random World, 2005).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from sepolicyd.rollout.learning.chao2 import Unseen, chao2

CONFIDENCE = 0.95
MIN_HOSTS = 3


@dataclass(frozen=True)
class NextHost:
    """New accesses that one more host of the same kind is expected to bring."""

    expected: float
    upper: int
    """Upper bound with ``confidence``."""
    confidence: float
    """CONFIDENCE, or n/(n+1) with too few hosts (n)."""
    unseen: Unseen
    """Chao2 estimate of all accesses that further hosts would bring."""


def next_host(counts: Iterable[int], alone: Sequence[int]) -> Optional[NextHost]:
    """Estimate the new accesses of the next host from the counts of the present hosts.

    :param counts: for each access, the number of hosts that report it
    :param alone: for each of the n hosts, the number of accesses that only this host reports
    :return: None with fewer than MIN_HOSTS hosts, or without accesses
    """
    hosts = len(alone)
    estimate = chao2(counts, hosts)
    if estimate is None or hosts < MIN_HOSTS:
        return None
    rank = math.ceil(CONFIDENCE * (hosts + 1))
    ordered = sorted(alone)
    if rank <= hosts:
        upper, confidence = ordered[rank - 1], CONFIDENCE
    else:
        # a 95 % bound needs assumptions; the upper bound of Chao2 is used if it is larger
        upper, confidence = (
            max(ordered[-1], math.ceil(_expected(estimate, estimate.upper - estimate.seen))),
            hosts / (hosts + 1),
        )
    return NextHost(_expected(estimate, estimate.unseen), upper, confidence, estimate)


def _expected(estimate: Unseen, unseen: float) -> float:
    """Return the number of unseen accesses that one more sample shows, Colwell et al. (2012), with m* = 1."""
    if unseen <= 0 or not estimate.uniques:
        return 0.0
    share = estimate.uniques / (estimate.samples * unseen + estimate.uniques)
    return unseen * share


def alone_by_host(hosts: Sequence[str], claimed_by: Iterable[str]) -> list[int]:
    """Return the number of accesses that only this host reports, for each host.

    :param claimed_by: the host of each access that only one host reports
    """
    counts = Counter(claimed_by)
    return [counts[host] for host in hosts]
