"""Leases end by their deadline: after kill -9 of all processes, a clock change, and a power failure."""

from __future__ import annotations

import time

from tests.vm.bench import Context, Scenario
from tests.vm.scenarios.steps import OURS, closed, permissive, wait_closed, wait_undone

LEASE_S = 30
# The lease's own timer comes first; the second line looks each minute, and semodule takes 10 s on this machine.
GRACE_S = 60 + 45
KILL_ALL = "systemctl kill -s KILL sepolicyd.service; pkill -KILL -f 'sepolicyd [l]earn|-m [s]epolicyd'; true"


def opened(context: Context, length: str, *options: str) -> float:
    """Start a lease; the host's time when it was open."""
    context.run(f"sepolicyd learn start jupyterhub --for {length} {' '.join(options)}", timeout=180)
    if "--whole-system" in options:
        context.expect(context.run("getenforce").out.strip() == "Permissive", "a whole-system lease left the machine enforcing")
    else:
        context.expect("jupyterhub_t" in permissive(context), "a lease was started and jupyterhub_t is not permissive")
    return time.monotonic()


def ends(context: Context, since: float, what: str) -> None:
    """The lease that was open at `since` is over in time."""
    wait_closed(context, LEASE_S + GRACE_S, what)
    context.note(f"{what}: closed {time.monotonic() - since:.0f} s after a lease of {LEASE_S} s was open")


def whole_system(context: Context) -> None:
    """The strongest lease; all that is ours is killed, and auditd too."""
    since = opened(context, f"{LEASE_S}s", "--whole-system", "--hidden", "--yes")
    context.run(f"{KILL_ALL}; pkill -KILL -x auditd; true", check=False)
    ends(context, since, "whole system with hidden denials, all killed and auditd too")
    wait_undone(context)  # the dontaudit rules come back with the store, after the kernel is closed
    context.run("systemctl start auditd", check=False)


def killed_commands(context: Context) -> None:
    """kill -9 of `learn start` at several moments: nothing may stay open past the deadline."""
    for after in (1.5, 4.0, 7.0, 10.0, 14.0):
        context.run(
            f"setsid sepolicyd learn start jupyterhub --for {LEASE_S}s >/dev/null 2>&1 & sleep {after}; kill -KILL -- -$!; "
            "pkill -KILL semodule; true",
            check=False,
        )
    began = time.monotonic()
    time.sleep(LEASE_S)
    wait_closed(context, GRACE_S, "kill -9 of five `learn start`")
    context.note(f"kill -9 of five `learn start` at 1.5 to 14 s: closed {time.monotonic() - began:.0f} s after the last")


def power_cut(context: Context) -> None:
    """The machine loses its power in a lease of half an hour: the domain enforces before the service starts."""
    context.run("systemctl enable jupyterhub.service")
    opened(context, "30m")
    context.run("sync")
    context.machine.reset()
    context.mode("Enforcing")
    context.expect(closed(context), f"after a power cut still permissive: {permissive(context) & OURS}")
    ended, started = (
        int(context.run(f"systemctl show {unit} -p {field} --value").out.strip() or 0)
        for unit, field in (
            ("sepolicyd-boot.service", "ExecMainExitTimestampMonotonic"),
            ("jupyterhub.service", "ExecMainStartTimestampMonotonic"),
        )
    )
    context.expect(ended > 0, "the boot unit did not run")
    context.expect(started == 0 or ended < started, "the hub was started before the boot unit had ended the lease")
    context.note(
        f"power cut: lease ended {ended / 1e6:.0f} s after the kernel's start, the hub started at {started / 1e6:.0f} s"
    )


def play(context: Context) -> None:
    context.mode("Enforcing")
    context.expect(not permissive(context) & OURS, "a domain of ours is permissive before any lease")
    ends(context, opened(context, f"{LEASE_S}s"), "left alone")
    since = opened(context, f"{LEASE_S}s")
    context.run(KILL_ALL, check=False)
    ends(context, since, "kill -9 of the daemon and all commands")
    for shift in ("-1 day", "+3 hours"):
        since = opened(context, f"{LEASE_S}s")
        context.run(f"date -s '{shift}' >/dev/null")
        ends(context, since, f"clock moved by {shift}")
    whole_system(context)
    killed_commands(context)
    power_cut(context)


SCENARIO = Scenario("deadline", "slim", "leases end by themselves: kill -9, clock, power cut", play)
