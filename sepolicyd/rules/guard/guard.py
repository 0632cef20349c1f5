"""Load guard.yaml, and check accesses and policy statements against it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional, Protocol, TypeVar, Union

from sepolicyd.access import SELF, Access
from sepolicyd.errors import InputError
from sepolicyd.profiles import Profile
from sepolicyd.rules.evidence import Evidence
from sepolicyd.rules.guard.level import GuardLevel, worst
from sepolicyd.rules.guard.pattern import Pattern, View, compile_names
from sepolicyd.rules.guard.policy_source import Statement, parse_statements
from sepolicyd.rules.guard.rule import About, Finding, GuardRule, parse_rules

Key = TypeVar("Key")
Value = TypeVar("Value")
FILE = "guard.yaml"
MAX_REMEMBERED = 4096  # cached operations; a policy has about 1,500 pairs of class and permission
WIDE_ATTRIBUTE = 100  # an attribute with more types than this is a broad target, regardless of its name


class Attributes(Protocol):
    """Queries on a policy that the guard needs; implemented by PolicyIndex."""

    def attributes_of(self, type_name: str) -> frozenset[str]: ...

    def types_of(self, attribute: str) -> frozenset[str]: ...


class Guard:
    """The rules of guard.yaml. Pure: profile and policy are arguments of each call."""

    def __init__(self, rules: Sequence[GuardRule]) -> None:
        self.rules = tuple(rules)
        self._operations: dict[tuple[str, str], list[tuple[GuardRule, list[Pattern]]]] = {}
        self._sources: dict[tuple[str, str, str], list[tuple[GuardRule, list[Pattern]]]] = {}
        self._by_code = {rule.code: rule for rule in rules}
        self._by_topic = {rule.about: rule for rule in rules if rule.about is not None}

    @classmethod
    def load(cls, where: Union[Path, Sequence[Path]]) -> Guard:
        """Load the guard from a file, or from the first of several directories that contains a guard.yaml.

        :raises InputError: there is no file, or it has errors (the message lists all). Nothing can be approved without a guard.
        """
        if isinstance(where, Path):
            return cls(parse_rules(where))
        for directory in where:
            if (directory / FILE).is_file():
                return cls(parse_rules(directory / FILE))
        places = ", ".join(map(str, where)) or "no directory"
        raise InputError(f"there is no {FILE} in {places}", "install sepolicyd's policies")

    def rule(self, code: str) -> GuardRule:
        """Return the rule with this code.

        :raises KeyError: there is no such code
        """
        return self._by_code[code]

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(self._by_code)

    def about(self, about: About) -> GuardRule:
        """Return the rule with this topic; each topic has exactly one."""
        return self._by_topic[about]

    def finding(self, about: About, text: str = "", level: Optional[GuardLevel] = None) -> Finding:
        """Return a finding of the rule with this topic; level and text default to the rule's level and title."""
        return self._by_topic[about].finding(text, level)

    def judge_access(
        self, access: Access, profile: Optional[Profile] = None, policy: Optional[Attributes] = None
    ) -> list[Finding]:
        """Return the findings on one access, the most severe first. Without a policy, attributes match by name only."""
        view = View(access, profile, policy)
        matching = []
        for rule, patterns in self._of_source(access.source, access.tclass, access.permission):
            for pattern in patterns:
                if pattern.fits_target(view):
                    matching.append(rule)
                    break
        harmless = any(rule.level is GuardLevel.NONE for rule in matching)
        demoted = {rule.demotes for rule in matching if rule.demotes is not None}
        found = [
            rule.finding_on(access)
            for rule in matching
            if rule.level is not GuardLevel.NONE
            and not (rule.doubt and harmless)
            and not ((rule.doubt or rule.demotable) and rule.level in demoted)
        ]
        if policy is not None and _is_wide(access, policy) and all(one.about is not About.BOUNDS for one in found):
            found.append(self.about(About.BOUNDS).finding_on(access))
        if not found and not harmless:
            found.append(self.about(About.DOUBT).finding_on(access))
        return sorted(found, key=heaviest_first)

    def _of_source(self, source: str, tclass: str, permission: str) -> list[tuple[GuardRule, list[Pattern]]]:
        """Return the rules with matching patterns for a source, class and permission (cached, since logs are repetitive)."""
        found = self._sources.get((source, tclass, permission))
        if found is None:
            found = _narrowed(self._of_operation(tclass, permission), lambda pattern: pattern.fits_source(source))
            _remember(self._sources, (source, tclass, permission), found)
        return found

    def _of_operation(self, tclass: str, permission: str) -> list[tuple[GuardRule, list[Pattern]]]:
        """Return the rules with matching patterns for a class and permission, with these patterns."""
        found = self._operations.get((tclass, permission))
        if found is None:
            every = ((rule, rule.patterns) for rule in self.rules)
            found = _narrowed(every, lambda pattern: pattern.fits_operation(tclass, permission))
            _remember(self._operations, (tclass, permission), found)
        return found

    def judge(
        self, accesses: Iterable[Access], profile: Optional[Profile] = None, policy: Optional[Attributes] = None
    ) -> dict[Access, list[Finding]]:
        """Return the findings on each access that has any, for example for the policy difference of a preview."""
        judged = {access: self.judge_access(access, profile, policy) for access in accesses}
        return {access: findings for access, findings in judged.items() if findings}

    def level(self, access: Access, profile: Optional[Profile] = None) -> GuardLevel:
        """Return the level by guard.yaml only, without a policy. It is the same on all hosts, and separates candidates."""
        return worst(finding.level for finding in self.judge_access(access, profile))

    def facets(self, evidence: Mapping[Access, Evidence], profile: Optional[Profile] = None) -> dict[Access, str]:
        """Return the facets that split the accesses of one source, target and class into candidates, where there are any.

        Facets are the level by guard.yaml, so that one refused permission does not block harmless ones; and, for a domain of
        the service itself, whether only user code requested the access.
        """
        found = {}
        for access, seen in evidence.items():
            level = self.level(access, profile)
            facet = level.value if level <= GuardLevel.REVIEW else ""
            if profile is not None and access.source in profile.service_domains and profile.is_user_code(seen.roles):
                facet += ":user"
            if facet:
                found[access] = facet
        return found

    def judge_dontaudit(
        self, access: Access, profile: Optional[Profile] = None, policy: Optional[Attributes] = None
    ) -> list[Finding]:
        """Check a dontaudit rule. For an access that is refused because of its effect, it would hide an attack."""
        refused = [
            one.code for one in self.judge_access(access, profile, policy) if one.level is GuardLevel.REFUSE and one.attack
        ]
        if refused or access.permission == "*":
            return [self.about(About.HIDING).finding_on(f"{access}, {', '.join(refused) or '*'}")]
        return []

    def judge_joined(
        self, joined: Iterable[tuple[str, str]], exempted: Iterable[object] = (), profile: Optional[Profile] = None
    ) -> list[Finding]:
        """Check gains of a policy difference without an allow rule: joined attributes and constraint exemptions.

        :param joined: (type, attribute) pairs
        :param exempted: Exemptions of policy.constraint_exemptions, as text
        """
        found = [
            finding
            for type_name, attribute in sorted(joined)
            for finding in self.judge_statement(f"typeattribute {type_name} {attribute};", profile)
        ]
        shown = sorted(map(str, exempted))
        if shown:
            more = f" and {len(shown) - 2} more" if len(shown) > 2 else ""
            found.append(self.about(About.EXEMPTION).finding_on(f"{'; '.join(shown[:2])}{more}"))
        return found

    def judge_statement(
        self, text: str, profile: Optional[Profile] = None, policy: Optional[Attributes] = None
    ) -> list[Finding]:
        """Return the findings on policy statements in source form (.te or CIL), including rules in conditional blocks.

        Each finding is reported once per statement, in the order of the text.
        """
        found: list[Finding] = []
        for statement in parse_statements(text):
            found.extend(self._judge_one(statement, profile, policy))
        return found

    def _judge_one(self, statement: Statement, profile: Optional[Profile], policy: Optional[Attributes]) -> list[Finding]:
        found: dict[str, Finding] = {}
        for rule in self.rules:
            for kinds, names in rule.statements:
                if statement.kind in kinds and _joins(statement, names):
                    found[rule.code] = rule.finding_on(statement)
        judge: Callable[..., list[Finding]] = self.judge_access
        if statement.kind == "dontaudit":
            judge = self.judge_dontaudit
        elif statement.kind not in ("allow", "allowxperm", "auditallow"):
            return list(found.values())
        for access in statement.accesses():
            for finding in judge(access, profile, policy):
                found.setdefault(finding.code, finding)
        return sorted(found.values(), key=heaviest_first)


