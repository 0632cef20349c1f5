"""Measure fixes against those of policy maintainers and print a table.

usage: python -m tools.fixbench [options] FILE.jsonl
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sepolicyd.policy.interfaces import INCLUDE
from sepolicyd.policy.policy_files import find_policy
from sepolicyd.rules.guard.guard import load_guard
from sepolicyd.settings import Settings
from tests.paths import POLICIES, ROOT
from tools.fixbench import baselines, rows
from tools.fixbench.answers import Answer
from tools.fixbench.ours import Judge
from tools.fixbench.rows import OTHER, Row
from tools.fixbench.score import COLUMNS, Terms, score


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fixbench", description=__doc__)
    parser.add_argument("file", type=Path, help="fedora.jsonl, refpolicy.jsonl or one in their format")
    parser.add_argument("--root", type=Path, default=Path("/"), help="root with etc/selinux and usr/share/selinux/devel")
    parser.add_argument("--policy", type=Path, help="kernel policy (default: the root's)")
    parser.add_argument("--headers", type=Path, help="directory with the .if files (default: the root's)")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="about N rows instead of all")
    parser.add_argument("--half", type=int, choices=(0, 1), help="one half of the rows: 0 for tuning, 1 held out")
    parser.add_argument("--no-baselines", action="store_true", help="sepolicyd alone")
    parser.add_argument("--misses", choices=("kind", "interface", "alarm"), help="list the rows that were missed")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "fixbench", help="for what is slow to make")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    options = arguments(argv)
    policy = options.policy or find_policy(Settings(root=options.root))
    include = options.headers or options.root / INCLUDE.relative_to("/")
    options.cache.mkdir(parents=True, exist_ok=True)
    chosen = [row for row in rows.load(options.file) if options.half is None or row.half == options.half]
    chosen = rows.sample(chosen, options.sample)
    judge = Judge(options.root, policy, include, options.cache, load_guard([POLICIES]))
    started = time.perf_counter()
    answers = {"sepolicyd": {row.id: judge.answer(row) for row in chosen}}
    print(f"{len(chosen)} rows, {time.perf_counter() - started:.1f} s", file=sys.stderr)
    if options.misses:
        show_misses(judge, chosen, answers["sepolicyd"], options.misses)
        return
    if not options.no_baselines:
        answers.update(baselines.run(judge, policy, include, chosen, options.cache))
    print(f"| {options.file.stem}, {policy.name} of {options.root} | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    terms = Terms(judge.refused, lambda one: not judge.index.missing_names(one), lambda name: name in judge.interfaces)
    for name, found in answers.items():
        judge.index.hide((), conditional=False)
        cells = score(chosen, found, terms).cells()
        print(f"| {name} | {' | '.join(cells)} |")


def show_misses(judge: Judge, chosen: Sequence[Row], answers: dict[str, Answer], what: str) -> None:
    """Return one line for each row that the column counts and that was missed."""
    for row in chosen:
        answer = answers[row.id]
        wanted = row.kinds & set(OTHER.values())
        if what == "kind" and row.single and wanted:
            place = 1 if answer.kinds(1) & wanted else 3 if answer.kinds(3) & wanted else 0
            said = " || ".join(" ".join(one.kind for one in question[:4]) for question in answer.questions)
            print(f"{row.id} {place or '-'} wanted {' '.join(sorted(wanted))}: {said}")
            print(*(f"      {access}" for access in sorted(row.accesses)[:4]), sep="\n")
        elif what == "interface" and row.single and any(name in judge.interfaces for name in row.interfaces):
            names = [[one.interface for one in question if one.interface][:4] for question in answer.questions]
            place = 1 if answer.interfaces(1) & set(row.interfaces) else 3 if answer.interfaces(3) & set(row.interfaces) else 0
            usable = [name for name in row.interfaces if judge.interface_opens(name, "init_t") is not None]
            print(f"{row.id} {place or '-'} wanted {row.interfaces} usable {len(usable)}: {names}")
            print(*(f"      {access}" for access in sorted(row.accesses)[:6]), sep="\n")
        elif what == "alarm" and row.gives and row.single and answer.flagged:
            print(row.id, *(f"      {access}" for access in sorted(answer.flagged)), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
