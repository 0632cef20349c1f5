"""A hostile user during a lease: none of the accesses reaches the module by default, and all are denied afterwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.vm.bench import PAYLOAD, Context, Scenario, unique
from tests.vm.errors import Failed
from tests.vm.hub import ClassError, User
from tests.vm.scenarios.steps import answer, apply, queue
from tests.vm.websocket import WebSocketError

FLOOD = 1500
# What a student may hold after the rollout, as nobody would write it down: no access of these kinds, whoever asked for it.
FORBIDDEN = """\
jupyterhub_user_t shadow_t file read,write
jupyterhub_user_t jupyterhub_secret_t file -
jupyterhub_user_t jupyterhub_tls_t file -
jupyterhub_user_t jupyterhub_var_lib_t file -
jupyterhub_user_t auditd_log_t file -
jupyterhub_user_t - capability -
jupyterhub_user_t - packet_socket -
jupyterhub_user_t - rawip_socket create
jupyterhub_user_t bin_t file write,append
jupyterhub_user_t lib_t file write,append
jupyterhub_user_t jupyterhub_exec_t file write,append
jupyterhub_user_t - process ptrace,setexec
jupyterhub_user_t security_t security load_policy,setenforce
"""
OPEN_BY_MISTAKE = """set -e
mkdir -p /etc/jupyterhub/open /opt/jupyterhub/open-to-all
echo secret > /etc/jupyterhub/open/cookie_secret
echo 'print()' > /opt/jupyterhub/open-to-all/site.py
chmod 755 /etc/jupyterhub/open; chmod 644 /etc/jupyterhub/open/cookie_secret
chmod 777 /opt/jupyterhub/open-to-all; chmod 666 /opt/jupyterhub/open-to-all/site.py
restorecon -RF /etc/jupyterhub /opt/jupyterhub/open-to-all
"""
# An administrator's mistakes in the file modes, where SELinux alone stands in the way: refused or not is the point.
ONLY_SELINUX = ("read /etc/jupyterhub/open/cookie_secret", "write /opt/jupyterhub/open-to-all/site.py")


def attack(context: Context, student: str) -> dict[str, bool]:
    """Everything on the list, out of a notebook; trial -> whether the student got it."""
    user = User(student, context.machine.hub_port)
    try:
        user.log_in()
        user.start_server()
        kernel = user.kernel()
        told = kernel.execute(f"FLOOD = {FLOOD}\n" + (PAYLOAD / "hostile.py").read_text())
        kernel.close()
        user.stop_server()
    except (ClassError, WebSocketError) as error:
        raise Failed(f"the hostile student could not even begin: {error}") from error
    trials = dict(line.rsplit(": ", 1) for line in told.text.splitlines() if ": " in line)
    context.expect(len(trials) > 15, f"the hostile notebook broke: {told.text[-1500:]}")
    return {name: result == "got it" for name, result in trials.items()}


def lesson_under_attack(context: Context) -> dict[str, bool]:
    """An ordinary student at work while the other one attacks; what the attack got."""
    with ThreadPoolExecutor(1) as other:
        attacking = other.submit(attack, context, "bob")
        context.lesson("alice")
        return attacking.result()


def play(context: Context) -> None:
    context.mode("Enforcing")
    context.run(OPEN_BY_MISTAKE)
    context.run("sepolicyd learn start jupyterhub --for 40m --hidden", timeout=180)
    mark = context.mark()
    context.start_service()
    got = lesson_under_attack(context)
    for name in ONLY_SELINUX:
        context.expect(got[name], f"{name} failed in a permissive domain: the trial shows nothing")
    candidates = queue(context)
    context.figures.denials = len(unique(context.denied(mark)))
    context.figures.questions = len(candidates)
    context.figures.rounds = 1
    attacks = [c["id"] for c in candidates if any(finding["code"] == "W-003" for finding in c["findings"])]
    context.expect(bool(attacks), "nothing in the queue says that it looks like an attack")
    approved, denied = answer(context, candidates, {"none", "note"})
    context.note(f"{approved} harmless questions approved, {denied} denied, {len(attacks)} told as an attack")
    context.figures.rules = apply(context) if approved else 0
    context.run("sepolicyd enforce", check=False, timeout=180)
    context.mode("Enforcing")
    context.machine.put("/root/holds.py", (PAYLOAD / "holds.py").read_bytes())
    held = context.run("python3 /root/holds.py", stdin=FORBIDDEN).out
    context.expect(not held, f"after the rollout a student's domain holds: {held[:600]}")
    context.start_service()
    got = lesson_under_attack(context)
    won = sorted(name for name, success in got.items() if success)
    context.expect(not won, f"under enforcing a student still gets: {', '.join(won)}")
    context.note(f"{len(got)} trials of a hostile student under enforcing: all denied, and another's lesson beside them works")


SCENARIO = Scenario("hostile", "slim", "a hostile student learns nothing into the module, and is denied afterwards", play)
