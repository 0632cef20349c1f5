"""Exports of several hosts: omitted fields, limits of a hostile host, and refused files."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import jsonschema
import pytest

from sepolicyd.access import Access
from sepolicyd.errors import InputError, RefusedError, UsageError
from sepolicyd.fleet import host_export, transfer
from sepolicyd.fleet.host_export import HostExport, PolicyIdentity
from sepolicyd.fleet.merge import MergedEvidence
from sepolicyd.fleet.transfer import ExportRefusal, merge_directory, one_group, store_merge
from sepolicyd.rules.evidence import Evidence
from sepolicyd.state.evidence_reader import read_evidence
from sepolicyd.state.evidence_store import EvidenceStore
from tests.paths import POLICIES

POLICY = PolicyIdentity("a" * 64, "targeted", "fedora 41")
COMMON = Access("jupyterhub_t", "etc_t", "file", "read")
SECOND = Access("jupyterhub_t", "proc_t", "file", "open")
HOSTILE = Access("jupyterhub_t", "shadow_t", "file", "read")


def seen(**details: object) -> Evidence:
    return replace(Evidence(count=2, first=10.0, last=20.0), **details)  # type: ignore[arg-type]


def export(host: str, evidence: dict[Access, Evidence], **changes: object) -> HostExport:
    made = HostExport(
        host=host, machine=hashlib.sha256(host.encode()).hexdigest(), created=100.0, profile="jupyterhub",
        policy=POLICY, evidence={(access, "hub"): one for access, one in evidence.items()}, sepolicyd="0.2.0",
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


class Put(Protocol):
    """Write an export into the directory of exports."""

    def __call__(self, one: HostExport, name: str = "") -> Path: ...


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def written(one: HostExport, name: str = "") -> Path:
        path = tmp_path / f"{name or one.host}.json"
        path.write_bytes(host_export.render(one))
        return path

    return written


def merged(directory: Path) -> MergedEvidence:
    return one_group(merge_directory(directory, None), "")


def test_an_export_is_read_back_as_it_was_written() -> None:
    made = export(
        "hub1", {COMMON: seen(ports=(("dest", 443),), enforced=1), SECOND: seen()}, exercises=("login",), taints=("x",)
    )
    assert host_export.parse(host_export.render(made), "x") == made


def test_an_export_names_no_user() -> None:
    told = seen(
        comms=("alice",), exes=("/home/alice/x",), pids=(77,), paths=("/home/alice/secret",), names=("alice",),
        contexts=(("alice_u:r:t:s0", "u:r:t:s0"),), reasons=("pid of alice",), nodes=("alices-host",), samples=("alice",),
        ports=(("dest", 443),), kinds=("AVC",),
    )  # fmt: skip
    text = host_export.render(export("hub1", {COMMON: host_export.anonymous(told)})).decode()
    assert "alice" not in text
    assert "443" in text


def test_what_one_host_alone_claims_is_never_common(tmp_path: Path, put: Put) -> None:
    for number in range(9):
        put(export(f"hub{number}", {COMMON: seen(ports=(("dest", 443),))}))
    put(export("zz-evil", {COMMON: seen(ports=(("dest", 22),), paths=("/etc/shadow",)), HOSTILE: seen()}))
    found = merged(tmp_path)
    assert found.counts == {COMMON: 10, HOSTILE: 1}
    assert found.claimed_by == {HOSTILE: "zz-evil"}
    common = found.evidence[COMMON, "hub"]
    assert common.ports == (("dest", 443),)
    assert common.paths == ()
    state = tmp_path / "merged"
    store_merge(found, state)
    snapshot = read_evidence(state / "evidence" / "evidence.db")
    assert snapshot.hosts == found.hosts
    assert {access: one.hosts for access, one in snapshot.evidence.items()} == {COMMON: 10, HOSTILE: 1}


def test_a_role_of_one_host_is_left_out_of_a_common_access(tmp_path: Path, put: Put) -> None:
    for number in range(3):
        put(export(f"hub{number}", {COMMON: seen()}))
    put(replace(export("evil", {}), evidence={(COMMON, "student"): seen()}))
    assert {role for _, role in merged(tmp_path).evidence} == {"hub"}


def test_one_host_alone_is_no_merge_of_many(tmp_path: Path, put: Put) -> None:
    put(export("hub1", {COMMON: seen()}))
    found = merged(tmp_path)
    assert not found.claimed_by
    assert found.evidence[COMMON, "hub"].hosts == 0


@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_export_is_refused_or_means_the_same(seed: int) -> None:
    chance = random.Random(seed)
    made = export("hub1", {COMMON: seen(ioctls=(5,)), SECOND: seen()}, taints=("lost",))
    data = bytearray(host_export.render(made))
    if seed % 2:
        del data[chance.randrange(len(data) - 2) :]
    else:
        data[chance.randrange(len(data))] = chance.randrange(256)
    try:
        read = host_export.parse(bytes(data), "x")
    except InputError:
        return
    names = [name for access, _ in read.evidence for name in (access.source, access.target, access.tclass, access.permission)]
    assert all(name.isascii() and name.isprintable() and " " not in name for name in names)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2), ("format", "x"), ("host", "a\u001b[0m"), ("host", "../x"), ("machine", "zz"), ("created", float("nan")),
        ("policy", {}), ("accesses", {}), ("exercises", [1]), ("taints", ["x" * 2000]), ("unknown", 1), ("profile", "a\nb"),
    ],
)  # fmt: skip
def test_values_that_no_export_has_are_refused(key: str, value: object) -> None:
    values = json.loads(host_export.render(export("hub1", {COMMON: seen()})))
    values[key] = value
    with pytest.raises(InputError):
        host_export.parse(json.dumps(values).encode(), "x")


@pytest.mark.parametrize(
    "change",
    [
        {"source": "a; allow x y"}, {"target": "jupyterhub_t"}, {"role": "a\nb"}, {"evidence": {"count": 0}},
        {"evidence": {"count": 1, "hosts": 9}}, {"evidence": {"count": 1, "strange": 1}}, {"evidence": []},
    ],
)  # fmt: skip
def test_accesses_that_no_export_has_are_refused(change: dict[str, object]) -> None:
    values = json.loads(host_export.render(export("hub1", {COMMON: seen()})))
    values["accesses"][0].update(change)
    with pytest.raises(InputError):
        host_export.parse(json.dumps(values).encode(), "x")


def test_hosts_that_cannot_be_told_apart_are_left_out(tmp_path: Path, put: Put) -> None:
    one, two = export("hub1", {COMMON: seen()}), export("hub2", {COMMON: seen()})
    put(one)
    put(replace(one, machine="f" * 64), "other")
    put(two)
    put(replace(two, host="hub3"))
    result = merge_directory(tmp_path, None)
    assert not result.groups
    assert [(one.file, one.refusal) for one in result.refused] == [
        ("hub1.json", ExportRefusal.SAME_NAME),
        ("hub2.json", ExportRefusal.SAME_MACHINE),
        ("hub3.json", ExportRefusal.SAME_MACHINE),
        ("other.json", ExportRefusal.SAME_NAME),
    ]


def test_the_newest_export_of_a_host_counts(tmp_path: Path, put: Put) -> None:
    put(export("hub1", {HOSTILE: seen()}), "old")
    put(replace(export("hub1", {COMMON: seen()}), created=200.0), "new")
    result = merge_directory(tmp_path, None)
    assert [one.refusal for one in result.refused] == [ExportRefusal.SUPERSEDED]
    assert set(one_group(result, "").counts) == {COMMON}


def test_another_base_policy_is_another_group(tmp_path: Path, put: Put) -> None:
    put(export("hub1", {COMMON: seen()}))
    put(replace(export("hub2", {COMMON: seen()}), policy=replace(POLICY, base_modules="b" * 64)))
    result = merge_directory(tmp_path, None)
    with pytest.raises(RefusedError, match="hub2"):
        one_group(result, "")
    assert one_group(result, "bbb").hosts == ("hub2",)


def test_signatures_bind_a_file_to_its_host(tmp_path: Path, put: Put) -> None:
    from sepolicyd.fleet import signature

    keys = tmp_path / "keys"
    keys.mkdir()
    listed = []
    for host in ("hub1", "hub2"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / host)], check=True)
        listed.append(f"{host} {(keys / f'{host}.pub').read_text().strip()}\n")
    signers = keys / "allowed"
    signers.write_text("".join(listed))
    signature.sign(put(export("hub1", {COMMON: seen()})), keys / "hub1")
    signature.sign(put(replace(export("hub2", {COMMON: seen()}))), keys / "hub1")  # hub1 speaks for hub2
    put(export("hub3", {COMMON: seen()}))
    changed = put(export("hub4", {COMMON: seen()}))
    signature.sign(changed, keys / "hub1")
    changed.write_bytes(changed.read_bytes().replace(b"etc_t", b"etc_u"))
    result = merge_directory(tmp_path, signers)
    assert one_group(result, "").hosts == ("hub1",)
    assert [(one.file, one.refusal) for one in result.refused] == [
        ("hub2.json", ExportRefusal.FORGED),
        ("hub3.json", ExportRefusal.UNSIGNED),
        ("hub4.json", ExportRefusal.FORGED),
    ]


def test_nothing_is_written_for_a_key_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a file"):
        transfer.write_export(export("hub1", {COMMON: seen()}), tmp_path / "hub1.json", tmp_path / "nokey")
    assert not list(tmp_path.iterdir())


def test_no_daemon_writes_into_a_merge(tmp_path: Path, put: Put) -> None:
    put(export("hub1", {COMMON: seen()}))
    path = store_merge(merged(tmp_path), tmp_path / "merged")
    with pytest.raises(UsageError, match="several hosts"):
        EvidenceStore(path, "jupyterhub")
    with pytest.raises(RefusedError, match="exists"):
        store_merge(merged(tmp_path), tmp_path / "merged")


def test_the_schema_describes_what_is_written() -> None:
    schema = json.loads((POLICIES / "schema/evidence.schema.json").read_text(encoding="utf-8"))
    full = seen(
        comms=("c",), exes=("/e",), pids=(1,), paths=("/p",), names=("n",), contexts=(("a", "b"),), reasons=("r",),
        nodes=("n",),
        times=((8, 4),), samples=("s",), ports=(("dest", 1),), ioctls=(2,), syscalls=("open",), kinds=("AVC",), roles=("hub",),
        exercises=("x",), taints=("t",), enforced=1,
    )  # fmt: skip
    made = export("hub1", {COMMON: full}, exercises=("login",), taints=("t",))
    jsonschema.validate(json.loads(host_export.render(made)), schema)
    described = schema["properties"]["accesses"]["items"]["properties"]["evidence"]["properties"]
    assert set(described) == set(Evidence.__dataclass_fields__) - {"hosts"}
    assert set(schema["properties"]) == set(schema["required"]) == set(json.loads(host_export.render(made)))


def test_a_file_that_changes_after_it_was_checked_is_not_merged(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(export("hub1", {COMMON: seen()}))
    distinct = transfer._distinct

    def exchanged(*given: Any) -> Any:
        path.write_bytes(host_export.render(export("hub1", {HOSTILE: seen()})))
        return distinct(*given)

    monkeypatch.setattr(transfer, "_distinct", exchanged)
    with pytest.raises(InputError, match="changed while it was read"):
        merge_directory(tmp_path, None)
