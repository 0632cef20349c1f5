"""The Debian packages on a machine that enforces: install, upgrade, downgrade, remove and purge, each during a lease."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

from tests.paths import ROOT
from tests.vm.bench import Context, Scenario
from tests.vm.errors import CannotRun
from tests.vm.image import cache_directory
from tests.vm.scenarios.steps import OURS, closed, configure, permissive, wait_closed, wait_undone

# what the packages depend on and the guest's image has not
DEPENDENCIES = ("bzip2", "python3-jinja2", "python3-markupsafe")
VERSION = re.compile(r'^version = "([^"]+)"', re.MULTILINE)
DEBS = "/root/debs"
LEASE_MODULES = "ls -d /var/lib/selinux/default/active/modules/*/sepolicyd_lease_* 2>/dev/null; true"
NO_NEW_PRIVILEGES = (
    "systemd-run --quiet --wait --pipe -p LockPersonality=yes -p RestrictRealtime=yes -p KeyringMode=private "
    "grep NoNewPrivs /proc/self/status"
)


def call(*words: str, where: Path = ROOT) -> str:
    done = subprocess.run(words, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun(f"{' '.join(words[:3])} failed: {done.stderr.strip()[-400:]}")
    return done.stdout


def previous_version() -> tuple[str, str]:
    """(commit, version): the newest commit of another version that can build packages."""
    here = VERSION.findall((ROOT / "pyproject.toml").read_text())[0]
    for commit in call("git", "log", "--format=%H", "--", "pyproject.toml").split():
        version = VERSION.findall(call("git", "show", f"{commit}:pyproject.toml"))[0]
        if version != here:
            call("git", "cat-file", "-e", f"{commit}:packaging/build-deb")
            return commit, version
    raise CannotRun("this checkout has no history with an earlier version")


def built(tree: Path) -> list[Path]:
    """Build the packages of a source tree with its own script."""
    call("bash", "packaging/build-deb", where=tree)
    return sorted((tree / "build/packages").glob("*.deb"))


def old_packages() -> list[Path]:
    commit, _ = previous_version()
    place = cache_directory() / "packages" / commit[:12]
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        call("git", "worktree", "add", "--detach", str(place), commit)
        try:
            built(place)
        except CannotRun:
            call("git", "worktree", "remove", "--force", str(place))
            raise
    return sorted((place / "build/packages").glob("*.deb"))


def dependencies() -> list[Path]:
    place = cache_directory() / "packages" / "dependencies"
    if not place.is_dir():
        place.mkdir(parents=True)
        call("apt-get", "download", "-q", *DEPENDENCIES, where=place)
    return sorted(place.glob("*.deb"))


def dpkg(context: Context, words: str, what: str) -> None:
    """Run dpkg as an administrator would; maintainer scripts may not print an error of ours."""
    done = context.run(f"cd {DEBS} && DEBIAN_FRONTEND=noninteractive dpkg --force-confold {words}", timeout=600)
    context.say(f"{what} took {done.seconds:.0f} s")
    wrong = [line for line in done.text.splitlines() if re.search(r"could not be|Traceback|error processing", line)]
    context.expect(not wrong, f"{what}: {wrong}")


def version(context: Context) -> str:
    return context.run("sepolicyd --version").out.split()[-1]


def opened(context: Context, length: str, *options: str) -> float:
    context.run(f"sepolicyd learn start jupyterhub --for {length} {' '.join(options)}", timeout=240)
    context.expect("jupyterhub_t" in permissive(context), "a lease was started and jupyterhub_t is not permissive")
    return time.monotonic()


def still_open(context: Context, what: str) -> None:
    context.expect("jupyterhub_t" in permissive(context), f"{what}: the lease is not open any more")
    context.expect(bool(context.run("ls /var/lib/sepolicyd/rollout/leases").out.strip()), f"{what}: its record is gone")


def nothing_left(context: Context, what: str) -> None:
    """Kernel, store and next boot hold nothing of a lease, and no timer waits."""
    context.expect(closed(context), f"{what}: still permissive: {permissive(context) & OURS}")
    modules = context.run(LEASE_MODULES).out.split()
    context.expect(not modules, f"{what}: left in the store: {modules}")
    booted = context.run("seinfo /etc/selinux/default/policy/policy.* --permissive | tail -n +2").out.split()
    context.expect(not set(booted) & OURS, f"{what}: permissive at the next boot: {booted}")
    timers = context.run("systemctl list-timers --all --no-legend 'sepolicyd*' | cat").out.strip()
    context.expect(not timers, f"{what}: {timers}")
    context.note(f"{what}: enforcing, nothing of a lease in kernel, store and boot policy")


def upgrade_during_a_lease(context: Context) -> None:
    """A lease that the old version opened ends by its deadline under the new one."""
    context.run("sepolicyd init jupyterhub --yes", timeout=900)
    since = opened(context, "4m")
    dpkg(context, "-i sepolicyd*_0.2*.deb", "upgrade during a lease")
    new = VERSION.findall((ROOT / "pyproject.toml").read_text())[0]
    context.expect(version(context) == new, f"after the upgrade it is {version(context)} and not {new}")
    took = time.monotonic() - since
    if took < 220:
        still_open(context, "upgrade")
    context.run("systemctl is-active sepolicyd.service sepolicyd-lease.timer && systemctl is-enabled sepolicyd-boot.service")
    domain = context.run("cat /proc/$(systemctl show -p MainPID --value sepolicyd)/attr/current").out
    context.expect(":sepolicyd_t:" in domain, f"the daemon runs as {domain.strip(chr(0))}")
    wait_closed(context, 240 + 180 - took, "a lease of the old version after the upgrade")
    wait_undone(context, 240)
    context.note(f"upgrade {took:.0f} s into a lease of 240 s: closed {time.monotonic() - since:.0f} s after it was open")


def watched(context: Context) -> None:
    """lease.json, metrics, baseline and journal ids of the installed package, while a lease is open."""
    shown = json.loads(context.run("setpriv --reuid=nobody --clear-groups cat /run/sepolicyd/lease.json").out)
    context.expect(shown["leases"][0]["why"] == "ticket 4711", f"lease.json: {shown}")
    context.run("systemctl start sepolicyd-metrics.service", timeout=120)
    metrics = context.run("cat /run/sepolicyd/sepolicyd.prom").out
    for line in ("sepolicyd_leases 1", 'sepolicyd_baseline_pass{check="permissive-domains"} 1', "sepolicyd_metrics_complete 1"):
        context.expect(line in metrics.splitlines(), f"metrics lack {line}: {metrics[-3000:]}")
    mode = context.run("stat -c %a:%U /run/sepolicyd/sepolicyd.prom").out.strip()
    context.expect(mode == "644:root", f"the metrics file is {mode}")
    done = context.run("sepolicyd doctor --baseline --json", check=False, timeout=120)
    checks = {one["check"]: one for one in json.loads(done.out)["checks"]}
    for check in checks.values():
        context.say(f"{check['check']}: {check['result']} {[one['what'] for one in check['findings']]} {check['notes']}")
    context.expect(checks["enforcing"]["result"] == "pass", f"enforcing: {checks['enforcing']}")
    context.expect("ticket 4711" in str(checks["permissive-domains"]["notes"]), f"{checks['permissive-domains']}")
    context.expect(checks["auditd"]["result"] == "pass", f"auditd: {checks['auditd']}")
    messages = context.run("journalctl -o cat MESSAGE_ID=4325c8c2cb16409bbf64503ec98ae72f").out
    context.expect("jupyterhub" in messages, "the journal has no message of the lease under its id")
    explained = context.run("journalctl -x -o short MESSAGE_ID=4325c8c2cb16409bbf64503ec98ae72f -n 1 --no-pager").out
    context.expect("a service is permissive until a deadline" in explained, f"journalctl -x explains nothing: {explained}")
    privileges = context.run(NO_NEW_PRIVILEGES).out.split()
    context.expect(privileges == ["NoNewPrivs:", "0"], f"the one-shots' options set {privileges}")
    context.note(f"metrics of {len(metrics.splitlines())} lines, baseline exit code {done.rc}")


def play(context: Context) -> None:
    context.mode("Enforcing")
    new, old = built(ROOT), old_packages()
    context.run(f"mkdir -p {DEBS}")
    for deb in (*dependencies(), *old, *new):
        context.machine.put(f"{DEBS}/{deb.name}", deb.read_bytes())
    configure(context)
    dpkg(context, "-i python3-*.deb bzip2_*.deb", "dependencies")
    dpkg(context, "-i sepolicyd_0.1*.deb", "installation of the version before")
    upgrade_during_a_lease(context)

    since = opened(context, "100s", "--reason 'ticket 4711'", "--hidden")
    watched(context)
    dpkg(context, "-i sepolicyd_0.1*.deb", "downgrade during a lease")
    context.expect(version(context).startswith("0.1"), "the downgrade left the new version")
    wait_closed(context, 100 + 180, "a lease of the new version after the downgrade")
    wait_undone(context, 240)
    context.note(f"downgrade during a lease of 100 s: closed {time.monotonic() - since:.0f} s after it was open")
    dpkg(context, "-i sepolicyd*_0.2*.deb", "second upgrade")

    opened(context, "30m")
    dpkg(context, "-r sepolicyd sepolicyd-selinux", "removal during a lease")
    nothing_left(context, "removal during a lease of 30 minutes")
    kept = context.run("ls /var/lib/sepolicyd").out.split()
    context.expect({"decisions", "rollout", "evidence"} <= set(kept), f"removal left {kept} of the records")
    module = context.run("ls -d /var/lib/selinux/default/active/modules/200/sepolicyd 2>/dev/null; true").out.strip()
    context.expect(not module, "removal left the daemon's own module in the store")
    base = context.run("ls -d /var/lib/selinux/default/active/modules/*/jupyterhub 2>/dev/null; true").out.strip()
    context.expect(bool(base), "removal took the service's own policy away")

    dpkg(context, "-i sepolicyd*_0.2*.deb", "installation after a removal")
    opened(context, "30m", "--hidden")
    dpkg(context, "-P sepolicyd sepolicyd-selinux", "purge during a lease")
    nothing_left(context, "purge during a hidden lease of 30 minutes")
    left = context.run(
        "ls -d /var/lib/sepolicyd /etc/sepolicyd /run/sepolicyd /usr/lib/sepolicyd 2>/dev/null; true"
    ).out.split()
    context.expect(not left, f"purge left {left}")
    context.machine.reboot()
    context.mode("Enforcing")
    context.expect(closed(context), f"after purge and reboot permissive: {permissive(context) & OURS}")


SCENARIO = Scenario(
    "package",
    "slim",
    "the Debian packages: installed, upgraded, downgraded, removed and purged during leases; nothing stays permissive",
    play,
    "booted",
)
