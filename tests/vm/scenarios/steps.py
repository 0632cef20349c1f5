"""Steps shared by several scenarios: install, init, answer the queue, apply, query the kernel."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Optional

from tests.vm.bench import PAYLOAD, Context
from tests.vm.machine import Result

# the policy first: --permissive takes a word, and would take the policy for a type of the installed policy
PERMISSIVE = "seinfo /sys/fs/selinux/policy --permissive | tail -n +2 | tr -d ' ' | grep -v '^$' || true"
# The hub gives its proxy 10 s, fixed in its code; node on an emulated processor of a busy host needs up to a minute.
PATIENCE = """
import asyncio
import jupyterhub.proxy
from jupyterhub.objects import Server

_wait_up = Server.wait_up
Server.wait_up = lambda self, timeout=10, **more: _wait_up(self, max(timeout, 180), **more)

class Patient:
    def __getattr__(self, name):
        return getattr(asyncio, name)
    def wait(self, tasks, timeout=None, **more):
        return asyncio.wait(tasks, timeout=timeout and max(timeout, 200), **more)

jupyterhub.proxy.asyncio = Patient()
"""
# A way into the student's domain without a hub.
STUDENT_TE = """module benchstudent 1.0;
require {
    type unconfined_t, jupyterhub_user_t, bin_t;
    role unconfined_r, system_r;
    class process { transition sigchld };
    class file { entrypoint execute read open getattr map };
    class fd use;
    class fifo_file { read write getattr };
}
role unconfined_r types jupyterhub_user_t;
allow unconfined_t jupyterhub_user_t:process transition;
allow jupyterhub_user_t unconfined_t:process sigchld;
allow jupyterhub_user_t unconfined_t:fd use;
allow jupyterhub_user_t bin_t:file { entrypoint execute read open getattr map };
"""
PLAIN = 'import bz2, sys; d = open(sys.argv[1], "rb").read(); print((bz2.decompress(d) if d[:3] == b"BZh" else d).decode())'
HUB_LOG = "/var/log/jupyterhub.log"
LOG_TO_FILE = f"""[Service]
StandardOutput=append:{HUB_LOG}
StandardError=inherit
PrivateTmp=yes
RuntimeDirectory=jupyterhub
ReadOnlyPaths=/etc/jupyterhub/keys
"""
OURS = {"jupyterhub_t", "jupyterhub_proxy_t", "jupyterhub_user_t"}


def store(context: Context) -> str:
    """The directory of the guest's policy store that holds its present content."""
    return f"/var/lib/selinux/{context.machine.image.kind}/active"


def configure(context: Context, prefix: str = "/opt/jupyterhub", extra: str = "") -> None:
    """The hub's configuration for this prefix, every path written out."""
    text = (PAYLOAD.parent / "guest/jupyterhub_config.py").read_text()
    text = text.replace('[sys.prefix + "/bin/jupyterhub-singleuser"]', f'["{prefix}/bin/jupyterhub-singleuser"]')
    context.machine.put("/etc/jupyterhub/jupyterhub_config.py", text.encode())
    context.machine.put("/etc/jupyterhub/extra.py", (PATIENCE + extra).encode())


def initialise(context: Context, prefix: str = "/opt/jupyterhub") -> float:
    """The hub's domains loaded and labelled; the seconds that took.

    The unit's log and sandbox are what systemd itself must be allowed: it starts with them before, too.
    """
    configure(context, prefix)
    context.run("mkdir -p /etc/systemd/system/jupyterhub.service.d")
    context.machine.put("/etc/systemd/system/jupyterhub.service.d/log.conf", LOG_TO_FILE.encode())
    context.run("systemctl daemon-reload; systemctl restart jupyterhub", timeout=120)
    wait_logged(context, "before `init`", 1)
    context.run("systemctl stop jupyterhub", timeout=120)
    return context.run("sepolicyd init jupyterhub --yes", timeout=600).seconds


def logged(context: Context) -> int:
    """Bytes of the unit's log."""
    return int(context.run(f"stat -c %s {HUB_LOG} 2>/dev/null || echo 0").out)


def wait_logged(context: Context, when: str, more_than: int) -> None:
    """Until systemd has opened the unit's log and the hub has written to it. :raises Failed: after a minute"""
    until = time.monotonic() + 60 * context.machine.patience
    while logged(context) <= more_than:
        if time.monotonic() > until:
            state = context.run("systemctl status jupyterhub --no-pager", check=False).text
            context.expect(False, f"{when} the unit with StandardOutput=append: does not write its log: {state[-800:]}")
        time.sleep(2)


