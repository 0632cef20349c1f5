"""The systemd units, and installation and removal under DESTDIR."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sepolicyd.rollout.lease.lease import DEFAULT_DIR, MODULE_PREFIX
from sepolicyd.rollout.lease.lease_records import LeaseBook
from tests.paths import ROOT

UNITS = [
    *sorted(path.name for path in (ROOT / "systemd").glob("*.service")),
    "sepolicyd-lease.timer",
    "sepolicyd-metrics.timer",
]
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def directives(unit: str) -> dict[str, list[str]]:
    """Every Key=value of a unit."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "systemd" / unit).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def here(unit: str) -> str:
    """A unit with programs that exist, instead of those that `make install` places."""
    text = (ROOT / "systemd" / unit).read_text().replace("/usr/lib/sepolicyd/bin/python3", "/usr/bin/python3")
    return text.replace("/usr/lib/sepolicyd/sepolicyd-run", "/bin/true")


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_it(unit: str, tmp_path: Path) -> None:
    for name in UNITS:
        (tmp_path / name).write_text(here(name))
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "sepolicyd" in line]
    assert (done.returncode, ours) == (0, [])


def cycles(units: Path) -> str:
    """What systemd says of ordering cycles when the machine boots with these units enabled."""
    for unit, target in (
        ("sepolicyd-boot.service", "sysinit"),
        ("sepolicyd-lease.timer", "timers"),
        ("sepolicyd.service", "multi-user"),
    ):
        wants = units / f"{target}.target.wants"
        wants.mkdir(exist_ok=True)
        if not (wants / unit).is_symlink():
            (wants / unit).symlink_to(f"../{unit}")
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", "multi-user.target"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{units}:", "LC_ALL": "C.UTF-8"},
    )
    return "\n".join(line for line in done.stderr.splitlines() if "cycle" in line)


@needs_systemd
def test_a_boot_with_them_has_no_ordering_cycle(tmp_path: Path) -> None:
    for name in UNITS:
        (tmp_path / name).write_text(here(name))
    assert cycles(tmp_path) == ""
    boot = tmp_path / "sepolicyd-boot.service"
    boot.write_text(boot.read_text().replace("Before=sysinit.target", "After=multi-user.target\nBefore=sysinit.target"))
    if "sepolicyd" not in cycles(tmp_path):
        pytest.skip("this systemd-analyze finds no cycles here")


@needs_systemd
def test_the_daemon_is_confined() -> None:
    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=true", str(ROOT / "systemd/sepolicyd.service")],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"},
    )
    match = re.search(r"Overall exposure level for sepolicyd.service: ([0-9.]+)", done.stdout)
    assert match is not None, done.stderr
    assert float(match.group(1)) < 2.0


def test_the_daemon_is_not_root_and_writes_evidence_only() -> None:
    said = directives("sepolicyd.service")
    assert said["User"] == ["sepolicyd"]
    assert said["Type"] == ["notify"]
    assert "WatchdogSec" in said
    assert said["ReadWritePaths"] == ["/var/lib/sepolicyd/evidence"]
    assert said["CapabilityBoundingSet"] == [""]


def test_what_ends_leases_each_minute_looks_where_leases_are() -> None:
    said = directives("sepolicyd-lease.service")
    assert said["ConditionDirectoryNotEmpty"] == [f"|{LeaseBook(DEFAULT_DIR).undo_dir}"]
    assert said["ConditionPathExistsGlob"] == [
        f"|{root}/*/active/modules/*/{MODULE_PREFIX}*" for root in ("/var/lib/selinux", "/etc/selinux")
    ]
    assert said["ConditionPathExists"] == [f"|{LeaseBook(DEFAULT_DIR).history_path}"]


def test_nothing_but_a_kernel_without_selinux_skips_what_ends_leases_at_boot() -> None:
    """The policy file alone may be permissive: neither records nor modules nor history tell of it then."""
    said = directives("sepolicyd-boot.service")
    assert [key for key in said if key.startswith("Condition")] == ["ConditionSecurity"]
    assert said["ConditionSecurity"] == ["selinux"]


def test_rescue_mode_keeps_the_minute_s_timer() -> None:
    assert directives("sepolicyd-lease.timer")["IgnoreOnIsolate"] == ["yes"]


@pytest.mark.parametrize("unit", ["sepolicyd-boot.service", "sepolicyd-lease.service"])
def test_what_ends_leases_is_isolated_python_without_a_sandbox(unit: str) -> None:
    said = directives(unit)
    assert said["ExecStart"][0].endswith("-I -m sepolicyd.rollout.lease")
    # semodule changes its domain at exec
    assert not {"NoNewPrivileges", "PrivateTmp", "ProtectSystem", "SystemCallFilter", "User"} & set(said)


def test_the_boot_unit_comes_before_every_ordinary_service() -> None:
    said = directives("sepolicyd-boot.service")
    assert "sysinit.target" in said["Before"][0].split()
    assert said["DefaultDependencies"] == ["no"]
    assert said["WantedBy"] == ["sysinit.target"]
    assert "local-fs.target" in said["After"][0].split()


def test_a_trial_is_looked_at_when_leases_are() -> None:
    from sepolicyd.rollout.apply.trial import FILE

    assert directives("sepolicyd-trial.service")["ConditionPathExists"] == [f"/var/lib/sepolicyd/rollout/{FILE}"]
    for unit in ("sepolicyd-boot.service", "sepolicyd-lease.service"):
        assert directives(unit)["Wants"] == ["sepolicyd-trial.service"]


STARTS = re.compile(r"(?m)^(?!\s*#).*python3?\"?(?=\s).*$")


