"""Read and write evidence files: export from this host, read the exports of a directory, store a merge for review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Optional

from sepolicyd import __version__
from sepolicyd.errors import InputError, RefusedError, StateError
from sepolicyd.fleet import host_export, signature
from sepolicyd.fleet.host_export import HostExport
from sepolicyd.fleet.merge import MergedEvidence, Merger
from sepolicyd.fleet.policy_identity import machine_hash, policy_identity
from sepolicyd.fleet.signature import SignatureState
from sepolicyd.rollout.apply.versions import sha256
from sepolicyd.rollout.learning.coverage import assign_exercises
from sepolicyd.rollout.session import Session
from sepolicyd.state.evidence_store import Batch, EvidenceStore
from sepolicyd.storage.files import write_whole

PATTERN = "*.json"


class ExportRefusal(str, Enum):
    """Reason why an export is not merged."""

    UNREADABLE = "unreadable"
    UNSIGNED = "unsigned"
    FORGED = "forged"
    """The signature does not belong to the host named in the export."""
    SAME_NAME = "same-name"
    """Two machines have this host name."""
    SAME_MACHINE = "same-machine"
    """One machine exported under two host names."""
    SUPERSEDED = "superseded"
    """A newer export of the same host exists."""


@dataclass(frozen=True)
class RefusedExport:
    """An export that was not merged."""

    file: str
    refusal: ExportRefusal
    text: str
    """One sentence with the fault and the remedy."""


@dataclass(frozen=True)
class MergeResult:
    """Merged evidence by profile and base policy, and the refused exports."""

    groups: tuple[MergedEvidence, ...]
    refused: tuple[RefusedExport, ...]
    signed: bool
    """Whether every export was checked against a list of allowed signers."""


@dataclass(frozen=True)
class _Stub:
    """Part of an export that is compared with all others before the merge."""

    file: Path
    digest: str
    """SHA-256 of the checked content, because the merge reads the file again."""
    host: str
    machine: str
    created: float


def export_of(session: Session, host: str, now: float, *, details: bool) -> HostExport:
    """Return the evidence of one profile on this machine.

    :param now: epoch seconds
    :param details: keep paths, names, commands, contexts and raw records
    :raises RefusedError: there is no evidence, the evidence is a merge, or the host name is invalid
    :raises InputError: the policy store cannot be identified
    """
    snapshot = session.snapshot()
    if not snapshot.present:
        raise RefusedError(f"no evidence yet in {session.settings.evidence_db}", "let the daemon collect some: sepolicyd run")
    if snapshot.hosts:
        raise RefusedError(f"{session.settings.evidence_db} was merged from other hosts", "export on each host")
    if not host_export.HOST_NAME.match(host):
        raise RefusedError(f"{host!r} is not a valid host name", "give another with --host NAME")
    marks = session.marks()
    evidence = assign_exercises(snapshot.by_role, marks)
    if not details:
        evidence = {key: host_export.anonymous(seen) for key, seen in evidence.items()}
    return HostExport(
        host=host,
        machine=machine_hash(Path("/")),
        created=now,
        profile=session.profile.name,
        policy=policy_identity(session.settings.root),
        evidence=evidence,
        exercises=tuple(dict.fromkeys(mark.name for mark in marks)),
        taints=snapshot.taints,
        sepolicyd=__version__,
    )


def write_export(export: HostExport, file: Path, key: Optional[Path]) -> None:
    """Write an export, and its signature if a key is given.

    :raises InputError: the key does not exist; nothing was written
    :raises StateError: the export could not be written
    """
    if key is not None:
        signature.check_key(key)
    write_whole(file, host_export.render(export), mode=0o644)
    if key is not None:
        signature.sign(file, key)


def merge_directory(directory: Path, allowed_signers: Optional[Path]) -> MergeResult:
    """Merge all exports in a directory. Invalid exports are skipped and listed in the result.

    Each file is read twice, so only one export is in memory at a time.

    :param allowed_signers: None accepts unsigned exports too
    :raises InputError: the directory holds no export, a file changes meanwhile, or the list of allowed signers is missing
    """
    files = sorted(directory.glob(PATTERN))
    if not files:
        raise InputError(f"{directory} holds no {PATTERN}", "copy the files of `sepolicyd evidence export` there")
    refused: list[RefusedExport] = []
    stubs = [stub for stub in (_stub(file, allowed_signers, refused) for file in files) if stub is not None]
    mergers: dict[tuple[object, ...], Merger] = {}
    for stub in _distinct(stubs, refused):
        content = _content(stub.file)
        if sha256(content) != stub.digest:
            raise InputError(f"{stub.file} changed while it was read", "merge again when the directory no longer changes")
        export = host_export.parse(content, stub.file.name)
        mergers.setdefault((export.profile, export.policy), Merger(export.profile, export.policy)).add(export)
    groups = sorted((one.merged() for one in mergers.values()), key=lambda one: (-len(one.hosts), one.profile, one.policy))
    return MergeResult(tuple(groups), tuple(sorted(refused, key=lambda one: one.file)), allowed_signers is not None)


def _stub(file: Path, allowed_signers: Optional[Path], refused: list[RefusedExport]) -> Optional[_Stub]:
    """Read and check one file without its evidence; return None if it was refused."""
    try:
        content = _content(file)
        export = host_export.parse(content, file.name)
    except InputError as wrong:
        refused.append(RefusedExport(file.name, ExportRefusal.UNREADABLE, wrong.what))
        return None
    if allowed_signers is not None:
        state = signature.verify(file, content, export.host, allowed_signers)
        if state is SignatureState.MISSING:
            refused.append(RefusedExport(file.name, ExportRefusal.UNSIGNED, f"it is not signed by {export.host}"))
            return None
        if state is SignatureState.INVALID:
            text = f"it was changed, or signed by a key that is not listed for {export.host}"
            refused.append(RefusedExport(file.name, ExportRefusal.FORGED, text))
            return None
    return _Stub(file, sha256(content), export.host, export.machine, export.created)


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(host_export.MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{file.name} cannot be read: {error.strerror}", "check its permissions") from None


def _distinct(stubs: Sequence[_Stub], refused: list[RefusedExport]) -> list[_Stub]:
    """Return the newest export of each host, without ambiguous hosts."""
    machines: dict[str, set[str]] = {}
    names: dict[str, set[str]] = {}
    for stub in stubs:
        machines.setdefault(stub.host, set()).add(stub.machine)
        names.setdefault(stub.machine, set()).add(stub.host)
    newest: dict[str, _Stub] = {}
    for stub in sorted(stubs, key=lambda one: (one.created, one.file.name)):
        if len(machines[stub.host]) > 1:
            text = f"{len(machines[stub.host])} machines are named {stub.host}: export again with --host NAME"
            refused.append(RefusedExport(stub.file.name, ExportRefusal.SAME_NAME, text))
        elif len(names[stub.machine]) > 1:
            text = f"one machine id under the names {', '.join(sorted(names[stub.machine]))}: systemd-machine-id-setup(1)"
            refused.append(RefusedExport(stub.file.name, ExportRefusal.SAME_MACHINE, text))
        else:
            older = newest.get(stub.host)
            if older is not None:
                text = f"{stub.file.name} of {stub.host} is newer"
                refused.append(RefusedExport(older.file.name, ExportRefusal.SUPERSEDED, text))
            newest[stub.host] = stub
    return sorted(newest.values(), key=lambda one: one.file.name)


def store_merge(merged: MergedEvidence, state: Path) -> Path:
    """Write a merge as the evidence of a state directory, for `list`, `show` and `review`.

    :raises RefusedError: the directory already holds evidence
    :raises StateError: the evidence could not be written
    """
    path = state / "evidence" / "evidence.db"
    if path.exists():
        raise RefusedError(f"{path} exists already", "give a new directory with --into DIR")
    batch = Batch(evidence=dict(merged.evidence))
    batch.counts["matched"] = sum(seen.count for seen in merged.evidence.values())
    try:
        store = EvidenceStore(path, merged.profile)
    except OSError as error:
        raise StateError(f"{path} cannot be created: {error.strerror}", "give another directory with --into DIR") from None
    try:
        # first the mark: after a crash between the two steps no daemon may treat the rest as its own evidence
        store.mark_merged(merged.hosts)
        store.save(batch, {})
    finally:
        store.close()
    return path


def one_group(result: MergeResult, wanted: str) -> MergedEvidence:
    """Return the group of hosts to review.

    :param wanted: beginning of the hash of a base policy, "" if there is only one group
    :raises RefusedError: there are several base policies or profiles, and none was chosen
    """
    found = [group for group in result.groups if group.policy.base_modules.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not result.groups:
        raise RefusedError("no export can be used", "see the reasons above")
    if not found:
        raise RefusedError(
            f"no host has a base policy whose hash begins with {wanted}", "run the command without it for a list"
        )
    listed = "; ".join(f"{group.policy}, profile {group.profile}: {', '.join(group.hosts[:5])}" for group in result.groups)
    raise RefusedError(
        f"{len(result.groups)} groups of hosts with different policies: {listed}",
        "choose one with --policy HASH, and put the exports of each profile into a separate directory",
    )
