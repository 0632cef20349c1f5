"""Run scenarios on the real machine: `python -m tests.vm [--policy DIR] [NAME ...]`. Print a table at the end.

Exit codes:
0 all passed, 1 a scenario failed, 4 this machine or the policy cannot be used, 5 a guest was lost twice.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from tests.vm import base_policy, image, machine, twin
from tests.vm.bench import AUDIT_LOG, Context, Figures, Scenario, checkout, install
from tests.vm.errors import BenchError, CannotRun, Failed, Lost
from tests.vm.scenarios import ALL
from tests.vm.scenarios.steps import initialise

# Much of a scenario is one busy process, or waiting: nine scenarios took 43 minutes on two cores with two guests of one
# processor each, and about 70 one after the other with two. Two of two processors gain nothing: more wait than there are cores.
JOBS = 2
# Ready states are made once for all scenarios of a policy.
making_states = {policy: threading.Lock() for policy in ("slim", "full")}
COLUMNS = ("scenario", "result", "minutes", "denials seen", "questions", "rounds", "rules loaded", "new denials enforcing")


@dataclass(frozen=True)
class Bench:
    """What all scenarios of a run share."""

    accel: machine.Accelerator
    logs: Path
    """each scenario has a directory below it"""
    tree: bytes
    """this checkout as it was when the run began"""
    base: Optional[image.BasePolicy] = None
    """the base policy that every scenario runs on instead of the distribution's"""

    def image(self, scenario: Scenario) -> image.Image:
        """The image that a scenario runs on, built where it is missing. Another base policy is put onto the whole one."""
        return replace(image.ensure("full" if self.base else scenario.policy), base=self.base)


@dataclass
class Outcome:
    scenario: Scenario
    result: str
    minutes: float
    figures: Figures
    why: str = ""
    again: bool = False

    def row(self) -> tuple[str, ...]:
        f = self.figures
        counts = (f.denials, f.questions, f.rounds, f.rules, f.new_denials)
        result = self.result + (" (second start)" if self.again else "")
        return (self.scenario.name, result, f"{self.minutes:.1f}", *("-" if count is None else str(count) for count in counts))


def keep_logs(context: Context) -> None:
    """The guest's audit log and journal, however the scenario ended."""
    try:
        context.run(f"cat $(ls -tr {AUDIT_LOG}.* 2>/dev/null) {AUDIT_LOG} > /root/audit.all", check=False)
        context.run("journalctl -b --no-pager > /root/journal", check=False)
        for name, path in (("audit.log", "/root/audit.all"), ("journal.log", "/root/journal")):
            (context.logs / name).write_bytes(context.machine.get(path))
    except (BenchError, OSError) as error:
        context.say(f"the guest's logs could not be fetched: {error}")


def ready_state(scenario: Scenario, bench: Bench) -> Path:
    """The guest as the scenario wants it: booted, this checkout installed, initialised; each step done once for all."""
    with making_states["full" if bench.base else scenario.policy]:
        return _ready_state(scenario, bench)


def _ready_state(scenario: Scenario, bench: Bench) -> Path:
    disk, accel, logs = bench.image(scenario), bench.accel, bench.logs / scenario.name
    state = machine.saved(replace(disk, base=None), logs / "booting", accel, "booted", lambda guest: None, None)
    digest = hashlib.sha256(bench.tree).hexdigest()[:12]

    def changing(guest: machine.Machine) -> None:
        assert bench.base is not None
        base_policy.change_over(guest, bench.base, logs)

    def installing(guest: machine.Machine) -> None:
        print(f"make install took {install(guest, bench.tree):.0f} s in the guest (once for all scenarios)", flush=True)

    def initialising(guest: machine.Machine) -> None:
        print(f"sepolicyd init took {initialise(Context(guest, logs)):.0f} s (once for all scenarios)", flush=True)

    if bench.base:
        state = machine.saved(disk, logs / "changing", accel, "changed", changing, state)
    if scenario.begins != "booted":
        state = machine.saved(disk, logs / "installing", accel, f"installed-{digest}", installing, state)
    if scenario.begins == "initialised":
        state = machine.saved(disk, logs / "initialising", accel, f"initialised-{digest}", initialising, state)
    return state


