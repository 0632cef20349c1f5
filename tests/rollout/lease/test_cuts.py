"""Power failure after each change of the file system by a lease command and its semodule.

After each cut the machine is booted: the boot loads the policy file, then sepolicyd-boot.service runs before any service. Then
nothing of the lease may be left. The sample here has the changes around libsemanage's renames; `make cuts` has all of them, and
SEPOLICYD_CUTS=N has every N-th of them, and the renames, for all commands.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sepolicyd.module.store import Store, create_store
from tests.rollout.apply.world import make_store
from tests.rollout.lease.cuts.machine import CUT, CutMachine, build_tracer, can_trace, make_tools

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.skipif(not can_trace(), reason="needs root, mount namespaces, gcc, semodule, and no SELinux of its own"),
]

CHOSEN = os.environ.get("SEPOLICYD_CUTS", "")
EVERY = CHOSEN == "all"
STEP = int(CHOSEN) if CHOSEN.isdigit() else 0
SAMPLE = 3
SEEN_BY_A_BOOT = ("default/active", "default/previous", "etc/selinux/default/policy/policy.33")
COMMANDS = "tests.rollout.lease.cuts.commands"
ONE_SHOT = "tests.rollout.lease.without_kernel"


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> CutMachine:
    """A machine without a lease."""
    place = tmp_path_factory.mktemp("bare")
    make_store(place / "root")
    made = CutMachine(place, build_tracer(place), make_tools(place))
    made.power_on()
    return made


def prepared(bare: CutMachine, place: Path, command: str, *, hidden: bool) -> CutMachine:
    machine = bare.copy(place)
    if not command.startswith("start"):
        machine.open_lease(due=command == "deadline", hidden=hidden)
    return machine


def points(changes: list[str], sample: int) -> Iterator[tuple[int, bool]]:
    """(number of the change, torn) of the cuts to try: all, or the renames that a boot sees and a sample."""
    seen = [number for number, line in enumerate(changes, 1) if line.split(" ", 2)[2].endswith(SEEN_BY_A_BOOT)]
    wanted = set(seen) | (set(range(1, len(changes) + 1, STEP)) if STEP else set())
    if sample:
        wanted |= {number + 1 for number in seen} | set(range(1, len(changes) + 1, max(1, len(changes) // sample)))
    for number, line in enumerate(changes, 1):
        if EVERY or number in wanted:
            yield number, False
        if " write " in line and (EVERY or (STEP and number in wanted)):
            yield number, True


SCENARIOS = [
    *(("deadline", False), ("stop", False), ("enforce", False), ("start", False)),
    *([("deadline", True), ("stop", True), ("enforce", True), ("start hidden", True)] if EVERY or STEP else ()),
]


@pytest.mark.parametrize(("command", "hidden"), SCENARIOS, ids=[f"{name}{'-hidden' * hidden}" for name, hidden in SCENARIOS])
def test_after_each_cut_the_next_boot_enforces(
    bare: CutMachine, tmp_path: Path, command: str, hidden: bool, record_property: Callable[[str, object], None]
) -> None:
    template = prepared(bare, tmp_path / "template", command, hidden=hidden)
    whole = template.copy(tmp_path / "whole")
    code, said = whole.run(COMMANDS, command)
    assert code == 0, said
    changes = whole.changes()
    assert command.startswith("start") or whole.left() == []
    assert len(changes) > 100, "a real semodule makes more changes than that"
    tried = needed = 0
    for number, torn in points(changes, 0 if command in {"stop", "enforce"} else SAMPLE):
        machine = template.copy(tmp_path / "cut")
        code, said = machine.run(COMMANDS, command, cut=number, torn=torn)
        # names of temporary files are random, and with them the number of changes by a few
        assert code == CUT or (code == 0 and len(machine.changes()) < number), (number, said)
        tried += 1
        needed += boot_after_cut(machine, f"{command}, after {machine.changes()[-1]}")
        shutil.rmtree(machine.place)
    record_property("cuts", f"{tried} of {len(changes)} changes; {needed} boots loaded a permissive policy, all were closed")
    print(
        f"{command}{' (hidden)' * hidden}: {len(changes)} changes, {tried} cuts tried, {needed} booted permissive, all closed"
    )


def boot_after_cut(machine: CutMachine, note: str) -> bool:
    """Boot, and check that the boot unit leaves nothing; tell whether it had a permissive kernel to close."""
    machine.power_on()
    was_open = machine.kernel_open
    if was_open:
        assert machine.starts("sepolicyd-boot.service"), note
    code, said = machine.run(ONE_SHOT)
    assert (code, machine.left()) == (0, []), (note, said)
    assert machine.book.verify() == [], note
    return was_open


@pytest.mark.skipif(not EVERY, reason="make cuts")
@pytest.mark.skipif(not (Store().active / "modules").is_dir(), reason="no policy store on this machine")
def test_the_distribution_s_store(bare: CutMachine, tmp_path: Path) -> None:
    """The renames that a boot sees, and what lies between, in a store of some hundred modules."""
    create_store(tmp_path / "template/root")
    template = CutMachine(tmp_path / "template", bare.tracer, bare.tools, "chronyd_t")
    template.open_lease(due=True, hidden=False)
    whole = template.copy(tmp_path / "whole")
    code, said = whole.run(COMMANDS, "deadline")
    assert (code, whole.left()) == (0, []), said
    lines = whole.changes()
    seen = [number for number, line in enumerate(lines, 1) if line.split(" ", 2)[2].endswith(SEEN_BY_A_BOOT)]
    tried = sorted({1, 2, len(lines), *range(1, len(lines), len(lines) // 8), *(one + more for one in seen for more in (0, 1))})
    for number in tried:
        machine = template.copy(tmp_path / "cut")
        machine.run(COMMANDS, "deadline", cut=number)
        boot_after_cut(machine, f"after {machine.changes()[-1]}")
        shutil.rmtree(machine.place)
    print(f"distribution's store: {len(lines)} changes, {len(tried)} cuts tried")


@pytest.mark.skipif(not EVERY, reason="make cuts")
@pytest.mark.parametrize("command", ["deadline", "stop"])
def test_without_a_boot_the_next_minute_ends_it(bare: CutMachine, tmp_path: Path, command: str) -> None:
    """Only the processes are killed; the kernel goes on, and sepolicyd-lease.service runs."""
    template = prepared(bare, tmp_path / "template", command, hidden=False)
    whole = template.copy(tmp_path / "whole")
    assert whole.run(COMMANDS, command)[0] == 0
    for number in range(1, len(whole.changes()) + 1):
        machine = template.copy(tmp_path / "cut")
        machine.run(COMMANDS, command, cut=number)
        if command == "stop" and not machine.book.undo_dir.joinpath("hub.json").exists():
            assert machine.left() == [], number
        # between libsemanage's two renames the store has no policy that left() could read; a pending undo says the same
        again = command == "stop" and any(machine.book.undo_dir.glob("*"))
        code, said = machine.run(COMMANDS, "stop") if again else machine.run(ONE_SHOT)
        assert (code, machine.left()) == (0, []), (number, said)
        shutil.rmtree(machine.place)
