"""The daemon and `analyze` attribute the same lines to the same evidence."""

from __future__ import annotations

import gzip
import io
from collections import Counter

import pytest

from benchmarks.varied import lines
from sepolicyd.access import Access
from sepolicyd.audit.scan.scan_files import scan_files, scan_stream
from sepolicyd.daemon.intake import Intake
from sepolicyd.rules.attribution.gather_evidence import attribute
from sepolicyd.rules.attribution.matcher import Matcher
from sepolicyd.rules.evidence import merge_all, merged_roles
from tests.rules.lines import CAPTURED, PROFILE, captured, line, matched

LOGS = sorted(path.name[:2] for path in CAPTURED.glob("0*.log.gz"))


@pytest.mark.parametrize("log", LOGS)
def test_every_access_has_the_roles_and_counts_that_its_denials_have_one_by_one(log: str) -> None:
    expected: dict[Access, Counter[str]] = {}
    for denial, match in matched(captured(log)):
        if match is not None:
            for access in denial.accesses():
                expected.setdefault(access, Counter())[match.role] += 1
    found = attribute(scan_files([captured(log)]), Matcher(PROFILE))
    assert {access: set(seen.roles) for access, seen in found.evidence.items()} == {
        access: set(roles) for access, roles in expected.items()
    }
    assert {access: seen.count for access, seen in found.evidence.items()} == {
        access: sum(roles.values()) for access, roles in expected.items()
    }


@pytest.mark.parametrize("log", LOGS)
def test_the_daemon_and_analyze_say_the_same(log: str) -> None:
    text = gzip.decompress(captured(log).read_bytes())
    intake = Intake(Matcher(PROFILE))
    for piece in text.splitlines(keepends=True):
        intake.feed(piece)
    batch = intake.settle()
    found = attribute(scan_files([captured(log)]), Matcher(PROFILE))
    assert {access: (seen.count, seen.first, seen.last) for access, seen in merged_roles(batch.evidence).items()} == {
        access: (seen.count, seen.first, seen.last) for access, seen in found.evidence.items()
    }
    assert batch.ignored == found.foreign
    assert batch.counts["matched"] == found.matched


def test_a_flood_is_divided_among_the_roles_that_asked() -> None:
    """Beyond what is kept, counts go by name of process; the sum is exact and no role is lost."""
    log = [
        line(
            *("read", "jupyterhub_t", "etc_t", "file"), pid=100 + n, comm="jupyterhub" if n % 4 else "python3",
            name=f"n{n}", serial=n + 1, time=1795373100.0 + n,
        )
        for n in range(4000)
    ]  # fmt: skip
    found = attribute(scan_stream(io.BytesIO("\n".join(log).encode() + b"\n")), Matcher(PROFILE))
    access = Access("jupyterhub_t", "etc_t", "file", "read")
    counts = {role: seen.count for (_, role), seen in found.by_role.items()}
    assert sum(counts.values()) == found.evidence[access].count == found.matched == 4000
    assert counts.keys() == {"hub", "kernel"}
    assert 2900 < counts["hub"] < 3100


def test_everything_is_taken_without_a_matcher() -> None:
    result = scan_stream(io.BytesIO(b"".join(lines(1500, 1.0))))
    found = attribute(result, None)
    assert found.matched == result.denials
    assert found.foreign == {}
    per_access = sum(seen.count for seen in found.evidence.values())
    assert per_access == sum(one.count * len(one.denial.permissions) for one in result.sightings) + sum(
        tally.count for rest in result.remainders for tally in rest.tallies.values()
    )


def test_samples_are_the_first_the_last_and_one_between_in_any_grouping() -> None:
    texts = [line("read", "a_t", "b_t", "file", pid=n, name=f"n{n}", serial=n, time=1000000000.0 + n) for n in range(1, 40)]
    parts = [
        seen for text in texts for seen in attribute(scan_stream(io.BytesIO(text.encode() + b"\n")), None).evidence.values()
    ]
    whole = merge_all(parts)
    assert whole.samples[0] == texts[0]
    assert whole.samples[2] == texts[-1]
    assert merge_all([merge_all(parts[:7]), merge_all(parts[20:]), merge_all(parts[7:20])]) == whole
    assert merge_all([*parts, *parts]).samples == whole.samples