def test_every_program_of_root_is_started_isolated() -> None:
    """Neither the working directory nor PYTHONPATH may add modules to what root, or the daemon, runs."""
    scripts = [ROOT / "systemd" / name for name in ("activate", "sepolicyd-run", *UNITS)]
    packaged = ("install-data", "debian/sepolicyd.postinst", "debian/sepolicyd.prerm", "rpm/sepolicyd.spec")
    scripts += [ROOT / "packaging" / name for name in packaged]
    lines = [line for path in scripts for line in STARTS.findall(path.read_text()) if "-m " in line or line.startswith("#!")]
    run = [line for line in lines if "sepolicyd" in line and not re.search(r"-m (pip|tools\.)", line)]
    assert len(run) >= 6
    assert [line for line in run if " -I" not in line] == []
    assert (ROOT / "systemd/sepolicyd-run").read_text().splitlines()[0] == "#!/usr/lib/sepolicyd/bin/python3 -I"
    assert "bin/python3 -I -m sepolicyd" in (ROOT / "systemd/install.mk").read_text()


def test_what_is_not_the_distribution_s_is_pinned_with_hashes() -> None:
    asked = [line for line in (ROOT / "packaging/requirements.in").read_text().splitlines() if not line.startswith("#")]
    pyproject = (ROOT / "pyproject.toml").read_text()
    (wanted,) = re.findall(r"(?m)^dependencies = \[(.*)\]$", pyproject)
    assert sorted(asked) == sorted(word.strip().strip('"') for word in wanted.split(","))
    for name in ("requirements.txt", "requirements-build.txt"):
        text = (ROOT / "packaging" / name).read_text().replace("\\\n", " ")
        entries = [line for line in text.splitlines() if line.strip()]
        assert entries
        for entry in entries:
            assert re.match(r"[a-z0-9-]+==[0-9.]+ ", entry), entry
            assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry
        names = {re.split("==", entry)[0] for entry in entries}
        assert {re.split(">=", line)[0].lower() for line in asked} <= names or name != "requirements.txt"
    assert "--require-hashes --only-binary=:all:" in (ROOT / "packaging/python-environment").read_text()


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "--no-print-directory", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def can_install() -> bool:
    code = "import venv, ensurepip, setuptools, wheel"
    return subprocess.run(["/usr/bin/python3", "-W", "ignore", "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_install(), reason="/usr/bin/python3 has no venv, pip or setuptools")
def test_install_places_all_of_it_and_uninstall_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    done = make("install", f"DESTDIR={root}", "PIP_FLAGS=--no-index --no-deps --no-build-isolation")
    assert done.returncode == 0, done.stderr
    for unit in UNITS:
        assert (root / "usr/lib/systemd/system" / unit).is_file()
    for name in ("usr/bin/sepolicyd", "usr/lib/sysusers.d/sepolicyd.conf", "usr/lib/tmpfiles.d/sepolicyd.conf"):
        assert (root / name).is_file()
    assert (root / "usr/share/sepolicyd/policies/guard.yaml").is_file()
    python = root / "usr/lib/sepolicyd/bin/python3"
    check = [str(python), "-I", "-m", "sepolicyd.rollout.lease", "--check", "--dir", str(tmp_path / "state")]
    assert subprocess.run(check, cwd="/", check=False).returncode == 0
    # nothing that is run names DESTDIR: what is placed works where it will stand
    assert str(root) not in (root / "usr/bin/sepolicyd").read_text()
    launcher = root / "usr/lib/sepolicyd/sepolicyd-run"
    assert launcher.stat().st_mode & 0o777 == 0o755
    assert str(root) not in launcher.read_text()
    words = [str(python), "-I", str(launcher), "--help"]
    assert subprocess.run(words, cwd="/", capture_output=True, check=False).returncode == 0
    scripts = [path.name for path in (root / "usr/lib/sepolicyd/bin").iterdir()]
    assert all(name.startswith("python") for name in scripts)
    done = make("uninstall", f"DESTDIR={root}")
    assert done.returncode == 0, done.stderr
    assert [path for path in root.rglob("*") if not path.is_dir()] == []


def test_another_prefix_reaches_the_units() -> None:
    done = make("-n", "install", "DESTDIR=/x", "PREFIX=/opt")
    assert "s,/usr/lib/sepolicyd,/opt/lib/sepolicyd,g" in done.stdout


ENDERS = ("sepolicyd-lease.service", "sepolicyd-boot.service", "sepolicyd-trial.service")
# none of them implies NoNewPrivileges= for a root unit, needs a namespace, or keeps alert_command from the network
HARMLESS = {"LockPersonality", "RestrictRealtime", "KeyringMode"}
SERVICE = {"Type", "ExecStart", "ExecStopPost", "RemainAfterExit", "TimeoutStartSec", "SuccessExitStatus", "LogLevelMax"}


@pytest.mark.parametrize("unit", ENDERS)
def test_what_ends_a_lease_has_no_sandbox_that_could_stop_semodule(unit: str) -> None:
    service = (ROOT / "systemd" / unit).read_text().partition("[Service]")[2].partition("\n[")[0]
    keys = set(re.findall(r"(?m)^([A-Z]\w+)=", service))
    assert keys <= SERVICE | HARMLESS


@needs_systemd
@pytest.mark.parametrize(("unit", "tenths"), [("sepolicyd.service", 5), ("sepolicyd-metrics.service", 24)])
def test_the_exposure_of_a_unit_is_what_the_documents_say(unit: str, tenths: int, tmp_path: Path) -> None:
    (tmp_path / unit).write_text(here(unit))
    words = [str(ANALYZE), "security", "--offline=yes", f"--threshold={tenths}", "--no-pager", str(tmp_path / unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "nrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze has no --offline")
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    assert f"{tenths / 10:.1f}" in (ROOT / "docs/install.md").read_text(encoding="utf-8")
