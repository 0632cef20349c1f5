"""Reports to policy maintainers: denied accesses that a person allowed and that a newer policy still denies.

Each report covers one source and one target type: a title, the records, and the smallest rule, as an interface if one fits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from sepolicyd.access import SELF, Access
from sepolicyd.cli.terminal import duration, escape, escape_command, plural, when
from sepolicyd.errors import InputError, RefusedError
from sepolicyd.module.source import ALLOW
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.interfaces import Interfaces, Offer
from sepolicyd.policy.model import VerdictKind
from sepolicyd.policy.type_owners import module_directory, type_owners
from sepolicyd.report.version_history import gained_by
from sepolicyd.report.visible import visible
from sepolicyd.rollout.apply.desired_policy import rule_kind
from sepolicyd.rollout.apply.versions import Versions, module_name
from sepolicyd.rollout.history import History
from sepolicyd.rollout.review.queue import open_interfaces
from sepolicyd.rollout.session import Session, load_policy, open_policy
from sepolicyd.rules.evidence import Evidence, merge_all
from sepolicyd.rules.fixes.fix import rules_of
from sepolicyd.rules.guard.generic_profile import neutral_profile
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.rules.guard.type_facts import facts_of_policy
from sepolicyd.state.decisions import Decision

MAX_RECORDS = 3
MAX_SURPLUS = 12
WHERE = ("policy.*", "policy/policy.*", "*/policy/policy.*", "etc/selinux/*/policy/policy.*", "*/etc/selinux/*/policy/policy.*")
INCLUDE = "usr/share/selinux/devel/include"
# Words for permissions in a title, the strongest first; "open" is implied.
VERBS = {
    "name_connect": "connect to", "name_bind": "bind to", "send_msg": "send messages to", "connectto": "connect to",
    "create": "create", "unlink": "delete", "write": "write", "append": "append to", "execute": "execute", "read": "read",
}  # fmt: skip
NOUNS = {
    "file": "files", "dir": "directories", "lnk_file": "symlinks", "sock_file": "socket files", "fifo_file": "pipes",
    "chr_file": "character devices", "blk_file": "block devices", "process": "processes", "tcp_socket": "TCP sockets",
    "udp_socket": "UDP sockets", "unix_stream_socket": "stream sockets", "unix_dgram_socket": "datagram sockets",
    "dbus": "over D-Bus",
}  # fmt: skip


@dataclass(frozen=True)
class LeastRule:
    """Smallest rule for some accesses: an interface, or plain rules."""

    accesses: tuple[Access, ...]
    offer: Optional[Offer] = None


@dataclass(frozen=True)
class UpstreamReport:
    """Report on one source and one target type."""

    source: str
    target: str
    accesses: tuple[Access, ...]
    seen: Evidence
    reasons: tuple[str, ...]
    rules: tuple[LeastRule, ...]
    module: str = ""
    """Policy module that declares the source type, "" if unknown."""

    @property
    def title(self) -> str:
        """Title in the style of commit messages of the policy projects."""
        asked = {access.permission for access in self.accesses}
        named = [verb for permission, verb in VERBS.items() if permission in asked]
        named += sorted(asked - VERBS.keys() - ({"open"} if len(asked) > 1 else set()))
        words = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
        classes = sorted({access.tclass for access in self.accesses})
        if self.target == SELF:
            return f"Allow {self.source} {words} on its own {' and '.join(classes)}"
        kinds = " and ".join(NOUNS.get(name, name) for name in classes) if len(classes) < 3 else f"{len(classes)} classes"
        return f"Allow {self.source} {words} {self.target} {kinds}"


@dataclass(frozen=True)
class Upstream:
    """All reports of a service, and the accesses that are not reported."""

    against: str
    """Description of the policy that the reports were compared with."""
    reports: tuple[UpstreamReport, ...]
    allowed: tuple[Access, ...] = ()
    """Accesses that this policy allows."""
    by_boolean: Mapping[Access, str] = field(default_factory=dict)
    """Accesses that this policy allows with a boolean, and the boolean expression."""
    unknown: Mapping[Access, str] = field(default_factory=dict)
    """Accesses with names that the policy lacks, and these names."""
    without_record: tuple[Access, ...] = ()
    """Decided accesses without a denial in the evidence."""


def newest_policy(path: Path) -> Path:
    """Return the given policy file, or the newest one with the highest format below a directory.

    :raises InputError: there is no policy file
    """
    if path.is_file():
        return path
    found = [one for pattern in WHERE for one in path.glob(pattern) if one.suffix[1:].isdecimal() and one.is_file()]
    if not found:
        raise InputError(f"there is no policy.N in {path}", "give a binary kernel policy, or a directory with policy/policy.N")
    return max(found, key=lambda one: (int(one.suffix[1:]), one.stat().st_mtime_ns))


def upstream_reports(session: Session, against: Optional[Path]) -> Upstream:
    """Collect the reports.

    :param against: a policy file, or a directory with one; by default the present policy without the accesses of the module
    :raises InputError: the policy cannot be read
    :raises RefusedError: no policy was given, and the machine has none
    """
    store = session.decisions()
    try:
        decided = {access: one for access, one in store.decided().items() if rule_kind(one, access) == ALLOW}
    finally:
        store.close()
    policy, words, ours = _policy(session, against)
    evidence = session.snapshot().evidence
    asked: dict[Access, Decision] = {}
    allowed, unknown, by_boolean, without_record = [], {}, {}, []
    for access, decision in sorted(decided.items()):
        verdict = policy.allowed(access)
        if verdict.kind is VerdictKind.UNKNOWN:
            unknown[access] = ", ".join(verdict.unknown)
        elif verdict.kind is VerdictKind.BOOLEAN:
            by_boolean[access] = " or ".join(map(str, verdict.conditions))
        elif verdict.allowed and access not in ours:
            allowed.append(access)
        elif access not in evidence:
            without_record.append(access)
        else:
            asked[access] = decision
    interfaces = open_interfaces(_headers(session, against))
    reports = _reports(session, asked, evidence, policy, interfaces)
    return Upstream(words, tuple(reports), tuple(allowed), by_boolean, unknown, tuple(without_record))


def _policy(session: Session, against: Optional[Path]) -> tuple[PolicyIndex, str, frozenset[Access]]:
    """Return (policy, description, accesses that count as denied because only the module allows them)."""
    settings = session.settings
    if against is not None:
        path = newest_policy(against)
        policy = load_policy(settings, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return policy, f"{path} (format {policy.version}, SHA-256 {digest[:16]})", frozenset()
    present, note = open_policy(settings, None)
    if present is None:
        raise RefusedError(f"there is no policy to compare with: {note}", "give one with --against POLICY")
    module = module_name(session.profile.name)
    entries = [entry for entry in History(settings.rollout_dir).entries() if entry.module == module]
    ours = gained_by(entries, Versions(settings.rollout_dir, module))
    return present, f"{present.path} (format {present.version}) without {module}", ours


def _headers(session: Session, against: Optional[Path]) -> Path:
    """Return the interfaces from the root of the policy, else from the root of the session, else from this machine."""
    named = () if against is None else (against, *newest_policy(against).absolute().parents)
    for place in (*named, session.settings.root, Path("/")):
        if (place / INCLUDE / "support").is_dir():
            return place / INCLUDE
    return session.settings.policy_headers / "include"


def _reports(
    session: Session,
    asked: Mapping[Access, Decision],
    evidence: Mapping[Access, Evidence],
    policy: PolicyIndex,
    interfaces: Optional[Interfaces],
) -> Iterable[UpstreamReport]:
    guard, modules = session.guard(), module_directory(policy.path)
    owners = {} if modules is None else type_owners(modules)

    facts = facts_of_policy(policy)

    def refuses(access: Access) -> bool:
        # a rule for a domain of another service is evaluated for that service
        own = access.source in session.profile.domains
        profile = session.profile if own else neutral_profile(access.source, facts)
        return any(one.level is GuardLevel.REFUSE for one in guard.judge_access(access, profile, policy))

    groups: dict[tuple[str, str], list[Access]] = {}
    for access in asked:
        groups.setdefault((access.source, access.target), []).append(access)
    for (source, target), accesses in groups.items():
        yield UpstreamReport(
            source, target, tuple(accesses),
            seen=merge_all(evidence[access] for access in accesses),
            reasons=tuple(dict.fromkeys(asked[access].reason for access in accesses if asked[access].reason)),
            rules=tuple(_rules(accesses, policy, interfaces, refuses)),
            module=owners.get(source, ""),
        )  # fmt: skip


def _rules(
    accesses: Sequence[Access], policy: PolicyIndex, interfaces: Optional[Interfaces], refuses: Callable[[Access], bool]
) -> Iterable[LeastRule]:
    """Yield one rule for all accesses if one interface covers them, otherwise one rule per class."""

    def best(some: Sequence[Access]) -> Optional[Offer]:
        offers = [] if interfaces is None else interfaces.covering(policy, some, refuses=refuses)
        return next((one for one in offers if len(one.surplus) <= MAX_SURPLUS), None)

    whole = best(accesses)
    if whole is not None:
        yield LeastRule(tuple(accesses), whole)
        return
    classes: dict[str, list[Access]] = {}
    for access in accesses:
        classes.setdefault(access.tclass, []).append(access)
    for some in classes.values():
        yield LeastRule(tuple(some), best(some) if len(classes) > 1 else None)


# -- text ------------------------------------------------------------------------------------------------------------------


def text_of(found: Upstream) -> str:
    """Return all reports as text, each in the form of a commit message, then the unreported accesses with reasons."""
    parts = [_report(one, found.against) for one in found.reports]
    if not parts:
        parts = [f"Nothing to report: no decided access is denied by {escape(found.against)}.\n"]
    rest = _rest(found)
    return f"\n{'-' * 72}\n\n".join([*parts, *([rest] if rest else [])])


def _report(one: UpstreamReport, against: str) -> str:
    seen = one.seen
    kept = f", {seen.enforced} of them in enforcing mode" if seen.enforced else " in permissive mode"
    span = f" within {duration(seen.last - seen.first)}" if seen.last >= seen.first + 1 else ""
    lines = [
        escape(one.title), "",
        f"Denied {plural(seen.count, 'time')}{kept}, first on {when(seen.first)}{span}, to {_names(seen.comms) or 'a process'}"
        + (f" ({_names(seen.exes)})" if seen.exes else "") + ".",
        f"Not allowed by {escape(against)}.",
        *(f"Reason for allowing it: {visible(text)}" for text in one.reasons[:MAX_RECORDS]),
        "", "Denials:", "",
    ]  # fmt: skip
    for sample in seen.samples[:MAX_RECORDS]:
        # auditd appends translated fields after 0x1d (log_format = ENRICHED)
        lines += [*(f"    {escape_command(line.partition(chr(0x1D))[0])}" for line in sample.split("\n")), ""]
    place = f" (module {one.module})" if one.module else ""
    lines += [f"Rule, in the .te file that declares {escape(one.source)}{place}:", ""]
    for rule in one.rules:
        lines += _rule(rule)
    if any(rule.offer is None for rule in one.rules):
        lines += ["", "No interface covers the plain rule without many further accesses."]
    return "\n".join(lines) + "\n"


def _rule(rule: LeastRule) -> list[str]:
    plain = [f"    {text}" for text in rules_of(rule.accesses)]
    if rule.offer is None:
        return plain
    lines = [f"    {rule.offer}", "", "  for:", *plain]
    if rule.offer.surplus:
        lines += ["", "  The interface also allows:", *(f"    {text}" for text in rules_of(rule.offer.surplus))]
    return lines


def _names(values: Sequence[str]) -> str:
    return ", ".join(escape(value) for value in values[:MAX_RECORDS])


def _rest(found: Upstream) -> str:
    """Describe the decided accesses that are not reported, one paragraph per reason."""
    lines = []
    if found.allowed:
        lines += [
            f"Already allowed by that policy: {plural(len(found.allowed), 'access', 'accesses')}.",
            *_listed(found.allowed),
        ]
    for access, text in found.by_boolean.items():
        lines.append(f"{access}: allowed by that policy with the boolean {escape(text)}; no rule is needed.")
    if found.unknown:
        names = sorted(set(found.unknown.values()))
        lines.append(
            f"The policy lacks names of {plural(len(found.unknown), 'access', 'accesses')}: {escape(', '.join(names[:8]))}."
        )
        lines += [
            "These names belong to a module of the service, so the accesses are not reported to this policy:",
            *_listed(found.unknown),
        ]
    if found.without_record:
        lines += ["Decided, but without a denial in the evidence:", *_listed(found.without_record)]
    return "\n".join(["Not reported", "", *lines]) + "\n" if lines else ""


def _listed(accesses: Iterable[Access]) -> list[str]:
    return [f"    {text}" for text in rules_of(accesses)]
