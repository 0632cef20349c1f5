"""A user forges audit records: kernel, systemd and system bus log the text, and none of it becomes evidence."""

from __future__ import annotations

import json
import time

from tests.vm.bench import PAYLOAD, Context, Scenario
from tests.vm.errors import Failed
from tests.vm.hub import ClassError, User
from tests.vm.scenarios.steps import document
from tests.vm.websocket import WebSocketError

TRIALS = 30
ATTEMPTS = 30
# No process of this machine does what the student's text claims: the hub writing password hashes.
FORGED = ("jupyterhub_t", "shadow_t", "write")
MARKS = (
    r"scontext=system_u:system_r:jupyterhub_t|73636F6E746578743D73797374656D5F753A73797374656D5F723A6A7570797465726875625F74"
)


def forge(context: Context, student: str) -> list[str]:
    """Run the payload in a notebook.

    :return: one line for each trial
    """
    user = User(student, context.machine.hub_port)
    try:
        user.log_in()
        user.start_server()
        kernel = user.kernel()
        told = kernel.execute((PAYLOAD / "forge.py").read_text())
        kernel.close()
        user.stop_server()
    except (ClassError, WebSocketError) as error:
        raise Failed(f"the student could not even begin: {error}") from error
    lines = [line for line in told.text.splitlines() if ": " in line]
    context.expect(len(lines) >= TRIALS, f"the notebook broke: {told.text[-1500:]}")
    return lines


def believed(context: Context) -> dict[str, str]:
    """Every reading of the log and of the evidence."""
    log = "/var/log/audit/audit.log"
    return {
        "list": json.dumps(document(context, "sepolicyd list --all")["candidates"]),
        "analyze": json.dumps(document(context, f"sepolicyd analyze --all --grouped {log}")["candidates"]),
        "analyze of ausearch": context.run(
            f"ausearch --raw -if {log} | sepolicyd analyze --all --grouped --te -", check=False, timeout=300
        ).out,
        "module": context.run(f"sepolicyd analyze --all --te {log}", check=False, timeout=300).out,
    }


def play(context: Context) -> None:
    context.mode("Enforcing")
    # with a rule of its own the kernel writes SYSCALL, CWD, PATH and PROCTITLE beside each denial; in the lease all is logged
    context.run("auditctl -a always,exit -F arch=b64 -S sethostname -k bench; setsebool jupyterhub_user_exec_content on")
    # enforcing and without dontaudit rules the kernel logs each denial; a permissive domain's only once for each access
    context.run("semodule -DB", timeout=300)
    context.start_service()
    mark = context.mark()
    lines = forge(context, "bob")
    context.run("semodule -B", timeout=300)
    # in a lease the student reaches the bus and systemd, which write records of their own
    context.run("sepolicyd learn start jupyterhub --for 40m", timeout=180)
    lines += forge(context, "alice")
    context.run("sepolicyd enforce", check=False, timeout=180)
    context.mode("Enforcing")
    time.sleep(10)
    written = int(context.run(f"{context.log_so_far()} | tail -n +{mark + 1} | grep -cE '{MARKS}'", check=False).out or 0)
    context.expect(written >= TRIALS, f"only {written} lines of the log hold the student's text: {lines[:5]}")
    status = document(context, "sepolicyd status")["attempts"]
    mine = status["by_domain"].get("jupyterhub_user_t", 0)
    for name, text in believed(context).items():
        for line in text.replace("{", "\n{").splitlines():
            claims = all(word in line for word in FORGED)
            rule = line.startswith("allow ") or '"source": "jupyterhub_t"' in line
            context.expect(not (claims and rule), f"{name} believes the student: {line[:400]}")
    context.expect(
        mine >= ATTEMPTS, f"{mine} attempts of the student are counted, {status['count']} of all: {status['by_domain']}"
    )
    text = context.run("sepolicyd status", check=False).out
    context.expect("attempts" in text, "status does not show the attempts")
    context.note(f"{len(lines)} trials, {written} lines of the log with the student's text, {status['count']} attempts counted")
    context.note(f"attempts by domain: {status['by_domain']}; nothing forged in {', '.join(believed(context))}")


SCENARIO = Scenario("forgery", "slim", "a student's forged records: logged by the kernel, counted, never believed", play)
