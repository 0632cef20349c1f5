"""The estimate of unseen accesses, compared with three published results of SpadeR, and the reasons of `ready`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepolicyd.access import Access
from sepolicyd.rollout.learning.chao2 import chao2
from sepolicyd.rollout.learning.readiness import CurvePoint, curve, judge
from sepolicyd.rules.evidence import Evidence

# Row "Chao2-bc" of SpadeR::ChaoSpecies(datatype = "incidence_freq"), as people have published its output.
SPADER = [
    (16, {1: 9, 2: 4, 3: 1, 10: 1}, (21.750, 6.075, 16.492, 45.544)),
    (40, {1: 6, 5: 1, 7: 1, 8: 1, 9: 1}, (24.625, 13.681, 13.092, 79.180)),
    (16, {1: 13, 2: 4, 12: 1}, (32.625, 10.966, 21.950, 72.154)),
]


def counts(frequencies: Mapping[int, int]) -> list[int]:
    return [k for k, number in frequencies.items() for _ in range(number)]


@pytest.mark.parametrize(("samples", "frequencies", "expected"), SPADER)
def test_chao2_agrees_with_spader(
    samples: int, frequencies: dict[int, int], expected: tuple[float, float, float, float]
) -> None:
    found = chao2(counts(frequencies), samples)
    assert found is not None
    assert (found.total, found.error, found.lower, found.upper) == pytest.approx(expected, abs=0.0006)


def test_nothing_to_estimate_from() -> None:
    assert chao2([1, 1, 1], 1) is None
    assert chao2([], 5) is None
    assert chao2([0, 0], 5) is None


@given(st.integers(2, 12).flatmap(lambda t: st.tuples(st.just(t), st.lists(st.integers(1, t), min_size=1, max_size=300))))
def test_the_interval_holds_the_estimate(case: tuple[int, list[int]]) -> None:
    samples, seen = case
    found = chao2(seen, samples)
    assert found is not None
    assert len(seen) <= found.lower <= found.total <= found.upper
    again = chao2(list(reversed(seen)), samples)
    assert again == found


def test_more_accesses_seen_only_once_mean_more_unseen() -> None:
    few, many = chao2([1] * 4 + [3] * 40, 4), chao2([1] * 20 + [3] * 40, 4)
    assert few is not None
    assert many is not None
    assert few.unseen < many.unseen


def access(number: int) -> Access:
    return Access("hub_t", f"t{number}_t", "file", "read")


def seen_in(*names: str) -> Evidence:
    return Evidence(count=1, exercises=tuple(sorted(names)))


EVIDENCE = {access(1): seen_in("a", "b", "c"), access(2): seen_in("a", "c"), access(3): seen_in("b", "c")}


def test_the_curve_counts_what_no_exercise_before_had() -> None:
    assert curve(EVIDENCE, ["a", "b", "a", "c"]) == (CurvePoint("a", 2, 2), CurvePoint("b", 2, 1), CurvePoint("c", 3, 0))


def test_ready_only_with_reasons() -> None:
    good = judge(EVIDENCE, ["a", "b", "c"], ["a", "b", "c"])
    assert good.ready
    assert len(good.because) == 3
    assert not judge({}, [], []).ready


@pytest.mark.parametrize(
    ("done", "wanted", "options", "word"),
    [
        (["a", "b", "c"], ["a", "b", "c", "d"], {}, "not done yet: d"),
        (["a", "b"], ["a", "b"], {}, "too few"),
        (["a", "b", "c"], [], {"taints": ["T-LOST: events were lost"]}, "tainted: T-LOST"),
        (["a", "b", "c"], [], {"hidden": False}, "dontaudit"),
        (["a", "c", "b", "d"], [], {}, "revealed 1 new"),
    ],
)
def test_each_thing_that_speaks_against_it_is_said(
    done: list[str], wanted: list[str], options: dict[str, object], word: str
) -> None:
    evidence = {**EVIDENCE, access(4): seen_in("d")}
    found = judge(evidence, done, wanted, **options)  # type: ignore[arg-type]
    assert not found.ready
    assert any(word in text for text in found.but)


def test_many_seen_once_are_not_ready() -> None:
    evidence = {**EVIDENCE, **{access(number): seen_in("a") for number in range(10, 30)}}
    found = judge(evidence, ["a", "b", "c"], [])
    assert any("still unseen" in text for text in found.but)
