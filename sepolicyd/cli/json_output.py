"""JSON form of candidates, evidence and decisions. The keys are documented in docs/json.md and only grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from sepolicyd.audit.model import Unparsed
from sepolicyd.rules.candidate import Candidate
from sepolicyd.rules.evidence import Evidence

if TYPE_CHECKING:
    from sepolicyd.rules.assess.assess import Assessed
    from sepolicyd.rules.fixes.fix import Fix
    from sepolicyd.state.decisions import Decision


def evidence(seen: Evidence) -> dict[str, Any]:
    """Return the JSON of evidence; times are epoch seconds, None if the log has none."""
    return {
        "count": seen.count,
        "enforced": seen.enforced,
        "first": seen.first or None,
        "last": seen.last or None,
        "comms": list(seen.comms),
        "exes": list(seen.exes),
        "pids": list(seen.pids),
        "paths": list(seen.paths),
        "names": list(seen.names),
        "ports": [{"key": key, "port": port} for key, port in seen.ports],
        "ioctls": list(seen.ioctls),
        "syscalls": list(seen.syscalls),
        "contexts": [{"scontext": source, "tcontext": target} for source, target in seen.contexts],
        "kinds": list(seen.kinds),
        "roles": list(seen.roles),
        "reasons": list(seen.reasons),
        "nodes": list(seen.nodes),
        "exercises": list(seen.exercises),
        "taints": list(seen.taints),
        "samples": list(seen.samples),
        "hosts": seen.hosts or None,
    }


def fix(value: Fix) -> dict[str, Any]:
    return {"kind": value.kind.value, "text": value.text, "commands": list(value.commands)}


def candidate(value: Candidate) -> dict[str, Any]:
    """Return the JSON of a candidate that is not assessed."""
    return {
        "id": value.id,
        "revision": value.revision,
        "source": value.source,
        "target": value.target,
        "class": value.tclass,
        "permissions": list(value.permissions),
        "evidence": evidence(value.merged),
    }


def assessed(item: Assessed) -> dict[str, Any]:
    """Return the JSON of an assessed candidate."""
    asked = candidate(item.candidate)
    seen = asked.pop("evidence")
    return {
        **asked,
        "level": item.level,
        "findings": [{"code": found.code, "level": found.level, "text": found.text} for found in item.findings],
        "fix": fix(item.fix),
        "alternatives": [fix(other) for other in item.alternatives],
        "opens": list(item.opens),
        "sentence": item.sentence,
        "approvable": item.approvable,
        "why_not": item.why_not or None,
        "roles": seen["roles"],
        "evidence": seen,
    }


def unparsed(line: Unparsed) -> dict[str, Any]:
    return {"line": line.line, "reason": line.message, "attempt": line.attempt, "text": line.text}


def decision(value: Decision, number: Optional[int] = None) -> dict[str, Any]:
    shown: dict[str, Any] = {} if number is None else {"number": number}
    shown.update(
        {
            "answer": value.answer,
            "candidate": value.candidate_id,
            "accesses": [str(access) for access in value.accesses],
            "fix": str(value.fix_kind or ""),
            "by": value.by,
            "at": value.at,
            "reason": value.reason,
        }
    )
    return shown