def enter_students_domain(context: Context) -> None:
    """Let a root shell run a program in the students' domain with runcon."""
    context.machine.put("/root/benchstudent.te", STUDENT_TE.encode())
    context.run(
        "cd /root && checkmodule -M -m -o benchstudent.mod benchstudent.te && semodule_package -o benchstudent.pp "
        "-m benchstudent.mod && semodule -i benchstudent.pp"
    )


def apply(context: Context, typed: Optional[Callable[..., Result]] = None) -> int:
    """Load what is decided; the allow rules of the loaded module, counted in the store."""
    done = (typed or context.run)("sepolicyd apply --yes", timeout=420)
    context.say(f"sepolicyd apply took {done.seconds:.0f} s")
    # semodule -E would write as semanage_t, which may not in a root shell's directory; bzip2 unless semanage.conf says no, and
    # the guest has no bzcat
    stored = f"{store(context)}/modules/360/sepolicyd_jupyterhub/cil"
    cil = context.run(f"test ! -e {stored} || python3 -c '{PLAIN}' {stored}")
    return cil.out.count("(allow ")


def document(context: Context, command: str) -> Any:
    """A reading command's JSON; it may end with 1 (findings)."""
    done = context.run(f"{command} --json", check=False)
    context.expect(done.rc in (0, 1), f"`{command} --json` ended with {done.rc}: {done.text[-800:]}")
    return json.loads(done.out)


def queue(context: Context) -> list[dict[str, Any]]:
    """The pending candidates. The daemon saves what it has seen within seconds."""
    time.sleep(8)
    candidates: list[dict[str, Any]] = document(context, "sepolicyd list")["candidates"]
    return candidates


def told(candidate: dict[str, Any]) -> str:
    permissions = " ".join(candidate["permissions"])
    codes = ",".join(sorted({finding["code"] for finding in candidate["findings"]}))
    return (
        f"[{candidate['level']}] {candidate['source']} {candidate['target']}:{candidate['class']} {{ {permissions} }} "
        f"{candidate['fix']['kind']} {codes}"
    )


def answer(
    context: Context, candidates: list[dict[str, Any]], levels: set[str], typed: Optional[Callable[..., Result]] = None
) -> tuple[int, int]:
    """Approve what is approvable and of these levels, deny the rest; how many of each."""
    yes = [c for c in candidates if c["approvable"] and c["level"] in levels]
    no = [c for c in candidates if c not in yes]
    for verb, chosen in (("approve", yes), ("deny", no)):
        for candidate in chosen:
            context.say(f"{verb}: {told(candidate)}")
        if chosen:
            ids = " ".join(f"{c['id']}@{c['revision']}" if verb == "approve" else c["id"] for c in chosen)
            (typed or context.run)(f"sepolicyd {verb} {ids} --reason 'the bench: seen in an ordinary lesson'", timeout=300)
    return len(yes), len(no)


def permissive(context: Context) -> set[str]:
    """The permissive domains of the policy that the kernel has, read from the kernel."""
    return set(context.run(PERMISSIVE).out.split())


def closed(context: Context) -> bool:
    """Nothing is open any more: the machine enforces, no domain of the profile is permissive."""
    enforcing = context.run("getenforce").out.strip() == "Enforcing"
    return enforcing and not permissive(context) & OURS


def wait_closed(context: Context, seconds: float, what: str) -> float:
    """Until everything is closed, by the host's clock. :raises Failed: after `seconds`"""
    began = time.monotonic()
    while not closed(context):
        waited = time.monotonic() - began
        if waited > seconds:
            state = context.run("sepolicyd learn status; systemctl list-timers --all | grep sepolicyd", check=False).text
            context.expect(False, f"{what}: still open after {waited:.0f} s: {state[-1200:]}")
        time.sleep(3)
    return time.monotonic() - began


def wait_undone(context: Context, seconds: float = 120) -> None:
    """Until the store is back too: the kernel is closed first, the slow store (and its dontaudit rules) after it."""
    began = time.monotonic()
    hidden_off = f"{store(context)}/disable_dontaudit"
    while context.run(f'test ! -e {hidden_off} && test -z "$(ls /var/lib/sepolicyd/rollout/leases)"', check=False).rc != 0:
        context.expect(time.monotonic() - began < seconds, f"{seconds:.0f} s after a lease's end its undo is not finished")
        time.sleep(2)