def heaviest_first(finding: Finding) -> tuple[int, str]:
    """Return the sort key of a finding."""
    return (finding.level.rank, finding.code)


def load_guard(dirs: Sequence[Path]) -> Guard:
    """Load the guard of the first directory that contains a guard.yaml.

    :raises InputError: see :meth:`Guard.load`
    """
    return Guard.load(dirs)


def explain(guard: Guard, code: str) -> str:
    """Return the meaning and the source of a finding.

    :raises KeyError: there is no such code
    """
    rule = guard.rule(code)
    prefer = f"\nBetter: {FIXES.get(rule.prefer, rule.prefer)}" if rule.prefer else ""
    return f"{rule.code} ({rule.level}): {rule.title}\n{rule.reason}{prefer}\nSource: {rule.source}"


FIXES = {
    "relabel": "restore the label that file_contexts has for the path (restorecon)",
    "own-type": "give the path a type of the service's own, with an fcontext rule",
    "port": "give the port a type of the service's own",
    "dontaudit": "deny it without logging, or correct the program that leaks or probes",
    "allow": "a narrow rule instead of the boolean",
    "boolean": "the boolean of the policy for this purpose",
}


def _joins(statement: Statement, globs: tuple[str, ...]) -> bool:
    # the first name of typeattribute is the type that joins, not an attribute
    names = statement.names[1:] if statement.kind == "typeattribute" else statement.names
    return not globs or any(compile_names(globs)(name) for name in names)


def _is_wide(access: Access, policy: Attributes) -> bool:
    """Tell whether the target is an attribute with many types. A type of the same name takes precedence."""
    for name in (access.source, access.target):
        if name != SELF:
            types = policy.types_of(name)
            if len(types) > WIDE_ATTRIBUTE and name not in types:
                return True
    return False


def _narrowed(
    rules: Iterable[tuple[GuardRule, Sequence[Pattern]]], fits: Callable[[Pattern], bool]
) -> list[tuple[GuardRule, list[Pattern]]]:
    """Return the rules that have matching patterns, each with these patterns."""
    fitting = ((rule, [pattern for pattern in patterns if fits(pattern)]) for rule, patterns in rules)
    return [(rule, patterns) for rule, patterns in fitting if patterns]


def _remember(known: dict[Key, Value], key: Key, value: Value) -> None:
    if len(known) >= MAX_REMEMBERED:
        known.clear()
    known[key] = value
