"""Attempts to forge a record are reported with count and domain by `analyze`, `status` and `show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Runner

STUDENT = "system_u:system_r:jupyterhub_user_t:s0"
FORGED = "scontext=system_u:system_r:jupyterhub_t:s0"
CONTEXTS = f"scontext={STUDENT} tcontext=system_u:object_r:etc_t:s0"


def avc(serial: int, name: str) -> str:
    stamp = f"msg=audit(1795377192.920:{serial})"
    return (
        f'type=AVC {stamp}: avc:  denied  {{ read }} for  pid=465 comm="python3" name={name} dev="vda" ino=33 {CONTEXTS} '
        f"tclass=file permissive=1\ntype=PROCTITLE {stamp}: proctitle={FORGED.encode().hex().upper()}\n"
    )


def user_avc(serial: int, cmdline: str, contexts: str = CONTEXTS) -> str:
    return (
        f"type=USER_AVC msg=audit(1795377193.1:{serial}): pid=1 uid=0 auid=1 ses=1 subj=system_u:system_r:init_t:s0 "
        f'msg=\'avc:  denied  {{ start }} for auid=1000 uid=1000 gid=1000 cmdline="{cmdline}" {contexts} tclass=service '
        'permissive=0 exe="/usr/lib/systemd/systemd" sauid=0 hostname=? addr=? terminal=?\'\n'
    )


LOG = (
    avc(1, f'"type=AVC&nbsp;{FORGED}"')
    + avc(2, f"type=AVC {FORGED}".encode().hex().upper())
    + avc(3, '"plain"').partition("\n")[0] + "\n"
    + user_avc(4, f"x {FORGED}")
    + user_avc(5, "a\x1db")
    + user_avc(6, f"{FORGED} " + "x" * 1100)
)  # fmt: skip
BY_DOMAIN = {"jupyterhub_user_t": 4, "": 1}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    path = tmp_path / "hostile.log"
    path.write_text(LOG)
    return path


def test_analyze_counts_attempts_by_domain(sepolicyd: Runner, hostile: Path) -> None:
    ran = sepolicyd("analyze", "--grouped", "--all", "--json", hostile)
    document = json.loads(ran.out)
    assert (document["attempts"]["count"], document["attempts"]["by_domain"]) == (5, BY_DOMAIN)
    assert [(one["source"], one["permissions"]) for one in document["candidates"]] == [("jupyterhub_user_t", ["read"])]
    assert "4 of jupyterhub_user_t, 1 of an unknown domain" in ran.err


def test_a_value_that_was_read_does_not_hold_a_rollout_up(sepolicyd: Runner, hostile: Path) -> None:
    """Every student can name a file so; only what was not read may hide a denial."""
    hostile.write_text(avc(1, f'"type=AVC&nbsp;{FORGED}"'))
    assert sepolicyd("run", "--once", "--log", hostile).code == 0
    status = json.loads(sepolicyd("status", "--json").out)
    assert (status["attempts"]["count"], status["taints"]) == (1, [])
    hostile.write_text(user_avc(4, f"x {FORGED}"))
    assert sepolicyd("run", "--once", "--log", hostile).code == 0
    taints = json.loads(sepolicyd("status", "--json").out)["taints"]
    assert "1 line looks like an attempt to forge a record, and the denials in them were not read" in taints


def test_status_and_show_tell_them_after_the_daemon(sepolicyd: Runner, hostile: Path) -> None:
    for _ in range(2):  # what was read once is not counted again
        assert sepolicyd("run", "--once", "--log", hostile).code == 0
    status = json.loads(sepolicyd("status", "--json").out)
    assert (status["attempts"]["count"], status["attempts"]["by_domain"]) == (5, BY_DOMAIN)
    assert len(status["attempts"]["lines"]) == 5
    text = sepolicyd("status").out
    assert "attempts  5 to forge a record (4 of jupyterhub_user_t, 1 of an unknown domain)" in text
    assert "\x1d" not in text
    (candidate,) = json.loads(sepolicyd("list", "--json").out)["candidates"]
    assert (candidate["source"], candidate["attempts"]) == ("jupyterhub_user_t", 4)
    shown = sepolicyd("show", candidate["id"])
    assert "jupyterhub_user_t tried 4 times to forge a record" in shown.out
    assert "1 attempt of an unknown domain" in shown.err
