"""Rules of guard.yaml, and the loader that checks the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Optional

from sepolicyd.document import Section, read
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.rules.guard.pattern import Pattern, expand_sets


class About(str, Enum):
    """Topic of a rule, by which code finds it. guard.yaml has exactly one rule for each topic."""

    OWNERSHIP = "ownership"
    """The rule would belong to another domain."""
    BOUNDS = "bounds"
    """The rule is unlimited: all permissions, or an attribute with very many types."""
    HIDING = "hiding"
    """A dontaudit rule would hide a refused access."""
    EXEMPTION = "exemption"
    """A constraint no longer applies."""
    MACHINE_CODE = "machine-code"
    """Machine code generated at run time."""
    WRITE_AND_RUN = "write-and-run"
    """The domain may write a file and execute it."""
    UNNAMED_PORT = "unnamed-port"
    """A port without a type of its own."""
    WIDE_BOOLEAN = "wide-boolean"
    """A boolean with broad side effects."""
    LEAK = "leak"
    """An inherited descriptor."""
    PROBE = "probe"
    """The process only probed."""
    NO_LABELS = "no-labels"
    """A file system without labels of single files."""
    USER_CODE_IN_SERVICE = "user-code-in-service"
    """Only user code requested the access, in a domain of the service itself."""
    USER_CODE = "user-code"
    """Only user code requested the access, in a domain for user code."""
    BURST = "burst"
    """One process tried several refused accesses."""
    DOUBT = "doubt"
    """No rule marks the access as harmless."""
    CONSEQUENCE = "consequence"
    """An earlier denial led to this one."""
    SECRETS = "secrets"
    """New access to the service's secrets."""
    UNKNOWN_NAME = "unknown-name"
    """The policy lacks a name of the access."""
    NO_POLICY = "no-policy"
    """No policy was read."""
    OBSTACLE = "obstacle"
    """An allow rule alone would not help."""
    BOOLEAN = "boolean"
    """A boolean allows it."""
    ALLOWED = "allowed"
    """The policy allows it now."""
    UNCONFINED = "unconfined"
    """The source domain is unconfined."""
    KNOWN = "known"
    """A known denial of this service."""
    KNOWN_REFUSED = "known-refused"
    """A known denial of this service that must stay denied."""


@dataclass(frozen=True)
class Finding:
    """A coded remark on an access. ``text`` is one sentence of rule text and policy names, without log text."""

    code: str
    level: GuardLevel
    text: str
    about: Optional[About] = None
    attack: bool = False
    """Refused because of the effect: repeated attempts look like an attack, which a dontaudit rule would hide."""
    remark: bool = False
    """Shown without raising the candidate's level, except for level review."""


@dataclass(frozen=True)
class GuardRule:
    """One rule of the guard: its patterns, reason and source."""

    code: str
    level: GuardLevel
    title: str
    reason: str
    source: str
    prefer: str = ""
    """The kind of fix that is better than an allow rule, "" for none."""
    about: Optional[About] = None
    computed: bool = False
    """The rule is applied by code."""
    attack: bool = False
    remark: bool = False
    doubt: bool = False
    """Does not apply to an access that a rule of level none matches."""
    demotable: bool = False
    demotes: Optional[GuardLevel] = None
    """If this rule applies, rules of this level with ``doubt`` or ``demotable`` do not."""
    patterns: tuple[Pattern, ...] = ()
    statements: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    """(kinds, names) of policy statements that the rule matches."""

    def finding(self, text: str = "", level: Optional[GuardLevel] = None) -> Finding:
        """Return a finding of this rule; text and level default to the rule's title and level."""
        return Finding(self.code, level or self.level, text or self.title, self.about, self.attack, self.remark)

    def finding_on(self, what: object) -> Finding:
        """Return a finding that names the matched object and gives the reason."""
        return self.finding(f"{self.title} ({what}): {self.reason}")


def parse_rules(path: Path) -> tuple[GuardRule, ...]:
    """Read guard.yaml.

    :raises InputError: the file has errors (the message lists all)
    """
    top = read(path)
    sets = _sets(top)
    rules = top.each("rules", lambda part: _rule(part, sets), required=True)
    top.done()
    codes = [rule.code for rule in rules]
    for code in sorted({code for code in codes if codes.count(code) > 1}):
        top.wrong("rules", f"the code {code} occurs twice")
    topics = [rule.about for rule in rules if rule.about is not None]
    for about in About:
        if topics.count(about) != 1:
            top.wrong("rules", f"needs exactly one rule with about: {about.value}, but has {topics.count(about)}")
    top.mistakes.raise_if_any(f"guard {path}")
    return rules


def _sets(top: Section) -> Mapping[str, tuple[str, ...]]:
    part = top.section("sets")
    if part is None:
        return {}
    return {name: part.texts(name) for name in part.values}


def _rule(part: Section, sets: Mapping[str, tuple[str, ...]]) -> GuardRule:
    level = GuardLevel(part.text("level", GuardLevel.REFUSE, required=True, oneof=tuple(GuardLevel)))
    about = part.text("about", oneof=tuple(About))
    rule = GuardRule(
        code=part.text("code", required=True),
        level=level,
        title=part.text("title", required=True),
        reason=part.text("reason", required=True),
        source=part.text("source", required=True),
        prefer=part.text("prefer"),
        about=About(about) if about else None,
        computed=part.flag("computed"),
        attack=part.flag("attack", level is GuardLevel.REFUSE),
        remark=part.flag("remark"),
        doubt=part.flag("doubt"),
        demotable=part.flag("demotable"),
        demotes=GuardLevel(part.text("demotes")) if part.text("demotes", oneof=tuple(GuardLevel)) else None,
        patterns=part.each("match", lambda inner: Pattern.read(inner, sets)),
        statements=part.each("statements", lambda inner: _statement(inner, sets)),
    )
    if not (rule.computed or rule.patterns or rule.statements):
        part.wrong("", "matches nothing: it needs match, statements or computed")
    if rule.computed and rule.about is None:
        part.wrong("computed", "needs about, by which the code finds this rule")
    return rule


def _statement(part: Section, sets: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return part.texts("kind", required=True), expand_sets(part.texts("names"), sets)
