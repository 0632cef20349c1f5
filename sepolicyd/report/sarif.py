"""Write results of `analyze` and `preview` as a SARIF 2.1.0 log, which code hosts show beside the affected lines.

Standard: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0. Rule ids are the codes of `explain`; ids of
results without a guard rule begin with S-. Levels follow the guard: refuse is an error, review a warning.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional
from urllib.parse import quote

from sepolicyd import __version__
from sepolicyd.access import Access
from sepolicyd.cli.terminal import escape
from sepolicyd.report.log_lines import LogPlace
from sepolicyd.rollout.apply.link_and_prove import Plan
from sepolicyd.rules.assess.assess import Assessed
from sepolicyd.rules.guard.guard import Guard, heaviest_first
from sepolicyd.rules.guard.level import GuardLevel

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
VERSION = "2.1.0"
LEVELS = {GuardLevel.REFUSE: "error", GuardLevel.REVIEW: "warning", GuardLevel.NOTE: "note", GuardLevel.NONE: "none"}
FINGERPRINT = "sepolicydCandidate/v1"


@dataclass(frozen=True)
class _OwnRule:
    """SARIF rule for results without a guard rule."""

    code: str
    level: GuardLevel
    title: str
    reason: str


DENIED = _OwnRule("S-DENIED", GuardLevel.NONE, "denied access", "SELinux denied the access, and no guard rule objects to it.")
GAINED = _OwnRule("S-GAINED", GuardLevel.NONE, "access gained", "The module allows the access, and a decision covers it.")
UNCOVERED = _OwnRule(
    "S-UNCOVERED",
    GuardLevel.REFUSE,
    "access gained without a decision",
    "The module may not be loaded, because no decision covers the access.",
)
REFUSED = _OwnRule("S-REFUSED", GuardLevel.REFUSE, "module refused", "The module may not be loaded.")
NO_EFFECT = _OwnRule(
    "S-NO-EFFECT",
    GuardLevel.REVIEW,
    "rule without effect",
    "The policy still denies the access, by a constraint, a type bound or an xperm filter.",
)
LEFT_OUT = _OwnRule("S-LEFT-OUT", GuardLevel.REVIEW, "decision without a rule", "The policy lacks a name in the decision.")


@dataclass(frozen=True)
class Result:
    """One result of the log."""

    code: str
    level: GuardLevel
    text: str
    """One sentence, which may contain text of the log."""
    place: Optional[LogPlace] = None
    te_line: int = 0
    """Line in the module source, 0 for none."""
    fingerprint: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)


def analyzed(items: Sequence[Assessed], places: Mapping[str, LogPlace], guard: Guard, notes: Sequence[str]) -> dict[str, Any]:
    """Return the log of `analyze`: one result per candidate, with the code of its most severe finding.

    :param places: log line of each candidate, by id
    :param notes: remarks on the input
    """
    results = []
    for item in items:
        heaviest = min(item.findings, key=heaviest_first, default=None)
        advice = f" Proposed: {item.fix.kind}: {item.fix.text}."
        findings = "".join(f" {one.code}: {one.text}" for one in item.findings[:3])
        results.append(
            Result(
                code=heaviest.code if heaviest is not None else DENIED.code,
                level=item.level,
                text=item.sentence + findings + advice,
                place=places.get(item.candidate.id),
                fingerprint=item.candidate.id,
                properties={
                    "accesses": [str(access) for access in item.candidate.accesses],
                    "findings": [one.code for one in item.findings],
                    "fix": item.fix.kind.value,
                    "commands": list(item.fix.commands),
                    "approvable": item.approvable,
                    "denials": item.candidate.merged.count,
                },
            )
        )
    return _log(results, guard, notes=notes)


def previewed(plan: Plan, places: Mapping[str, LogPlace], guard: Guard) -> dict[str, Any]:
    """Return the log of `preview`: one result per access that the module would allow and per objection against loading it.

    :param places: log line of each access, by text
    """
    lines = _te_lines(plan.source.te)
    results = [_gained(plan, access) for access in sorted({*plan.delta.gained, *plan.proof.findings})]
    results += [
        Result(NO_EFFECT.code, NO_EFFECT.level, f"{access}: {why}", properties={"access": str(access)})
        for access, why in sorted(plan.proof.without_effect.items())
    ]
    results += [
        Result(LEFT_OUT.code, LEFT_OUT.level, f"{access}: {why}", properties={"access": str(access)})
        for access, why in sorted(plan.left_out.items())
    ]
    explained = {one.code for one in results if one.level is GuardLevel.REFUSE}
    for text in plan.proof.refusals:
        if text.partition(":")[0] not in explained:
            results.append(Result(REFUSED.code, REFUSED.level, text))
    located = [
        Result(
            one.code, one.level, one.text, places.get(str(one.properties.get("access", ""))),
            lines.get(_key(str(one.properties.get("access", ""))), 0), one.fingerprint or str(one.properties.get("access", "")),
            one.properties,
        )
        for one in results
    ]  # fmt: skip
    return _log(located, guard, source=(f"{plan.module}.te", plan.source.te))


def _gained(plan: Plan, access: Access) -> Result:
    found = plan.proof.findings.get(access, ())
    decision = plan.proof.covered.get(access)
    properties = {"access": str(access), "decision": None if decision is None else decision.id}
    if access in plan.proof.uncovered:
        return Result(
            UNCOVERED.code, UNCOVERED.level, f"{access} would be gained, and no decision covers it.", None, 0, "", properties
        )
    if found:
        heaviest = min(found, key=heaviest_first)
        override = plan.proof.overrides.get(access)
        excuse = "" if override is None else f" Overridden by {override.by}: {override.reason}"
        level = heaviest.level if override is None else GuardLevel.NOTE
        return Result(heaviest.code, level, heaviest.text + excuse, None, 0, "", properties)
    by = "" if decision is None else f" by decision {decision.id} of {decision.by}"
    return Result(GAINED.code, GAINED.level, f"{access} would be gained{by}.", None, 0, "", properties)


def _te_lines(te: str) -> dict[tuple[str, str, str, str], int]:
    """Return the line of each rule in the module source, by source, target, class and permission."""
    found = {}
    for number, line in enumerate(te.split("\n"), 1):
        words = line.replace(":", " ").replace(";", " ").split()
        if words[:1] in (["allow"], ["dontaudit"]) and "{" in words:
            for permission in words[words.index("{") + 1 : -1]:
                found[(words[1], words[2], words[3], permission)] = number
    return found


def _key(access: str) -> tuple[str, str, str, str]:
    words = [*access.replace(":", " ").split(), "", "", "", ""]
    return (words[0], words[1], words[2], words[3])


def _log(
    results: Iterable[Result], guard: Guard, *, notes: Sequence[str] = (), source: Optional[tuple[str, str]] = None
) -> dict[str, Any]:
    results = list(results)
    codes = list(dict.fromkeys(one.code for one in results))
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "sepolicyd", "version": __version__, "semanticVersion": __version__,
                "rules": [_rule(code, guard) for code in codes],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [{"level": "note", "message": {"text": message(text)}} for text in notes],
            }
        ],
        "artifacts": [] if source is None else [{"location": {"uri": quote(source[0])}, "contents": {"text": source[1]}}],
        "results": [_result(one, codes, source) for one in results],
    }  # fmt: skip
    return {"$schema": SCHEMA, "version": VERSION, "runs": [run]}


def _rule(code: str, guard: Guard) -> dict[str, Any]:
    own = {one.code: one for one in (DENIED, GAINED, UNCOVERED, REFUSED, NO_EFFECT, LEFT_OUT)}
    rule = own[code] if code in own else guard.rule(code)
    return {
        "id": code,
        "shortDescription": {"text": message(rule.title)},
        "fullDescription": {"text": message(rule.reason)},
        "help": {"text": message(f"sepolicyd explain {code}" if code not in own else rule.reason)},
        "defaultConfiguration": {"level": LEVELS[rule.level]},
    }


def _result(one: Result, codes: Sequence[str], source: Optional[tuple[str, str]]) -> dict[str, Any]:
    level = LEVELS[one.level]
    shown: dict[str, Any] = {
        "ruleId": one.code,
        "ruleIndex": codes.index(one.code),
        "kind": "informational" if level == "none" else "fail",
        "level": level,
        "message": {"text": message(one.text)},
    }
    locations = [] if one.place is None else [_location(uri_of(one.place.path), one.place.line)]
    related = [] if source is None or not one.te_line else [_location(quote(source[0]), one.te_line)]
    if locations or related:
        shown["locations"] = locations or related
    if locations and related:
        shown["relatedLocations"] = [{"id": 1, "message": {"text": "rule of the module"}, **related[0]}]
    if one.fingerprint:
        shown["partialFingerprints"] = {FINGERPRINT: one.fingerprint}
    if one.properties:
        shown["properties"] = dict(one.properties)
    return shown


def _location(uri: str, line: int) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}}


def uri_of(path: Path) -> str:
    """Return a relative reference, or a file URI for an absolute path, percent-encoded as required."""
    encoded = quote(os.fsencode(path), safe="/")
    return f"file://{encoded}" if path.is_absolute() else encoded


def message(text: str) -> str:
    """Escape the text of a message, including braces and brackets (placeholders and links, 3.11.5 and 3.11.6)."""
    shown = escape(text).replace("{", "{{").replace("}", "}}")
    return shown.replace("[", "\\[").replace("]", "\\]")
