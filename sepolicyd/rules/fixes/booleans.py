"""Booleans that would allow a whole candidate, ranked by the owning domain and by side effects."""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

from sepolicyd.access import Access
from sepolicyd.policy.boolean_effects import opened, opened_count
from sepolicyd.policy.explain import BooleanFix
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.model import VerdictKind
from sepolicyd.rules.fixes import fix
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.fixes.precedents import stem
from sepolicyd.rules.guard.type_facts import facts_of_policy
from sepolicyd.rules.vocabulary import vocabulary

# Limit of additional accesses for a boolean to be proposed. One rule on an attribute may contain 50,000 accesses
# (samba_export_all_ro), so accesses are counted rather than rules.
MAX_RULES, MAX_DOMAINS, MAX_OPENED = 50, 10, 300
MAX_SHOWN = 4
MAX_NAMED = 20_000  # accesses that a boolean named for the object may open
MIN_WORD = 4
GENERIC_WORDS = frozenset(
    {"user", "file", "files", "home", "port", "device", "content", "data", "unreserved", "system", "read", "write"}
)


def switch(question: Question) -> Iterator[tuple[Fix, BooleanFix]]:
    """Propose booleans that allow everything not yet allowed, those of the domain itself first."""
    missing = [why for why in question.whys.values() if not why.allowed]
    if not missing or any(why.hindered or why.te.kind is not VerdictKind.BOOLEAN for why in missing):
        return
    options = [set(why.booleans) for why in missing]
    for one in sorted(set.intersection(*options), key=lambda option: _rank(question, option)):
        yield fix.boolean(one.settings, f"switch {one}{_side_effect(question, one)}"), one


def _rank(question: Question, effect: BooleanFix) -> tuple[int, int, int, int, tuple[tuple[str, bool], ...]]:
    stranger = max(_stranger(question, name) for name, _ in effect.settings)
    return (len(effect.settings), stranger, opened_beyond(question, effect.settings), effect.domains, effect.settings)


def _stranger(question: Question, name: str) -> int:
    """0 for a boolean named for the domain or the service, 1 for one named for no domain, 2 for one of another domain."""
    policy = question.policy
    if name.startswith(f"{question.profile.name}_"):
        return 0
    words = name.split("_")
    for length in range(len(words), 0, -1):
        prefix = "_".join(words[:length])
        if stem(question.source) == prefix or stem(question.source).startswith(f"{prefix}_"):
            return 0
        if _is_kin(question, prefix):
            return 0
        if policy is not None and {f"{prefix}_t", f"{prefix}d_t"} & policy.domains:
            return 2
    return 1


def _is_kin(question: Question, prefix: str) -> bool:
    """Tell whether a prefix names the domain, apart from a final "d" (ftp_ for ftpd), or its module (samba_ for smbd)."""
    if stem(question.source).split("_")[0] in (prefix, f"{prefix}d"):
        return True
    facts = facts_of_policy(question.policy)
    return facts is not None and facts.service_of(question.source) == prefix


def is_own(question: Question, effect: BooleanFix) -> bool:
    """Tell whether the booleans are named after the domain or its module."""
    return all(_stranger(question, name) == 0 for name, _ in effect.settings)


def is_named_for(question: Question, effect: BooleanFix) -> bool:
    """Tell whether a single boolean of the domain's own is named for what is denied: homes, ports, the target's service.

    The author of the policy made it for this case, so it comes before a rule although it allows more.
    """
    if len(effect.settings) != 1 or not is_own(question, effect):
        return False
    words = set(effect.settings[0][0].split("_")) - set(stem(question.source).split("_"))
    theirs = {word for word in stem(question.target).split("_") if len(word) >= MIN_WORD} - GENERIC_WORDS
    named = (
        ("name_connect" in question.permissions and not words.isdisjoint({"connect", "network"}))
        or (question.target in vocabulary().homes and any(word.startswith("home") for word in words))
        or any(mine.startswith(other) for mine in words for other in theirs)
    )
    return named and opened_beyond(question, effect.settings) <= MAX_NAMED


def into_domain(question: Question, domain: str) -> Iterator[Fix]:
    """Propose booleans that let a program run in its own domain, as an alternative to execute_no_trans."""
    execute = [why for access, why in question.whys.items() if access.permission == "execute" and not why.hindered]
    for one in (one for why in execute for one in why.booleans if len(one.settings) == 1 and is_small(question, one)):
        if any((new.target, new.permission) == (domain, "transition") for new in opens(question, one.settings)):
            yield fix.boolean(one.settings, f"switch {one}: the program then runs in {domain}{_side_effect(question, one)}")


