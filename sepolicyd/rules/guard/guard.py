"""guard.yaml in, a Guard out, which judges accesses and policy statements: what is refused, what needs a second look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Protocol, Union

from sepolicyd.access import SELF, Access
from sepolicyd.document import Section, read
from sepolicyd.errors import InputError
from sepolicyd.profiles import Profile
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.guard.pattern import Pattern, View, compile_names, expand_sets
from sepolicyd.rules.guard.statement import Statement, parse_statements

FILE = "guard.yaml"
REFUSE, REVIEW, NOTE, NONE = "refuse", "review", "note", "none"
LEVELS = (REFUSE, REVIEW, NOTE, NONE)
WIDE_ATTRIBUTE = 100  # an attribute of more types than this is no narrow target, whatever its name


@dataclass(frozen=True)
class Finding:
    """A coded remark. ``text`` is one sentence of our own words and identifiers; it holds no text of the log."""

    code: str
    level: str
    text: str


@dataclass(frozen=True)
class GuardRule:
    """One line of the guard: what it matches, why, and who says so. ``prefer`` is the kind of fix that is better."""

    code: str
    level: str
    title: str
    reason: str
    source: str
    prefer: str = ""
    computed: bool = False
    patterns: tuple[Pattern, ...] = ()
    statements: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()


class Attributes(Protocol):
    """What the guard may ask of a policy (Oracle has it)."""

    def attributes_of(self, type_name: str) -> frozenset[str]: ...

    def types_of(self, attribute: str) -> frozenset[str]: ...


def worst(levels: Iterable[str]) -> str:
    """The heaviest of the levels, "none" where there are none."""
    return min(levels, key=LEVELS.index, default=NONE)


class Guard:
    """All lines of guard.yaml. Pure: the profile and the policy come with each call."""

    def __init__(self, rules: Sequence[GuardRule]) -> None:
        self.rules = tuple(rules)
        self._by_code = {rule.code: rule for rule in rules}

    @classmethod
    def load(cls, where: Union[Path, Sequence[Path]]) -> Guard:
        """The guard of this file, or of the first of these directories that has a guard.yaml.

        :raises InputError: none is there, or it has mistakes (all of them). Without a guard nothing may be approved.
        """
        if isinstance(where, Path):
            return cls(parse(where))
        for directory in where:
            if (directory / FILE).is_file():
                return cls(parse(directory / FILE))
        places = ", ".join(map(str, where)) or "no directory"
        raise InputError(f"there is no {FILE} in {places}", "install sepolicyd's policies")

    def rule(self, code: str) -> GuardRule:
        """:raises KeyError: no such code"""
        return self._by_code[code]

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(self._by_code)

    def finding(self, code: str, text: str = "", level: str = "") -> Finding:
        """The finding of a computed rule; its level and title where none are given."""
        rule = self._by_code[code]
        return Finding(code, level or rule.level, text or rule.title)

    def judge_access(
        self, access: Access, profile: Optional[Profile] = None, policy: Optional[Attributes] = None
    ) -> list[Finding]:
        """What the lines say of one access, the heaviest first. Without a policy attributes match by name alone."""
        view = View(access, profile, policy)
        found = [
            Finding(rule.code, rule.level, f"{rule.title} ({access}): {rule.reason}")
            for rule in self.rules
            if any(pattern.fits(view) for pattern in rule.patterns)
        ]
        if policy is not None and _is_wide(access, policy):
            bound = self._by_code["R-013"]
            if all(finding.code != bound.code for finding in found):
                found.append(Finding(bound.code, bound.level, f"{bound.title} ({access}): {bound.reason}"))
        return sorted(found, key=lambda finding: (LEVELS.index(finding.level), finding.code))

    def judge(
        self, accesses: Iterable[Access], profile: Optional[Profile] = None, policy: Optional[Attributes] = None
    ) -> dict[Access, list[Finding]]:
        """Every access that has a finding (the exact policy difference at preview, for example)."""
        judged = {access: self.judge_access(access, profile, policy) for access in accesses}
        return {access: findings for access, findings in judged.items() if findings}

    def level(self, access: Access, profile: Optional[Profile] = None) -> str:
        """The level by data alone: no policy, no host. What candidates are parted by."""
        return worst(finding.level for finding in self.judge_access(access, profile))

    def facets(self, evidence: Mapping[Access, Evidence], profile: Optional[Profile] = None) -> dict[Access, str]:
        """What parts the accesses of one source, target and class into candidates; accesses with no facet are left out.

        The level by data alone, so that one refused permission does not stop its harmless siblings; and, of a domain of the
        service itself, what nobody but user code asked for.
        """
        found = {}
        for access, seen in evidence.items():
            level = self.level(access, profile)
            facet = level if level in (REFUSE, REVIEW) else ""
            if profile is not None and access.source in profile.service_domains and profile.is_user_code(seen.roles):
                facet += ":user"
            if facet:
                found[access] = facet
        return found

    def judge_dontaudit(
        self, access: Access, profile: Optional[Profile] = None, policy: Optional[Attributes] = None
    ) -> list[Finding]:
        """A dontaudit on what an allow would be refused for hides an attack (R-015)."""
        refused = [f.code for f in self.judge_access(access, profile, policy) if f.level == REFUSE and f.code != "R-017"]
        if refused or access.permission == "*":
            rule = self._by_code["R-015"]
            return [Finding(rule.code, rule.level, f"{rule.title} ({access}, {', '.join(refused) or '*'}): {rule.reason}")]
        return []

    def judge_joined(
        self, joined: Iterable[tuple[str, str]], exempted: Iterable[object] = (), profile: Optional[Profile] = None
    ) -> list[Finding]:
        """What a policy difference opens without a rule: types that join an attribute, and those a constraint lets pass.

        :param joined: (type, attribute)
        :param exempted: policy.exempt.Exemption, as text
        """
        found = [
            finding
            for type_name, attribute in sorted(joined)
            for finding in self.judge_statement(f"typeattribute {type_name} {attribute};", profile)
        ]
        rule = self._by_code["R-020"]
        shown = sorted(map(str, exempted))
        if shown:
            more = f" and {len(shown) - 2} more" if len(shown) > 2 else ""
            found.append(Finding(rule.code, rule.level, f"{rule.title} ({'; '.join(shown[:2])}{more}): {rule.reason}"))
        return found

    def judge_statement(
        self, text: str, profile: Optional[Profile] = None, policy: Optional[Attributes] = None
    ) -> list[Finding]:
        """What is wrong with policy statements in source form, .te or CIL (rules of conditional blocks included).

        Every finding once per statement, in the order of the text.
        """
        found: list[Finding] = []
        for statement in parse_statements(text):
            found.extend(self._judge_one(statement, profile, policy))
        return found

    def _judge_one(self, statement: Statement, profile: Optional[Profile], policy: Optional[Attributes]) -> list[Finding]:
        said = str(statement)
        found: dict[str, Finding] = {}
        for rule in self.rules:
            for kinds, names in rule.statements:
                if statement.kind in kinds and _joins(statement, names):
                    found[rule.code] = Finding(rule.code, rule.level, f"{rule.title} ({said}): {rule.reason}")
        judge: Callable[..., list[Finding]] = self.judge_access
        if statement.kind == "dontaudit":
            judge = self.judge_dontaudit
        elif statement.kind not in ("allow", "allowxperm", "auditallow"):
            return list(found.values())
        for access in statement.accesses():
            for finding in judge(access, profile, policy):
                found.setdefault(finding.code, finding)
        return sorted(found.values(), key=lambda finding: (LEVELS.index(finding.level), finding.code))


def load_guard(dirs: Sequence[Path]) -> Guard:
    """:raises InputError: as :meth:`Guard.load`"""
    return Guard.load(dirs)


def explain(guard: Guard, code: str) -> str:
    """What a finding means and where it comes from.

    :raises KeyError: no such code
    """
    rule = guard.rule(code)
    prefer = f"\nBetter: {FIXES.get(rule.prefer, rule.prefer)}" if rule.prefer else ""
    return f"{rule.code} ({rule.level}): {rule.title}\n{rule.reason}{prefer}\nSource: {rule.source}"


FIXES = {
    "relabel": "give the file the label that file_contexts has for its path (restorecon)",
    "own-type": "give the path a type of the service's own, with an fcontext rule",
    "port": "give the port a type of the service's own",
    "dontaudit": "do not log it, or mend the program that leaks or probes",
    "allow": "a narrow rule instead of the switch",
    "boolean": "the switch of the policy that is made for it",
}


def parse(path: Path) -> tuple[GuardRule, ...]:
    """:raises InputError: every mistake of the file at once"""
    top = read(path)
    sets = _sets(top)
    rules = top.each("rules", lambda part: _rule(part, sets), required=True)
    top.done()
    codes = [rule.code for rule in rules]
    for code in sorted({code for code in codes if codes.count(code) > 1}):
        top.wrong("rules", f"the code {code} stands twice")
    top.mistakes.raise_if_any(f"guard {path}")
    return rules


def _sets(top: Section) -> Mapping[str, tuple[str, ...]]:
    part = top.section("sets")
    if part is None:
        return {}
    return {name: part.texts(name) for name in part.values}


def _rule(part: Section, sets: Mapping[str, tuple[str, ...]]) -> GuardRule:
    computed = part.flag("computed")
    rule = GuardRule(
        code=part.text("code", required=True),
        level=part.text("level", REFUSE, required=True, oneof=LEVELS[:3]),
        title=part.text("title", required=True),
        reason=part.text("reason", required=True),
        source=part.text("source", required=True),
        prefer=part.text("prefer"),
        computed=computed,
        patterns=part.each("match", lambda inner: Pattern.read(inner, sets)),
        statements=part.each("statements", lambda inner: _statement(inner, sets)),
    )
    if not (computed or rule.patterns or rule.statements):
        part.wrong("", "matches nothing: it needs match, statements or computed")
    return rule


def _statement(part: Section, sets: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return part.texts("kind", required=True), expand_sets(part.texts("names"), sets)


def _joins(statement: Statement, globs: tuple[str, ...]) -> bool:
    # the first name of typeattribute is the type that joins, not an attribute
    names = statement.names[1:] if statement.kind == "typeattribute" else statement.names
    return not globs or any(compile_names(globs)(name) for name in names)


def _is_wide(access: Access, policy: Attributes) -> bool:
    """A rule on an attribute of many types. A type of that name wins: types_of(type) is the type itself."""
    for name in (access.source, access.target):
        if name != SELF:
            types = policy.types_of(name)
            if len(types) > WIDE_ATTRIBUTE and name not in types:
                return True
    return False
