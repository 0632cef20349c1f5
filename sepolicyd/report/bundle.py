"""Collect the records of a rollout in one file that tools/verify_bundle.py verifies without sepolicyd (docs/bundle.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from sepolicyd import __version__
from sepolicyd.access import Access
from sepolicyd.errors import SepolicydError, StateError
from sepolicyd.fleet import host_export
from sepolicyd.fleet.transfer import export_of
from sepolicyd.module.source import SourceText, render
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.report.archive import canonical, content_hash, pack
from sepolicyd.report.collect import changed_since, check_profile, record_faults
from sepolicyd.report.version_history import gained_by
from sepolicyd.rollout.apply.desired_policy import desired_policy
from sepolicyd.rollout.apply.versions import NONE, Version, Versions, module_name
from sepolicyd.rollout.history import FILE, HEAD, Entry, History, HistoryEvent
from sepolicyd.rollout.lease import exercises
from sepolicyd.rollout.lease.lease_records import LeaseBook
from sepolicyd.rollout.session import Session, open_policy
from sepolicyd.rollout.status import check_readable
from sepolicyd.state.decisions import DecisionStore

FORMAT = "sepolicyd-bundle"
VERSION = 1
BASE_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}\Z")
NOT_REBUILT = (
    "the text of version {} does not follow from the decisions: it was altered, or written by another version of sepolicyd;"
    " apply again"
)
TRIED = 200  # decisions before the version that are tried as its last decision


@dataclass(frozen=True)
class Bundle:
    """The bundle file, with notes for the user."""

    data: bytes
    seal: str
    """SHA-256 of the chain. It identifies the bundle even if all hashes in it were recomputed."""
    notes: tuple[str, ...]
    files: int
    sound: bool
    """Whether the text of the installed version follows from the decisions and the histories are whole; if not, the bundle
    does not verify."""


@dataclass(frozen=True)
class _Origin:
    """Origin of the text of the installed version."""

    name: str
    """apply (from decisions), part (a rollback wrote part of an earlier version), none (no version is installed)."""
    decisions: int = 0
    """Number of the last decision that the text includes."""
    mls: bool = True
    left_out: tuple[Access, ...] = ()
    rebuilt: bool = True


def make_bundle(session: Session, now: float, *, details: bool) -> Bundle:
    """Read the records and pack them. The same records give the same bytes, except for the time.

    :param now: epoch seconds
    :param details: keep paths, commands, contexts and raw records in the evidence; they name users
    :raises RefusedError: only root can read the records, or they belong to another service
    :raises StateError: a record is damaged
    """
    check_readable(session)
    check_profile(session, session.snapshot())
    settings, module = session.settings, module_name(session.profile.name)
    versions = Versions(settings.rollout_dir, module)
    entries = [entry for entry in History(settings.rollout_dir).entries() if entry.module == module]
    version = versions.load(versions.current())
    policy, _ = open_policy(settings, None)
    store = session.decisions()
    try:
        rows, origin = store.rows(), _origin(store, versions, version, entries)
    finally:
        store.close()
    evidence, notes = _evidence(session, now, details=details)
    changed, faults = changed_since(session, entries), record_faults(session)
    notes += [changed] if changed else []
    notes += [*faults] if origin.rebuilt else [NOT_REBUILT.format(version.number), *faults]
    difference = {
        "version": version.number,
        "gained": sorted(map(str, gained_by(entries, versions))),
        "left_out": sorted(map(str, origin.left_out)),
        "changes": [str(change) for change in version.changes],
    }
    about = {
        "format": FORMAT, "version": VERSION, "sepolicyd": __version__, "service": session.profile.name, "module": module,
        "created": now, "installed": version.number, "origin": origin.name, "decisions": origin.decisions, "mls": origin.mls,
        "policy": {"linked": _linked(entries), "changed": bool(changed)}, "aliases": _aliases(version, policy), "notes": notes,
    }  # fmt: skip
    files = {
        "decisions.jsonl": b"".join(canonical(row) + b"\n" for row in rows),
        "difference.json": canonical(difference) + b"\n",
        **evidence,
        **_records(session),
        **_versions(versions, version.number),
        **_base(session),
    }
    about["content"] = content_hash(files)
    data, seal = pack({"bundle.json": canonical(about) + b"\n", **files})
    return Bundle(data, seal, tuple(notes), len(files) + 1, origin.rebuilt and not faults)


def _evidence(session: Session, now: float, *, details: bool) -> tuple[dict[str, bytes], list[str]]:
    node = os.uname().nodename
    try:
        export = export_of(session, node if host_export.HOST_NAME.match(node) else "localhost", now, details=details)
    except SepolicydError as error:
        return {}, [f"without evidence: {error.what}"]
    return {"evidence.json": host_export.render(export)}, []


def _records(session: Session) -> dict[str, bytes]:
    """Return the unchanged history files, with their heads."""
    directory = session.settings.rollout_dir
    leases = LeaseBook(directory)
    paths = {
        "exercises.jsonl": exercises.path(session.settings.state),
        "history.jsonl": directory / FILE,
        "history.head": directory / HEAD,
        "leases.jsonl": leases.history_path,
        "leases.head": leases.chain.head_path,
    }
    found = {name: _read(path) for name, path in paths.items()}
    required = {"history.jsonl": b"", "leases.jsonl": b"", "exercises.jsonl": b""}
    return {
        name: data
        for name, content in found.items()
        if (data := required.get(name) if content is None else content) is not None
    }


def _read(path: Path) -> Optional[bytes]:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}", "run this as root") from None


def _versions(versions: Versions, installed: int) -> dict[str, bytes]:
    """Read description and source of every kept version, and the package of the installed one."""
    files = {}
    for number in versions.numbers():
        place = versions.directory / str(number)
        wanted = {"module.te": f"{versions.name}.te", "module.fc": f"{versions.name}.fc", "version.json": "version.json"}
        for name, file in wanted.items():
            content = _read(place / file)
            if content is None:
                raise StateError(f"{place / file} is missing", "restore it from a backup")
            files[f"versions/{number}/{name}"] = content
        if number == installed:
            files[f"versions/{number}/module.pp"] = versions.package(number, versions.name)
    return files


def _base(session: Session) -> dict[str, bytes]:
    """Read the profile and the sources of the base module."""
    found = {}
    for path in sorted(session.profile.directory.iterdir()):
        if path.suffix in (".te", ".fc", ".if", ".yaml") and path.is_file() and BASE_FILE.match(path.name):
            found[f"base/{path.name}"] = _read(path) or b""
    return found


def _linked(entries: list[Entry]) -> str:
    """Return the SHA-256 of the policy that the last apply linked, "" after a rollback, which records no hash."""
    last = next((one for one in reversed(entries) if one.what is not HistoryEvent.CONFIRM), None)
    return "" if last is None else str(last.details.get("policy", ""))


def _aliases(version: Version, policy: Optional[PolicyIndex]) -> Mapping[str, str]:
    """Return the aliases in the rules with their types, because the policy difference uses only type names."""
    if policy is None:
        return {}
    names = {name for rule in version.rules for name in (rule.access.source, rule.access.target_type)}
    return {name: policy.aliases[name] for name in sorted(names) if name in policy.aliases}


def _origin(store: DecisionStore, versions: Versions, version: Version, entries: list[Entry]) -> _Origin:
    """Find the decisions behind the text of the installed version, by rendering it again."""
    if version.number == NONE:
        return _Origin("none")
    directory = versions.directory / str(version.number)
    te, fc = _read(directory / f"{versions.name}.te"), _read(directory / f"{versions.name}.fc")
    for mls in (True, False):
        whole = render(versions.name, version.number, version.rules, version.contexts, version.transitions, mls=mls)
        if not any(one.what is HistoryEvent.APPLY and one.version == version.number for one in entries):
            if _is(whole, te, fc):
                return _Origin("part", 0, mls)
            continue
        earlier = [row["id"] for row in store.rows() if row["at"] <= version.at]
        for last in reversed(earlier[-TRIED:]):
            desired = desired_policy(store.decided(last))
            kept = set(version.rules)
            rules = [rule for rule in desired.rules if rule in kept]
            made = render(versions.name, version.number, rules, desired.contexts, desired.transitions, mls=mls)
            if len(rules) == len(kept) and _is(made, te, fc):
                return _Origin("apply", last, mls, tuple(rule.access for rule in desired.rules if rule not in kept))
    return _Origin("apply", max((row["id"] for row in store.rows()), default=0), rebuilt=False)


def _is(made: SourceText, te: Optional[bytes], fc: Optional[bytes]) -> bool:
    return made.te.encode() == te and made.fc.encode() == fc
