"""Policy changes in enforcing mode: trial and its rollback, kill during apply, confirmation, rollback."""

from __future__ import annotations

import errno
import time

from tests.vm.bench import Context, Scenario
from tests.vm.scenarios.steps import document, enter_students_domain, queue

TRIAL_S = 40
# the trial's own timer, and semodule twice; a busy host's guest is late
GRACE_S = 90
# Port 25 has a type of its own and nothing listens: refused by SELinux it is EACCES, allowed it is ECONNREFUSED. Told by the
# exit status, for the domain may not write into a root shell's pipe.
CONNECT = (
    "runcon -t jupyterhub_user_t /usr/bin/python3 -c "
    "'import socket, sys; sys.exit(socket.socket().connect_ex((\"127.0.0.1\", 25)))'"
)


def allowed(context: Context) -> bool:
    """What the kernel answers to the one access that this scenario is about."""
    rc = context.run(CONNECT, check=False).rc
    context.expect(rc in {errno.EACCES, errno.ECONNREFUSED}, f"connecting to port 25 from the students' domain ended with {rc}")
    return rc == errno.ECONNREFUSED


def decided(context: Context) -> None:
    """The denial, seen by the daemon, approved by command."""
    context.expect(not allowed(context), "the base policy lets students connect to port 25")
    (asked,) = [c for c in queue(context) if c["target"] == "smtp_port_t"]
    fixes = [asked["fix"], *asked["alternatives"]]
    number = next(index for index, fix in enumerate(fixes, 1) if fix["kind"] == "allow")
    context.run(f"sepolicyd approve {asked['id']}@{asked['revision']} --fix {number} --reason 'the bench: mail from notebooks'")


def taken_back(context: Context) -> None:
    """Not confirmed: the previous version returns without a command."""
    context.run(f"sepolicyd apply --yes --confirm-within {TRIAL_S}s", timeout=420)
    context.expect(allowed(context), "apply said that it had loaded the rule, and the kernel denies it")
    began = time.monotonic()
    context.run("systemctl kill -s KILL sepolicyd.service", check=False)
    while allowed(context):
        waited = time.monotonic() - began
        context.expect(
            waited < TRIAL_S + GRACE_S, f"a trial of {TRIAL_S} s nobody confirmed was still loaded after {waited:.0f} s"
        )
        time.sleep(3)
    context.note(
        f"a trial of {TRIAL_S} s, not confirmed and the daemon killed: taken back {time.monotonic() - began:.0f} s later"
    )


def killed(context: Context) -> None:
    """kill -9 of `apply` at several moments: the old policy or the new, and the next command says which."""
    for after in (3, 9, 15, 21):
        context.run(
            f"setsid sepolicyd apply --yes >/dev/null 2>&1 & sleep {after}; kill -KILL -- -$!; pkill -KILL semodule; true",
            check=False,
        )
    context.run("sepolicyd apply --yes", timeout=420)
    context.expect(
        allowed(context), "after four killed `apply` the fifth said that it had loaded the rule, and the kernel denies it"
    )
    context.note("kill -9 of four `apply` after 3 to 21 s: the fifth finished what they had left")


def play(context: Context) -> None:
    context.mode("Enforcing")
    enter_students_domain(context)
    decided(context)
    taken_back(context)
    decisions = len(document(context, "sepolicyd list --all")["candidates"])
    context.expect(decisions > 0, "after the trial the decisions are gone")
    killed(context)
    context.run("sepolicyd apply --yes --confirm-within 10m", check=False, timeout=420)
    context.run("sepolicyd confirm", check=False)
    done = context.run("sepolicyd rollback --to 0 --reason 'the bench'", timeout=420)
    context.note(f"rollback took {done.seconds:.0f} s")
    context.expect(not allowed(context), "after `rollback` the kernel still allows what was rolled back")
    verified = context.run("sepolicyd history --verify", check=False)
    context.expect(verified.rc == 0, f"`sepolicyd history --verify` ended with {verified.rc}: {verified.text[-500:]}")
    left = [finding for finding in context.run("sepolicyd doctor", check=False).text.splitlines() if "D-JOURNAL" in finding]
    context.expect(not left, f"an operation was left open: {left}")
    context.mode("Enforcing")


SCENARIO = Scenario("change", "slim", "apply on trial, kill -9 of apply, rollback: what the kernel answers", play)
