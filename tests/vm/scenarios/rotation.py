"""auditd rotates under a flood while the daemon is killed and restarted: events in the log equal those in the evidence."""

from __future__ import annotations

import re
import time

from tests.vm.bench import AUDIT_LOG, PAYLOAD, Context, Scenario
from tests.vm.scenarios.steps import document, enter_students_domain

EVENTS = 5000
PACE = 200
# As many rotated files as the whole flood needs (1.3 kB an event): auditd deletes older ones, and what nobody could have
# read is no proof of anything.
KEPT = 20
EVENT = re.compile(
    r"^type=AVC msg=audit\(([\d.]+:\d+)\): avc:  denied .*? scontext=\S+:jupyterhub_user_t:\S+ "
    r"tcontext=\S+:(?:jupyterhub_etc_t:\S+ tclass=dir|\S+ tclass=packet_socket)",
    re.M,
)


def in_log(context: Context) -> set[str]:
    """The flood's events, by their time and serial number, in all that auditd has kept."""
    return set(EVENT.findall(context.run(f"{context.log_so_far()} | grep jupyterhub_user_t", timeout=120).out))


def in_evidence(context: Context) -> int:
    """Sightings of the flood that the daemon has saved; each of its events is one denied permission."""
    candidates = document(context, "sepolicyd list --all")["candidates"]
    flood = {("jupyterhub_etc_t", "dir"), ("self", "packet_socket"), ("jupyterhub_user_t", "packet_socket")}
    ours = [c for c in candidates if c["source"] == "jupyterhub_user_t" and (c["target"], c["class"]) in flood]
    return sum(c["evidence"]["count"] for c in ours)


def play(context: Context) -> None:
    context.mode("Enforcing")
    context.run(
        f"sed -i 's/^max_log_file .*/max_log_file = 1/; s/^num_logs .*/num_logs = {KEPT}/' /etc/audit/auditd.conf; "
        "pkill -HUP auditd"
    )
    context.machine.put("/root/flood.py", (PAYLOAD / "flood.py").read_bytes())
    enter_students_domain(context)
    context.run("cp /root/flood.py /usr/local/lib/bench/flood.py && mkdir -p /etc/jupyterhub/open")
    context.run(
        "systemd-run --collect --unit=bench-flood -p SELinuxContext=unconfined_u:unconfined_r:unconfined_t:s0 "
        f"runcon -t jupyterhub_user_t /usr/bin/python3 /usr/local/lib/bench/flood.py {EVENTS} {PACE}"
    )
    kills = 0
    time.sleep(2)
    running = context.run("systemctl is-active bench-flood", check=False).out.strip()
    context.expect(running == "active", "the flood did not start: see its unit bench-flood in journal.log")
    while context.run("systemctl is-active bench-flood", check=False).out.strip() == "active":
        context.run("systemctl kill -s KILL sepolicyd.service", check=False)
        kills += 1
        time.sleep(7)
    rotations = int(context.run(f"ls {AUDIT_LOG}.* | wc -l").out)
    context.expect(rotations >= 3, f"the log rotated {rotations} times only: the flood was too small to show anything")
    context.expect(rotations < KEPT - 1, "auditd has thrown log files away, so nothing can be counted")
    logged = in_log(context)
    context.expect(len(logged) > EVENTS // 2, f"{len(logged)} of {EVENTS} refused accesses are in the log")
    began = time.monotonic()
    while (seen := in_evidence(context)) != len(logged) and time.monotonic() - began < 120:
        time.sleep(5)
        logged = in_log(context)
    context.figures.denials = len(logged)
    context.note(f"{len(logged)} events in the log, {seen} in evidence; {rotations} rotations, {kills} times kill -9")
    context.expect(seen == len(logged), f"{len(logged)} events in the log and {seen} in evidence")


SCENARIO = Scenario("rotation", "slim", "auditd rotates under a flood, the daemon is killed: log and evidence agree", play)