def booleans_of_others(question: Question) -> Iterator[Fix]:
    """Propose booleans that allow the same access for other domains, if the source is missing from this policy."""
    policy = question.policy
    if policy is None or not question.is_unlabelled_mount:
        return
    found: dict[str, set[str]] = {}
    for (source, target, tclass), conditional in policy.conditional_rules("allow").items():
        if target == question.target and tclass == question.tclass:
            for permissions, condition in conditional:
                if question.permissions & permissions:
                    for name in condition.booleans:
                        found.setdefault(name, set()).update(policy.types_of(source))
    if found:
        names = sorted(found, key=lambda name: (-len(found[name]), name))[:MAX_SHOWN]
        text = f"booleans of this policy allow it for other domains: {', '.join(names)}; the service's own policy may have one"
        yield Fix(FixKind.BOOLEAN, text, tuple(f"setsebool -P {name} on" for name in names[:1]))


def partly(question: Question) -> str:
    """Return the parts that booleans allow if none allows everything: "read by X=on (...)", "" if none allows any."""
    by_boolean: dict[str, list[str]] = {}
    for access, why in sorted(question.whys.items()):
        if why.te.kind is VerdictKind.BOOLEAN and why.booleans:
            by_boolean.setdefault(str(why.booleans[0]), []).append(access.permission)
        elif why.te.kind is VerdictKind.BOOLEAN:
            by_boolean.setdefault("several together", []).append(access.permission)
    return "; ".join(f"{' '.join(permissions)} by {name}" for name, permissions in by_boolean.items())


def is_small(question: Question, effect: BooleanFix) -> bool:
    """Tell whether a boolean's side effects are small enough for a proposal."""
    few = effect.rules <= MAX_RULES and effect.domains <= MAX_DOMAINS
    return few and opened_beyond(question, effect.settings) <= MAX_OPENED


def opened_beyond(question: Question, settings: tuple[tuple[str, bool], ...]) -> int:
    """Return the number of accesses that these settings allow beyond the candidate; 0 without a policy."""
    policy = question.policy
    if policy is None:
        return 0
    after = {**policy.booleans, **dict(settings)}
    asked = sum(
        policy.grants(*place, after) and not policy.grants(*place)
        for place in {(one.source, one.target_type, one.tclass, one.permission) for one in question.accesses}
    )
    return _opened_count(policy, settings) - asked


def opens(question: Question, settings: tuple[tuple[str, bool], ...]) -> frozenset[Access]:
    """Return exactly the accesses that these settings allow beyond the candidate; () without a policy."""
    if question.policy is None:
        return frozenset()
    return _opened(question.policy, settings) - frozenset(question.accesses)


def _side_effect(question: Question, effect: BooleanFix) -> str:
    number = opened_beyond(question, effect.settings)
    if not number:
        return "; it allows nothing else"
    if number > MAX_OPENED:
        return f"; it also allows {number:,} other accesses"
    more = opens(question, effect.settings)
    shown = fix.rules_of(sorted(more)[:400])
    if len(shown) > MAX_SHOWN:
        return f"; it also allows {len(more):,} other accesses"
    return f"; it also allows: {' '.join(shown)}"


# cached as long as the policy object exists
_OPENED: WeakKeyDictionary[PolicyIndex, dict[tuple[tuple[str, bool], ...], frozenset[Access]]] = WeakKeyDictionary()


_COUNTS: WeakKeyDictionary[PolicyIndex, dict[tuple[tuple[str, bool], ...], int]] = WeakKeyDictionary()


def _opened_count(policy: PolicyIndex, settings: tuple[tuple[str, bool], ...]) -> int:
    known = _COUNTS.setdefault(policy, {})
    if settings not in known:
        known[settings] = opened_count(policy, dict(settings), policy.booleans)
    return known[settings]


def _opened(policy: PolicyIndex, settings: tuple[tuple[str, bool], ...]) -> frozenset[Access]:
    known = _OPENED.setdefault(policy, {})
    if settings not in known:
        known[settings] = opened(policy, dict(settings), policy.booleans)
    return known[settings]