def play(scenario: Scenario, bench: Bench) -> Outcome:
    """One scenario on a fresh guest. :raises CannotRun:"""
    logs = bench.logs / scenario.name
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    began = time.monotonic()
    figures = Figures()
    result, why = "passed", ""
    try:
        state = ready_state(scenario, bench)
        with machine.running(bench.image(scenario), logs, bench.accel, state) as guest:
            context = Context(guest, logs, figures)
            try:
                scenario.play(context)
            finally:
                keep_logs(context)
    except Lost as error:
        result, why = "lost", str(error)
    except Failed as error:
        result, why = "failed", str(error)
    except (AssertionError, LookupError, TypeError, ValueError, OSError) as error:
        traceback.print_exc()
        result, why = "failed", f"the scenario itself broke: {error!r}"
    return Outcome(scenario, result, (time.monotonic() - began) / 60, figures, why)


def show(outcome: Outcome, logs: Path) -> None:
    print(f"{outcome.scenario.name}: {outcome.result} in {outcome.minutes:.1f} min; logs: {logs}", flush=True)
    if outcome.why:
        print(f"  {outcome.why}", flush=True)
    for note in outcome.figures.notes:
        print(f"  {note}")


def table(outcomes: list[Outcome]) -> str:
    rows = [COLUMNS, *(outcome.row() for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def processors(jobs: int) -> int:
    """Of each guest, when so many run at a time: together no more than this machine has, and no more than two."""
    return max(1, min(2, (os.cpu_count() or 1) // jobs))


def chosen(names: list[str]) -> list[Scenario]:
    known = {scenario.name: scenario for scenario in ALL}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CannotRun(f"there is no scenario {unknown[0]}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(ALL)


def play_until_told(scenario: Scenario, bench: Bench) -> Outcome:
    """A scenario, once more when its guest was lost; told when it is over."""
    print(f"{scenario.name}: {scenario.shows}", flush=True)
    outcome = play(scenario, bench)
    if outcome.result == "lost":
        show(outcome, bench.logs / scenario.name)
        print(f"{scenario.name}: the guest was lost, not the assertion: started once more", flush=True)
        outcome = play(scenario, bench)
        outcome.again = True
    show(outcome, bench.logs / scenario.name)
    return outcome


def run(names: list[str], jobs: int, policy: Optional[Path]) -> int:
    """Play these scenarios, on the base policy of a directory where one is named; the exit code.

    :raises CannotRun: this machine or the directory cannot be used
    """
    scenarios = chosen(names)
    image.check_machine()
    base = base_policy.load(policy) if policy else None
    logs = image.cache_directory() / "logs"
    began = time.monotonic()
    kind = "kvm" if machine.kvm_works(image.ensure(scenarios[0].policy), logs / "kvm") else "tcg"
    accel = machine.Accelerator(kind, processors(min(jobs, len(scenarios))))
    print(f"accelerator: {kind}; {jobs} guests at a time, {accel.processors} processors each", flush=True)
    # one checkout for all, whatever happens to the working tree meanwhile
    bench = Bench(accel, logs / base.label if base else logs, checkout(), base)
    with ThreadPoolExecutor(max_workers=jobs) as lanes:
        outcomes = list(lanes.map(lambda one: play_until_told(one, bench), scenarios))
    print("\n" + table(outcomes))
    print(f"{len(outcomes)} scenarios in {(time.monotonic() - began) / 60:.1f} minutes{f' on {base.name}' if base else ''}")
    show_comparisons(outcomes, bench.logs)
    results = {outcome.result for outcome in outcomes}
    return 1 if "failed" in results else 5 if "lost" in results else 0


def show_comparisons(outcomes: list[Outcome], logs: Path) -> None:
    """Print the figures of the procedure by hand beside those of the scenarios that can be compared with it."""
    by_hand = twin.kept(logs / "hand")
    if by_hand and any(outcome.scenario.name == "domain" for outcome in outcomes):
        print(f"audit2allow by hand (scenario hand): {by_hand.rounds} rounds, {by_hand.rules} rules")
    if {outcome.scenario.name for outcome in outcomes} & set(twin.NAMES):
        print("\n" + (twin.comparison(logs) or "paper and its twin hand are compared when both have been run"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test-vm", description="Scenarios on a real SELinux machine (QEMU).")
    parser.add_argument("scenario", nargs="*", help="names; all without")
    parser.add_argument("--policy", type=Path, metavar="DIR", help="a base policy: etc/selinux, var/lib/selinux, ...")
    parser.add_argument("--jobs", type=int, default=JOBS, help="guests at a time (%(default)s)")
    try:
        given = parser.parse_args()
        return run(given.scenario, max(1, given.jobs), given.policy.absolute() if given.policy else None)
    except CannotRun as error:
        print(f"test-vm: cannot run: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
