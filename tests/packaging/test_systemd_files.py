"""sysusers.d, tmpfiles.d and presets, as systemd's own tools carry them out in a root directory."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

SYSTEMD = ROOT / "systemd"
UNITS = (
    *("sepolicyd.service", "sepolicyd-lease.timer", "sepolicyd-boot.service", "sepolicyd-metrics.timer"),
    *("sepolicyd-lease.service", "sepolicyd-metrics.service", "sepolicyd-trial.service"),
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def run(*words: str) -> str:
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    places = {
        "usr/lib/sysusers.d/sepolicyd.conf": "sepolicyd.sysusers",
        "usr/lib/tmpfiles.d/sepolicyd.conf": "sepolicyd.tmpfiles",
        "usr/lib/systemd/system-preset/80-sepolicyd.preset": "sepolicyd.preset",
        **{f"usr/lib/systemd/system/{unit}": unit for unit in UNITS},
    }
    for place, name in places.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SYSTEMD / name, tmp_path / place)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nadm:x:4:syslog\n")
    return tmp_path


@needs_root
def test_the_user_is_made_once_and_reads_the_log_by_its_group(root: Path) -> None:
    for _ in range(2):
        run("systemd-sysusers", f"--root={root}", "sepolicyd.conf")
    (user,) = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines() if line.startswith("sepolicyd:")]
    assert 0 < int(user[2]) < 1000
    assert user[5:] == ["/var/lib/sepolicyd", "/usr/sbin/nologin"]
    groups = {line.split(":")[0]: line.split(":")[3].split(",") for line in (root / "etc/group").read_text().splitlines()}
    assert sorted(groups["adm"]) == ["sepolicyd", "syslog"]


@needs_root
def test_directories_have_their_modes_and_what_is_in_them_stays(root: Path) -> None:
    run("systemd-sysusers", f"--root={root}", "sepolicyd.conf")
    run("systemd-tmpfiles", f"--root={root}", "--create", "sepolicyd.conf")
    modes = {
        path.relative_to(root).as_posix(): (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid == 0)
        for path in (root / "run/sepolicyd", *(root / "var/lib/sepolicyd", *(root / "var/lib/sepolicyd").rglob("*")))
    }
    assert modes == {
        "run/sepolicyd": (0o755, True),
        "var/lib/sepolicyd": (0o755, True),
        "var/lib/sepolicyd/evidence": (0o750, False),
        "var/lib/sepolicyd/decisions": (0o700, True),
        "var/lib/sepolicyd/rollout": (0o700, True),
        "var/lib/sepolicyd/rollout/leases": (0o700, True),
    }
    (root / "var/lib/sepolicyd/rollout/leases/hub.json").write_text("{}")
    run("systemd-tmpfiles", f"--root={root}", "--create", "--remove", "--clean", "sepolicyd.conf")
    assert (root / "var/lib/sepolicyd/rollout/leases/hub.json").exists()


def test_presets_enable_what_ends_leases_and_leave_metrics_alone(root: Path) -> None:
    run("systemctl", f"--root={root}", "preset", *UNITS[:4])
    enabled = {path.name: path.parent.name for path in (root / "etc/systemd/system").rglob("*") if path.is_symlink()}
    assert enabled == {
        "sepolicyd.service": "multi-user.target.wants",
        "sepolicyd-lease.timer": "timers.target.wants",
        "sepolicyd-boot.service": "sysinit.target.wants",
    }
