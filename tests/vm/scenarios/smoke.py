"""The bench itself: the guest enforces, denials arrive in the log, and a class can work on a stock permissive machine."""

from __future__ import annotations

from tests.vm.bench import Context, Scenario, unique
from tests.vm.scenarios.steps import configure


def play(context: Context) -> None:
    context.mode("Enforcing")
    mark = context.mark()
    probe = context.run("runcon -t user_t -r user_r -u user_u -l s0 cat /etc/shadow", check=False)
    context.expect(probe.rc != 0, "a root shell could enter user_t by hand on an enforcing kernel")
    refused = context.denied(mark, permissive=False)
    context.expect(("unconfined_t", "user_t", "process", "transition") in refused, "a refused access left no denial in the log")
    configure(context)
    context.run("setenforce 0")
    context.mode("Permissive")
    context.say(f"the hub answered after {context.start_service():.0f} s")
    context.lesson("alice", "bob")
    context.teacher_hands_out()
    seen = context.denied(mark)
    context.figures.denials = len(unique(seen))
    context.run("setenforce 1; systemctl stop jupyterhub")
    context.mode("Enforcing")


SCENARIO = Scenario(
    "smoke", "full", "the guest enforces, denials are logged, the class works on a permissive machine", play, "booted"
)
