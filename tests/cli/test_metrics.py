"""The `metrics` command on a captured rollout, checked with Prometheus' own parser; an unwritable /run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Runner
from tests.paths import ROOT
from tests.rollout.metrics.test_metrics import parsed


def labels(**given: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"profile": "jupyterhub", **given}.items()))


def test_the_numbers_are_those_of_status(learned: Runner, prepared: Path) -> None:
    ran = learned("metrics", "--root", prepared)
    assert (ran.code, ran.err) == (0, "")
    found = parsed(ran.out)
    status = json.loads(learned("status", "--root", prepared, "--json").out)
    states = {key[1]: value for key, value in found.items() if key[0] == "sepolicyd_state"}
    assert [dict(key)["state"] for key, value in states.items() if value] == [status["state"]]
    for level, count in status["pending"].items():
        assert found["sepolicyd_pending", labels(level=level)] == count
    assert sum(status["pending"].values()) > 20
    assert found["sepolicyd_denials_total", labels()] == status["counts"]["matched"]
    assert found["sepolicyd_evidence_updated_timestamp_seconds", labels()] == pytest.approx(status["updated"], abs=0.01)
    assert found["sepolicyd_metrics_complete", ()] == 1


def test_it_is_written_where_the_configuration_says(learned: Runner, prepared: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"metrics_file: {tmp_path}/sepolicyd.prom\n")
    ran = learned("metrics", "--write", "--config", config, "--root", prepared)
    assert (ran.code, ran.out) == (0, "")
    assert parsed((tmp_path / "sepolicyd.prom").read_text())["sepolicyd_leases", ()] == 0


@pytest.mark.parametrize("path", ["relative.prom", "/run/x.txt"])
def test_a_name_that_node_exporter_does_not_read_is_refused(sepolicyd: Runner, tmp_path: Path, path: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"metrics_file: {path}\n")
    ran = sepolicyd("metrics", "--write", "--config", config)
    assert ran.code == 2
    assert "must be an absolute path that ends in .prom" in ran.err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_run_that_cannot_be_written_costs_the_file_and_says_why(tmp_path: Path) -> None:
    """A real read-only file system, in a mount namespace of its own."""
    command = [sys.executable, "-m", "sepolicyd", "metrics", "--write", "--state", str(tmp_path / "state")]
    script = f'mkdir -p /run/sepolicyd && mount -t tmpfs -o ro none /run/sepolicyd && cd {ROOT} && exec "$@"'
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "/run/sepolicyd/sepolicyd.prom cannot be written: Read-only file system" in done.stderr
