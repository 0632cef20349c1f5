"""The commands from decisions to a policy store, and the demo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sepolicyd.cli.demo import careful
from tests.cli.conftest import Runner

pytestmark = pytest.mark.toolchain


def test_apply_rollback_and_history(learned: Runner, prepared: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(prepared, root, symlinks=True)
    candidates = json.loads(learned("list", "--json", "--root", root).out)["candidates"]
    allowed = [one["id"] for one in candidates if one["approvable"] and one["fix"]["kind"] == "allow"]
    assert len(allowed) > 2
    assert learned("approve", *allowed, "--root", root, "--reason", "test").code == 0
    decided = {
        (one["source"], one["target"], one["class"], permission)
        for one in candidates
        if one["id"] in allowed
        for permission in one["permissions"]
    }

    preview = json.loads(learned("preview", "--json", "--root", root).out)
    gained = {tuple(line["access"].replace(":", " ").split()) for line in preview["gained"]}
    assert gained == decided
    assert all(line["decision"] for line in preview["gained"])

    applied = json.loads(learned("apply", "--json", "--yes", "--root", root).out)
    assert (applied["version"], applied["changed"]) == (1, True)
    again = json.loads(learned("apply", "--json", "--yes", "--root", root).out)
    assert again["changed"] is False

    assert learned("rollback", "--root", root, "--reason", "test").code == 0
    assert learned("history", "--verify").code == 0
    assert [entry["what"] for entry in json.loads(learned("history", "--json").out)][-2:] == ["apply", "rollback"]
    status = json.loads(learned("status", "--json", "--root", root).out)
    assert status["version"] == 0
    asked = {one["id"] for one in json.loads(learned("list", "--all", "--json", "--root", root).out)["candidates"]}
    assert set(allowed) <= asked  # the store allows them no longer


def test_no_store(learned: Runner, tmp_path: Path) -> None:
    ran = learned("preview", "--root", tmp_path / "nothing")
    assert ran.code in (1, 3)
    assert str(tmp_path / "nothing") in ran.err
    assert "Traceback" not in ran.err


def test_no_checkmodule(learned: Runner, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("semodule", "make", "m4"):
        found = shutil.which(name, path="/usr/sbin:/usr/bin")
        if found:
            (tools / name).symlink_to(found)
    candidates = json.loads(learned("list", "--json", "--root", prepared).out)["candidates"]
    first = next(one["id"] for one in candidates if one["approvable"] and one["fix"]["kind"] == "allow")
    assert learned("approve", first, "--root", prepared, "--reason", "test").code == 0
    monkeypatch.setenv("SEPOLICYD_PATH", str(tools))
    ran = learned("preview", "--root", prepared)
    assert ran.code == 3
    assert "checkmodule is not installed" in ran.err
    assert "checkpolicy" in ran.err


@pytest.mark.slow
def test_the_demo_ends_with_nothing_pending(sepolicyd: Runner, tmp_path: Path) -> None:
    ran = sepolicyd("demo", "--keep", tmp_path / "demo")
    assert ran.code == 0, ran.err
    assert "\n0 pending." in ran.out
    assert "each covered by a decision" in ran.out
    assert (tmp_path / "demo/root/var/lib/selinux").is_dir()
    assert careful.__doc__
