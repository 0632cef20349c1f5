"""The distribution's whole policy: denials reach the log, `init` works, and a class works under enforcing without learning."""

from __future__ import annotations

from tests.vm.bench import Context, Scenario, listed, unique
from tests.vm.scenarios.steps import OURS, document, initialise

EXECMEM = ("jupyterhub_user_t", "jupyterhub_user_t", "process", "execmem")


def play(context: Context) -> None:
    context.mode("Enforcing")
    daemon = context.run(
        "systemctl is-active sepolicyd; ps -o label= -p $(systemctl show -p MainPID --value sepolicyd)", check=False
    )
    context.expect(":sepolicyd_t:" in daemon.out, f"the daemon does not run in its domain: {daemon.text[-300:]}")
    mark = context.mark()
    probe = context.run("runcon -t user_t -r user_r -u user_u -l s0 cat /etc/shadow", check=False)
    context.expect(probe.rc != 0, "a root shell could enter user_t by hand on an enforcing kernel")
    refused = context.denied(mark, permissive=False)
    context.expect(("unconfined_t", "user_t", "process", "transition") in refused, "a refused access left no denial in the log")
    seconds = initialise(context)
    context.note(f"sepolicyd init on the whole policy took {seconds:.0f} s")
    mark = context.mark()
    context.note(f"the hub answered after {context.start_service():.0f} s, enforcing, in its own domain, nothing learned")
    context.lesson("alice")
    context.teacher_hands_out()
    seen = {access for access in unique(context.denied(mark)) if set(access[:2]) & OURS}
    context.figures.denials = context.figures.new_denials = len(seen)
    # the one question that scenario `domain` asks; nothing fails for it
    context.expect(seen <= {EXECMEM}, f"the base policy denies an ordinary class: {listed(seen - {EXECMEM})}")
    asked = document(context, "sepolicyd analyze /var/log/audit/audit.log")["candidates"]
    context.figures.questions = len(asked)
    context.expect(len(asked) <= 1, f"`sepolicyd analyze` asks {len(asked)} questions about one denied access")


SCENARIO = Scenario("smoke", "full", "the whole policy: init, then a class under enforcing without learning", play, "installed")
