"""Explain why an access is denied, with all causes.

audit2why stops at the first cause (audit2why.c: type enforcement, then constraints, roles, bounds) and flips booleans one
by one. Here each cause is evaluated independently of the others, so a rule without effect is not approved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.audit.model import Context
from sepolicyd.policy.constraints import Denied, LevelNames, denying, subject_of
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.index_tables import count
from sepolicyd.policy.model import Condition, Constraint, Ranges, Verdict, VerdictKind, subtract_ranges

MAX_FLIPS = 4
MAX_FLIPPED_NAMES = 12  # of more booleans only pairs are tried
TRANSITIONS = frozenset({"transition", "dyntransition"})


@dataclass(frozen=True)
class BooleanFix:
    """Boolean settings that would allow the access, with their side effect.

    ``rules``: number of allow rules in the binary policy that the settings can enable; ``domains``: their source types.
    """

    settings: tuple[tuple[str, bool], ...]
    rules: int
    domains: int

    def __str__(self) -> str:
        values = " and ".join(f"{name}={'on' if state else 'off'}" for name, state in self.settings)
        return f"{values} ({self.rules:,} rule{_s(self.rules)} for {self.domains:,} domain{_s(self.domains)})"


@dataclass(frozen=True)
class RoleFailure:
    """Denial of a transition by the role rules of the policy."""

    source_role: str
    target_role: str
    type: str = ""
    """The new type that the target role lacks; "" if the source role may not change to the target role."""

    def __str__(self) -> str:
        if self.type:
            return f"role {self.target_role} is not authorized for type {self.type}"
        return f"role {self.source_role} may not change to role {self.target_role}"


@dataclass(frozen=True)
class Why:
    """All causes of a denial.

    Constraints, roles and bounds are evaluated even for names that the policy does not have.
    """

    access: Access
    te: Verdict
    """Verdict of type enforcement alone."""
    booleans: tuple[BooleanFix, ...] = ()
    constraints: tuple[Denied, ...] = ()
    """Constraints that deny regardless of the rules."""
    possible_constraints: tuple[Denied, ...] = ()
    """Constraints that deny unless an unknown type is exempt from them."""
    roles: str = ""
    """:attr:`role_failure` as text, "" for None."""
    role_failure: Optional[RoleFailure] = None
    bounds: str = ""
    """The bounding type of the source, if it lacks the access."""
    missing_numbers: Ranges = ()
    """ioctl numbers that need an allowxperm rule."""
    unjudged: str = ""
    """Part that could not be evaluated: a translated range."""
    would_help: bool = False
    """Whether an allow rule alone is enough."""
    sentence: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the policy allows the access with the current booleans."""
        return self.te.allowed and not self.hindered

    @property
    def hindered(self) -> bool:
        """Whether the access stays denied with an allow rule, or is denied despite one for an unreadable reason."""
        return bool(self.constraints or self.roles or self.bounds or (self.unjudged and self.te.allowed))

    @property
    def xperms(self) -> Optional[Ranges]:
        """The ioctl numbers that the policy allows, None if it does not filter them."""
        return self.te.xperms


def explain(
    policy_index: PolicyIndex, access: Access, scontext: Optional[Context] = None, tcontext: Optional[Context] = None
) -> Why:
    """Explain one access. Without contexts, only type enforcement, booleans, bounds and xperms are evaluated.

    The access gives the types; user, role and range come from the contexts of one of its denials.
    """
    return explainer(policy_index).explain(access, scontext, tcontext)


@lru_cache(maxsize=1)  # an index is large: a replaced one must not stay alive here
def explainer(policy_index: PolicyIndex) -> Explainer:
    """Return the explainer for a policy index, created once."""
    return Explainer(policy_index)


