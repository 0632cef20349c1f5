"""Measure loading, indexing, explaining and comparing policies against sesearch, audit2why and sediff."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, best, ratio, timed
from tests.paths import ROOT
from tests.policy.toys import newest_policy

POLICY = newest_policy()
QUESTIONS = 500
# Two types, one of them a domain and a daemon: by attributes alone some 44,000 accesses.
MODULE = """module bench 1.0;
require {
  attribute domain; attribute daemon; attribute file_type; type etc_t; type init_t; role system_r;
  class file { read open getattr }; class process transition;
}
type bench_t; type bench_exec_t;
role system_r types bench_t;
typeattribute bench_t domain, daemon; typeattribute bench_exec_t file_type;
allow bench_t etc_t:file { read open getattr };
allow init_t bench_t:process transition;
"""


def questions() -> list[tuple[str, str, str, str]]:
    """Return 500 accesses: those of the captured logs, then the same for other domains."""
    from tests.policy.questions import denials

    found = denials()
    for domain in ("chronyd_t", "named_t", "postfix_master_t", "cupsd_t"):
        for scontext, tcontext, tclass, permission in list(found):
            parts = scontext.split(":")
            found.append((":".join((*parts[:2], domain, *parts[3:])), tcontext, tclass, permission))
    return list(dict.fromkeys(found))[:QUESTIONS]


def load() -> dict[str, Any]:
    """Load and index, as one process does it."""
    from sepolicyd.policy.index import PolicyIndex

    start = time.process_time()
    policy_index = PolicyIndex.load(POLICY)
    policy_index.holders("file", "read", "shadow_t")  # with the second index, which risk needs
    return {"seconds": time.process_time() - start}


def judge() -> dict[str, Any]:
    """Explain 500 accesses: type enforcement, booleans, constraints, roles, bounds, and the other domains with each."""
    from sepolicyd.access import Access
    from sepolicyd.audit.model import Context
    from sepolicyd.policy.explain import explain
    from sepolicyd.policy.index import PolicyIndex

    policy_index = PolicyIndex.load(POLICY)
    asked = questions()
    start = time.process_time()
    helped = 0
    for scontext, tcontext, tclass, permission in asked:
        source, target = Context.parse(scontext), Context.parse(tcontext)
        if source and target:
            access = Access.of(source.type, target.type, tclass, permission)
            helped += explain(policy_index, access, source, target).would_help
            policy_index.holders(tclass, permission, access.target)
    return {"seconds": time.process_time() - start, "questions": len(asked), "would_help": helped}


def audit2why() -> float:
    """Return the seconds that audit2why takes for the same accesses, without its initialisation."""
    from tests.policy.questions import WORKER

    worker = WORKER.replace("print(json.dumps", "import time; start = time.process_time()\nanswers = (json.dumps")
    worker += "print(time.process_time() - start)\n"
    asked = json.dumps([[s, t, c, [p]] for s, t, c, p in questions()])
    done = subprocess.run(
        [sys.executable, "-c", worker, str(POLICY)], input=asked, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return float(done.stdout)


def difference(new: Path) -> dict[str, Any]:
    """Load both policies and compute all gained and lost accesses."""
    from sepolicyd.policy.delta import difference as exact

    delta = exact(POLICY, new)
    return {"gained": len(delta.gained), "lost": len(delta.lost)}


def linked(work: Path) -> Path:
    """Return the distribution's policy with MODULE linked, in a copy of its store."""
    from tests.policy.stores import link, package

    return link(work / "policy-store", package(work, "bench", MODULE))


def _ours(*words: str) -> dict[str, Any]:
    """Run this file in three processes and return the fastest result."""
    runs = [timed([sys.executable, "-m", "benchmarks.policy", *words], keep=True, cwd=ROOT) for _ in range(3)]
    found = [{**json.loads(run.stdout), "process": run.seconds, "rss": run.rss_mib} for run in runs]
    return min(found, key=lambda run: float(run.get("seconds", run["process"])))


def figures(work: Path) -> list[Figure]:
    """Measure the three figures, which takes about a minute and a half."""
    loaded, judged = _ours("load"), _ours("judge")
    query = best(["sesearch", "-A", "-t", "shadow_t", "-c", "file", "-p", "read", str(POLICY)])
    why = audit2why()
    new = linked(work)
    exact = _ours("difference", str(new))
    sediff = timed(["sediff", "--allow", str(POLICY), str(new)])
    return [
        Figure(
            "policy loaded and indexed",
            "PolicyIndex.load(policy.N), nothing kept",
            f"{loaded['seconds']:.2f} s, {loaded['rss']:.0f} MiB",
            "sesearch -A -t shadow_t -c file -p read",
            f"{query.seconds:.2f} s for one query",
            ratio(query.seconds, loaded["seconds"]),
            "under 2 s",
        ),
        Figure(
            f"{judged['questions']} denials explained, with rarity",
            "why.explain, PolicyIndex.holders",
            f"{judged['seconds']:.2f} s",
            "selinux.audit2why.analyze",
            f"{why:.2f} s",
            ratio(why, judged["seconds"]),
            "under 3 s",
        ),
        Figure(
            f"exact difference, {exact['gained']:,} accesses gained",
            "delta.difference(old, new), whole process",
            f"{exact['process']:.2f} s, {exact['rss']:.0f} MiB",
            "sediff --allow OLD NEW",
            f"{sediff.seconds:.1f} s, {sediff.rss_mib:.0f} MiB",
            ratio(sediff.seconds, exact["process"]),
            "at least 10x",
        ),
    ]


if __name__ == "__main__":
    part = {"load": load, "judge": judge}.get(sys.argv[1])
    print(json.dumps(part() if part else difference(Path(sys.argv[2]))))
