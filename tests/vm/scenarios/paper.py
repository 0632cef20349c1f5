"""The published procedure by sepolicyd: whole-system lease, hub from a root shell, enforcing returns by itself."""

from __future__ import annotations

from tests.vm.bench import Context, Scenario, listed, unique
from tests.vm.scenarios.steps import OURS, answer, apply, initialise, queue, wait_closed, wait_undone

PREFIX = "/opt/anaconda3"
LEASE = "40m"
REST_S = 60  # what is left of the lease when everything is loaded; enforcing then returns without a command
# The paper's machine has this one installation and no unit.
AS_PUBLISHED = """set -e
systemctl stop jupyterhub 2>/dev/null || true
rm -f /etc/systemd/system/jupyterhub.service
mv /opt/jupyterhub /root/not-in-the-paper
systemctl daemon-reload
"""
# The paper starts the hub from a root shell, which is unconfined_t, and so would the hub be: nothing is denied to it, nothing
# can be learned. A service enters its domain from systemd; from a shell it takes this.
ROOT_SHELL_TE = """module benchshell 1.0;
require {
    type unconfined_t, jupyterhub_t, jupyterhub_exec_t, jupyterhub_proxy_t, jupyterhub_user_t;
    role unconfined_r;
    class process { transition sigchld };
    class file { getattr open read execute map };
    class fd use;
    class fifo_file { read write getattr append ioctl };
}
role unconfined_r types { jupyterhub_t jupyterhub_proxy_t jupyterhub_user_t };
type_transition unconfined_t jupyterhub_exec_t:process jupyterhub_t;
allow unconfined_t jupyterhub_exec_t:file { getattr open read execute map };
allow unconfined_t jupyterhub_t:process transition;
allow jupyterhub_t unconfined_t:fd use;
allow jupyterhub_t unconfined_t:process sigchld;
"""
HUB = f"{PREFIX}/bin/jupyterhub -f /etc/jupyterhub/jupyterhub_config.py"


def start_hub(context: Context) -> None:
    """As the paper does: from a root shell, in its working directory."""
    context.run("pkill -f '[b]in/jupyterhub -f'; pkill -f '[c]onfigurable-http-proxy'; sleep 3", check=False)
    # Again where the hub gave its proxy up after its fixed 10 s, which an emulated machine may miss.
    context.run(
        f"cd /var/lib/jupyterhub; PATH={PREFIX}/bin:$PATH setsid bash -c 'for try in 1 2 3 4 5 6; do {HUB}; done' "
        ">>/var/log/jupyterhub.log 2>&1 </dev/null &"
    )
    context.hub_up()
    domain = context.run("ps -o label= -p $(pgrep -f 'python3 .*[b]in/jupyterhub -f' | head -1)").out
    context.expect(":jupyterhub_t:" in domain, f"the hub that a root shell started runs as {domain.strip()}")


def play(context: Context) -> None:
    context.mode("Enforcing")
    context.run(AS_PUBLISHED)
    typed = initialise(context, PREFIX)
    context.machine.put("/root/benchshell.te", ROOT_SHELL_TE.encode())
    context.run(
        "cd /root && checkmodule -M -m -o benchshell.mod benchshell.te && semodule_package -o benchshell.pp -m benchshell.mod "
        "&& semodule -i benchshell.pp"
    )
    typed += context.run(f"sepolicyd learn start jupyterhub --for {LEASE} --whole-system --hidden --yes", timeout=180).seconds
    context.mode("Permissive")
    mark = context.mark()
    start_hub(context)
    context.lesson("alice", "bob")
    context.teacher_hands_out()
    context.figures.denials = len(unique(context.denied(mark)))
    candidates = queue(context)
    context.figures.questions, context.figures.rounds = len(candidates), 1
    approved, denied = answer(context, candidates, {"none", "note", "review"})
    context.say(f"{len(candidates)} questions: {approved} approved, {denied} denied")
    context.figures.rules = apply(context) if approved else 0
    typed += context.run(f"sepolicyd learn renew --for {REST_S}s", timeout=180).seconds
    waited = wait_closed(context, REST_S + 120, "the whole-system lease")
    wait_undone(context)
    context.say(f"enforcing returned by itself, {waited:.0f} s after the last command was told to leave it {REST_S} s")
    context.mode("Enforcing")
    mark = context.mark()
    start_hub(context)
    context.lesson("alice", "bob")
    new = {access for access in unique(context.denied(mark)) if set(access[:2]) & OURS}
    context.figures.new_denials = len(new)
    context.note(f"sepolicyd: 3 commands, {typed:.0f} s until they had run, and {len(candidates)} questions")
    context.expect(not new, f"the class is denied under enforcing: {listed(new)}")


SCENARIO = Scenario("paper", "slim", "the published procedure, every step by sepolicyd", play, "installed")
