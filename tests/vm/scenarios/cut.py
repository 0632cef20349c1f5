"""Power failure at critical moments of a lease's end, and a boot into the rescue target: the next boot enforces."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from tests.vm.bench import PAYLOAD, Context, Scenario
from tests.vm.scenarios.deadline import opened
from tests.vm.scenarios.steps import OURS, closed, permissive, wait_closed, wait_undone

MODULE = "/var/lib/selinux/default/active/modules/360/sepolicyd_lease_jupyterhub"
BOOT_POLICY = "/etc/selinux/default/policy"
PERMISSIVE_AT_BOOT = f"seinfo $(ls {BOOT_POLICY}/policy.* | sort -V | tail -1) --permissive"
STALLED_S = 240.0


def stall_library() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "stall.so"
        source = PAYLOAD / "stall.c"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"], check=True)
        return made.read_bytes()


def at_boot(context: Context) -> set[str]:
    """The domains that the policy file of the next boot makes permissive."""
    return set(context.run(PERMISSIVE_AT_BOOT).out.split()) & OURS


def between_the_renames(context: Context) -> None:
    """semodule has swapped the store and not yet installed the policy file, and the power fails."""
    context.machine.put("/usr/local/lib/stall.so", stall_library())
    context.run(
        "chcon -t lib_t /usr/local/lib/stall.so; chmod 755 /usr/local/lib/stall.so; systemctl enable jupyterhub.service"
    )
    opened(context, "30m")
    context.expect("jupyterhub_t" in at_boot(context), "the policy file of the next boot is not that of the lease")
    context.run("echo /usr/local/lib/stall.so > /etc/ld.so.preload; touch /etc/stall; sync")
    context.run("setsid sepolicyd learn stop >/dev/null 2>&1 &")
    began = time.monotonic()
    while context.run(f"test ! -e {MODULE}", check=False).rc != 0:
        context.expect(time.monotonic() - began < STALLED_S, "semodule did not come to its first rename")
        time.sleep(1)
    time.sleep(5)
    context.expect(context.run("pgrep -x semodule", check=False).rc == 0, "semodule was not stopped between its renames")
    # the kernel and the policy file are closed first, without semodule: put the window back as it is where that was cut off too
    closed_first = not at_boot(context)
    if closed_first:
        context.run(f"cp /root/lease.policy $(ls {BOOT_POLICY}/policy.* | sort -V | tail -1)")
    context.expect("jupyterhub_t" in at_boot(context), "the window could not be made")
    context.run("rm /etc/ld.so.preload /etc/stall; sync")
    context.machine.reset()
    context.mode("Enforcing")
    context.expect(closed(context), f"after the power cut still permissive: {permissive(context) & OURS}")
    context.expect(not at_boot(context), f"the boot after that would be permissive: {at_boot(context)}")
    wait_undone(context)
    times = [
        int(context.run(f"systemctl show {unit} -p {field} --value").out.strip() or 0)
        for unit, field in (
            ("sepolicyd-boot.service", "ExecMainExitTimestampMonotonic"),
            ("jupyterhub.service", "ExecMainStartTimestampMonotonic"),
        )
    ]
    context.expect(
        times[0] > 0 and (times[1] == 0 or times[0] < times[1]), f"the hub was started before the lease was over: {times}"
    )
    context.note(
        f"power cut between store and policy file (the file was {'closed before' if closed_first else 'open'}): "
        f"enforcing {times[0] / 1e6:.0f} s after the kernel's start, the hub at {times[1] / 1e6:.0f} s"
    )


def rescue(context: Context) -> None:
    """The machine boots into the rescue target with a lease's policy file."""
    opened(context, "30m")
    context.run(
        "systemctl add-wants rescue.target bench-agent.service auditd.service; systemctl set-default rescue.target; sync",
    )
    context.machine.reset()
    state = context.run("systemctl is-active rescue.target multi-user.target", check=False).out.split()
    context.expect(state == ["active", "inactive"], f"not in the rescue target: {state}")
    context.mode("Enforcing")
    context.expect(closed(context), f"in the rescue target permissive: {permissive(context) & OURS}")
    context.expect(not at_boot(context), f"the boot after the rescue target would be permissive: {at_boot(context)}")
    context.note("rescue target: enforcing, nothing left for the next boot")
    context.run("systemctl set-default multi-user.target; sync")
    context.machine.reset()
    context.mode("Enforcing")


def without_a_denial(context: Context) -> None:
    """A lease ends by its own timer: no denial of the daemon, its one-shots and semodule."""
    mark = context.mark()
    opened(context, "30s")
    wait_closed(context, 150, "a lease of 30 s")
    wait_undone(context)
    found = [access for access in context.denied(mark) if access[0].startswith("sepolicyd")]
    context.expect(not found, f"sepolicyd was denied something at the end of a lease: {sorted(set(found))}")
    domain = context.run("ps -o label= -p $(systemctl show -p MainPID --value sepolicyd)", check=False).out.strip()
    context.expect("sepolicyd_t" in domain, f"the daemon does not run in sepolicyd_t: {domain!r}")
    context.note(f"a lease ended under {domain.split(':')[2]} without a denial of sepolicyd's")


def play(context: Context) -> None:
    context.mode("Enforcing")
    without_a_denial(context)
    opened(context, "30m")
    context.run(f"cp $(ls {BOOT_POLICY}/policy.* | sort -V | tail -1) /root/lease.policy")
    context.run("sepolicyd learn stop", timeout=240)
    between_the_renames(context)
    rescue(context)


SCENARIO = Scenario(
    "cut", "slim", "power cut between store and policy file, rescue target, a lease's end without a denial", play
)
