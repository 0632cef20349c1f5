"""Compare the guard's levels with an expert's: python -m tools.levels TABLE POLICY [--fixes FILE]...

TABLE has the columns source, target, class, permission and expert. FILE holds maintainers' fixes, one JSON object per line
(see tools/fixbench): of what they granted outright, the share that is called review or refuse is printed.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sepolicyd import profiles
from sepolicyd.access import SELF, Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile
from sepolicyd.rules.guard.generic_profile import neutral_profile
from sepolicyd.rules.guard.guard import Guard, load_guard
from sepolicyd.rules.guard.level import GuardLevel, worst
from sepolicyd.rules.guard.type_facts import facts_of_policy

POLICIES = Path(__file__).resolve().parents[1] / "policies"


class Bench:
    """The guard over one policy, each source with its own profile."""

    def __init__(self, policy: PolicyIndex, guard: Guard, profile: Profile) -> None:
        self.policy, self.guard, self.profile = policy, guard, profile
        self._neutral: dict[str, Profile] = {}

    def profile_of(self, source: str) -> Profile:
        if source in self.profile.domains:
            return self.profile
        if source not in self._neutral:
            self._neutral[source] = neutral_profile(source, facts_of_policy(self.policy))
        return self._neutral[source]

    def knows(self, *names: str) -> bool:
        return all(self.policy.resolve(name) in self.policy.types or name in self.profile.domains for name in names)

    def level(self, source: str, target: str, tclass: str, permission: str) -> GuardLevel:
        profile = self.profile_of(source)
        access = Access.of(source, source if target == SELF else target, tclass, permission)
        level = worst(found.level for found in self.guard.judge_access(access, profile, self.policy))
        # a rule for user code is always approved with a reason
        return min(level, GuardLevel.REVIEW) if source in profile.user_domains else level


def table(bench: Bench, path: Path) -> Iterator[str]:
    """Yield one line for each source: how many are too low or too high, and refusals of the expert that were not even
    review."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            source, target = row["source"], row["target"]
            if not bench.knows(source, source if target == SELF else target):
                continue
            expert, level = GuardLevel(row["expert"]), bench.level(source, target, row["class"], row["permission"])
            count = counts[source]
            count["all"] += 1
            count["low"] += level > expert
            count["high"] += level < expert
            count["missed"] += expert is GuardLevel.REFUSE and level > GuardLevel.REVIEW
    for source, count in sorted(counts.items()):
        low, high = 100 * count["low"] / count["all"], 100 * count["high"] / count["all"]
        wrong = f"too low {low:.1f} %, too high {high:.1f} %, refusals missed {count['missed']}"
        yield f"{source}: {count['all']} accesses, {wrong}"


def alarms(bench: Bench, path: Path) -> str:
    """Return the share of what maintainers granted outright that is review or refuse."""
    levels: Counter[GuardLevel] = Counter()
    for text in path.read_text(encoding="utf-8").splitlines():
        case: dict[str, Any] = json.loads(text)
        granted = case["fix"] and all(item["kind"] in ("allow", "interface") for item in case["fix"])
        if not case["single"] or case["relabels"] or not granted:
            continue
        for source, target, tclass, permissions in case["accesses"]:
            if bench.knows(source, source if target == SELF else target):
                levels[worst(bench.level(source, target, tclass, permission) for permission in permissions)] += 1
    every = max(sum(levels.values()), 1)
    shares = ", ".join(f"{level} {100 * levels[level] / every:.1f} %" for level in GuardLevel)
    return f"{path.name}: {every} granted, {shares}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("policy", type=Path)
    parser.add_argument("--fixes", type=Path, action="append", default=[])
    given = parser.parse_args()
    bench = Bench(PolicyIndex.load(given.policy), load_guard([POLICIES]), profiles.load("jupyterhub", [POLICIES]))
    for line in table(bench, given.table):
        print(line)
    for fixes in given.fixes:
        print(alarms(bench, fixes))


if __name__ == "__main__":
    main()