class Explainer:
    """Source of explanations from one policy, with cached tables."""

    def __init__(self, policy_index: PolicyIndex) -> None:
        self.policy_index = policy_index

    @cached_property
    def _names(self) -> Optional[LevelNames]:
        return LevelNames(self.policy_index.sensitivities, self.policy_index.categories) if self.policy_index.mls else None

    def explain(self, access: Access, scontext: Optional[Context], tcontext: Optional[Context]) -> Why:
        te = self.policy_index.allowed(access)
        denied: tuple[Denied, ...] = ()
        role_failure: Optional[RoleFailure] = None
        unjudged = ""
        if scontext is not None and tcontext is not None:
            denied, unjudged = self._constraints(access, scontext, tcontext)
            role_failure = self._roles(access, scontext, tcontext)
        constraints = tuple(one for one in denied if one.certain)
        found = Why(
            access,
            te,
            booleans=self.boolean_fixes(te) if te.kind is VerdictKind.BOOLEAN else (),
            constraints=constraints,
            possible_constraints=tuple(one for one in denied if not one.certain),
            roles=str(role_failure or ""),
            role_failure=role_failure,
            bounds=self.policy_index.bound_that_denies(access),
            missing_numbers=self._missing_numbers(access),
            unjudged=unjudged,
        )
        unknown = te.kind is VerdictKind.UNKNOWN
        helps = not (unknown or found.allowed or constraints or role_failure or found.bounds or unjudged)
        return Why(**{**vars(found), "would_help": helps, "sentence": _sentence(found)})

    # -- constraints and roles -----------------------------------------------------------------------------------------

    def _constraints(self, access: Access, scontext: Context, tcontext: Context) -> tuple[tuple[Denied, ...], str]:
        source = subject_of(scontext, self._known_type(access.source), self._names)
        target = subject_of(tcontext, self._known_type(access.target_type), self._names)
        unjudged = ""
        if self._names is not None and (source.low is None or target.low is None):
            wrong = scontext if source.low is None else tcontext
            unjudged = f"the level of {wrong} does not exist in this policy"
        constraints = self._constraints_by_class.get(access.tclass, ())
        dominated = self.policy_index.dominated_roles
        return denying(constraints, access.tclass, access.permission, source, target, dominated, self._names), unjudged

    def _known_type(self, name: str) -> Optional[str]:
        found = self.policy_index.resolve(name)
        return found if found in self.policy_index.types else None

    @cached_property
    def _constraints_by_class(self) -> dict[str, tuple[Constraint, ...]]:
        found: dict[str, tuple[Constraint, ...]] = {}
        for constraint in self.policy_index.constraints:
            found[constraint.tclass] = (*found.get(constraint.tclass, ()), constraint)
        return found

    def _roles(self, access: Access, scontext: Context, tcontext: Context) -> Optional[RoleFailure]:
        """Check roles on a transition like the kernel (services.c: context_struct_compute_av, policydb_context_isvalid)."""
        if access.tclass != "process" or access.permission not in TRANSITIONS:
            return None
        if scontext.role != tcontext.role and (scontext.role, tcontext.role) not in self.policy_index.role_allows:
            return RoleFailure(scontext.role, tcontext.role)
        known = self.policy_index.roles.get(tcontext.role)
        target = self._known_type(access.target_type)
        if known is not None and target is not None and target not in known:
            return RoleFailure(scontext.role, tcontext.role, access.target_type)
        return None

    def _missing_numbers(self, access: Access) -> Ranges:
        numbers = self.policy_index.xperms(access.source, access.target_type, access.tclass, access.permission)
        return () if numbers is None else subtract_ranges(access.xperms, numbers)

    # -- booleans ------------------------------------------------------------------------------------------------------

    def boolean_fixes(self, te: Verdict) -> tuple[BooleanFix, ...]:
        """Return the smallest sets of flipped booleans (one, else two, ...) that allow the access, sorted by side effect."""
        names = sorted({name for condition in te.conditions for name in condition.booleans})
        for size in range(1, (MAX_FLIPS if len(names) <= MAX_FLIPPED_NAMES else 2) + 1):
            found = [fix for flips in combinations(names, size) for fix in self._fix(te.conditions, flips)]
            if found:
                return tuple(sorted(found, key=lambda fix: (fix.rules, fix.domains, fix.settings)))
        return ()

    def _fix(self, conditions: tuple[Condition, ...], flips: tuple[str, ...]) -> Iterator[BooleanFix]:
        states = {**self.policy_index.booleans, **{name: not self.policy_index.booleans[name] for name in flips}}
        if any(condition.active(states) for condition in conditions):
            rules, domains = self.side_effect(tuple((name, states[name]) for name in flips))
            yield BooleanFix(tuple((name, states[name]) for name in flips), rules, domains)

    def side_effect(self, settings: tuple[tuple[str, bool], ...]) -> tuple[int, int]:
        """Return (allow rules, source types) that the setting can enable, whatever the other booleans are.

        Rules are counted in the binary policy, like `sesearch -A -b NAME`; one line of policy source often gives many.
        """
        tables, conditions = self.policy_index.tables, self.policy_index.conditions
        rules = sources = 0
        for name, state in settings:
            for source, number in self._by_boolean.get(name, ()):
                if conditions[number - 1].switched_by(name, state):
                    rules += 1
                    sources |= tables.members(source)
        return rules, count(sources)

    @cached_property
    def _by_boolean(self) -> dict[str, list[tuple[int, int]]]:
        """Conditional allow rules by boolean, as (source symbol, condition)."""
        found: dict[str, list[tuple[int, int]]] = {}
        conditions = self.policy_index.conditions
        for row in self.policy_index.tables.rules("allow").conditional_rows:
            for name in conditions[row.condition - 1].booleans:
                found.setdefault(name, []).append((row.source, row.condition))
        return found


