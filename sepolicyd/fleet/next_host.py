"""Estimate how many accesses the next host will bring that no host has shown so far.

Hosts are samples of incidence data. The expected number is Chao2's extrapolation by one sample (R. K. Colwell et al., Journal
of Plant Ecology 5 (2012) 3, equation 18). Its normal interval is too narrow here, because accesses come in groups: a host with
a feature of its own brings all accesses of that feature. The upper bound is therefore taken from the hosts themselves. If they
are exchangeable, the number that one host alone has shown exceeds the k-th smallest of n such numbers with a probability of at
most 1 - k/(n+1) (V. Vovk et al., Algorithmic Learning in a Random World, 2005), whatever the distribution.
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
    """No more than this, with ``confidence``."""
    confidence: float
    """CONFIDENCE, or less where there are too few hosts for it: n/(n+1) with n hosts."""
    unseen: Unseen
    """Chao2 over the hosts: all that further hosts would bring."""


def next_host(counts: Iterable[int], alone: Sequence[int]) -> Optional[NextHost]:
    """Estimate from "seen on k of n hosts".

    :param counts: for each access on how many hosts it was seen
    :param alone: for each of the n hosts how many accesses it alone has seen
    :return: None with fewer than MIN_HOSTS hosts, or nothing seen
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
        # no bound of 95 % exists without assumptions; Chao2's own upper bound widens it where it is larger
        upper, confidence = (
            max(ordered[-1], math.ceil(_expected(estimate, estimate.upper - estimate.seen))),
            hosts / (hosts + 1),
        )
    return NextHost(_expected(estimate, estimate.unseen), upper, confidence, estimate)


def _expected(estimate: Unseen, unseen: float) -> float:
    """Number of unseen accesses that one more sample shows, Colwell et al. (2012), with m* = 1."""
    if unseen <= 0 or not estimate.uniques:
        return 0.0
    share = estimate.uniques / (estimate.samples * unseen + estimate.uniques)
    return unseen * share


def alone_by_host(hosts: Sequence[str], claimed_by: Iterable[str]) -> list[int]:
    """For each host how many accesses it alone has seen.

    :param claimed_by: for each access of one host alone, that host
    """
    counts = Counter(claimed_by)
    return [counts[host] for host in hosts]