def _sentence(why: Why) -> str:
    obstacles = [f"a constraint still denies: {denied.reason}" for denied in why.constraints[:1]]
    obstacles += [why.roles] if why.roles else []
    obstacles += [f"the type {why.bounds}, which bounds {why.access.source}, has no such rule"] if why.bounds else []
    obstacles += [f"{why.unjudged}, so constraints could not be evaluated"] if why.unjudged else []
    later = "; ".join(obstacles)
    kind = why.te.kind
    if kind is VerdictKind.UNKNOWN:
        possible = [f"a constraint denies it unless this type is exempt: {one.reason}" for one in why.possible_constraints[:1]]
        also = "; ".join([*obstacles, *possible])
        text = f"The policy has no {', no '.join(why.te.unknown)}: the access cannot be evaluated"
        return f"{text}; and {also}." if also else f"{text}."
    if kind is VerdictKind.ALLOWED:
        return f"A rule exists already, and {later}." if later else "The policy allows this already."
    if kind is VerdictKind.BOUNDS:
        return f"A rule exists already, and {later}."
    if kind is VerdictKind.XPERM:
        shown = " ".join(f"{low:#06x}" if low == high else f"{low:#06x}-{high:#06x}" for low, high in why.missing_numbers)
        text = f"The permission is allowed, but the policy filters its numbers: {shown or 'this one'} needs an allowxperm rule"
        return f"{text}; {later}." if later else f"{text}."
    if kind is VerdictKind.BOOLEAN and why.booleans:
        text = f"Allowed with {why.booleans[0]}"
        more = f", or {len(why.booleans) - 1} other setting{_s(len(why.booleans) - 1)}" if len(why.booleans) > 1 else ""
        return f"{text}{more}; but {later}." if later else f"{text}{more}."
    if later:
        return f"An allow rule alone is not enough: {later}."
    silent = " (dontaudited at present)" if why.te.dontaudited else ""
    return f"No rule allows {why.access}{silent}."


def _s(count: int) -> str:
    return "" if count == 1 else "s"
