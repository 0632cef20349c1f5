"""A question in, its fixes out in the order of the ladder: the first is proposed, the others stand as alternatives."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from sepolicyd.policy.interfaces import Offer
from sepolicyd.policy.labels import Ports
from sepolicyd.rules.fixes import fix
from sepolicyd.rules.fixes.booleans import into_domain, is_small, switch
from sepolicyd.rules.fixes.detail import InterfaceCall, LabelledPorts, Labels, OnlyPermissions, labels_of
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.fixes.labels import is_unlabelled_mount, other_mount, own_tree, own_type, wrong_label
from sepolicyd.rules.fixes.question import Question

GENERIC_PORTS = ("port_t", "unreserved_port_t", "ephemeral_port_t", "reserved_port_t", "hi_reserved_port_t", "defined_port_t")
PROBES = {"getattr", "search", "getpgid", "getsched", "getsession", "getcap"}
INHERITED = {"use", "read", "write", "append", "getattr", "ioctl", "lock", "getopt", "getrlimit"}
# what lies in a descriptor of these classes was opened by somebody; others are opened by name alone
LEAKY = {"file", "chr_file", "fifo_file", "fd", "unix_stream_socket", "unix_dgram_socket", "tcp_socket", "udp_socket",
         "netlink_route_socket"}  # fmt: skip
EXECVE = {"execve", "execveat", "59", "322", "11", "221"}  # names, and numbers of x86_64, i386 and aarch64
LOOKS = {"stat", "lstat", "fstat", "newfstatat", "fstatat64", "statx", "access", "faccessat", "faccessat2", "readlink",
         "readlinkat", "getxattr", "lgetxattr", "fgetxattr", "statfs", "fstatfs",
         "4", "5", "6", "21", "89", "137", "262", "267", "269", "332", "439"}  # fmt: skip
SERVICE_MANAGER = "init_t"
RANDOM_PORT = 32768  # where Linux takes its ephemeral ports from (ip_local_port_range)
COMMON = 0.4
OPENING = (FixKind.ALLOW, FixKind.BOOLEAN, FixKind.INTERFACE)
SHARED_PROGRAMS = ("bin_t", "shell_exec_t", "lib_t", "usr_t")


def fixes(question: Question) -> list[Fix]:
    """All that apply, best first; never empty. What the guard refuses has no allow, boolean or interface among them."""
    known = list(application(question))
    if question.unknown:
        unknown = Fix(FixKind.UNKNOWN, f"cannot be judged: the policy does not have {', '.join(question.unknown)}")
        return [*known, *([fix.refuse(f"give no rule ({_codes(question)})")] if question.refused else []), unknown]
    found = [one for step in STEPS for one in step(question)]
    if question.refused:
        found = [*known, *(one for one in found if not _withheld(question, one))]
        found.append(fix.refuse(f"give no rule ({_codes(question)})"))
    elif question.user_only and question.source in question.profile.service_domains:
        found = [*known, *(one for one in found if one.kind not in OPENING)]
        found.append(fix.refuse("give the service's own domain no rule for what users' code does"))
    elif question.obstacles and not question.mendable:
        found = [*known, *(one for one in found if one.kind not in OPENING)]
        found.append(fix.refuse(f"give no rule, it would not help. {question.obstacles[0]}"))
    else:
        found = [*known, *found]
    kept: dict[tuple[FixKind, tuple[str, ...]], Fix] = {}
    for one in found:
        kept.setdefault((one.kind, one.commands), one)
    return list(kept.values())


def _withheld(question: Question, one: Fix) -> bool:
    """Whether a refused candidate must not be offered this. A switch of the web server in front is its own affair."""
    if one.kind == FixKind.BOOLEAN and question.source in question.profile.clients:
        return _hides(question)
    return one.kind in OPENING or (one.kind == FixKind.DONTAUDIT and _hides(question))


def _hides(question: Question) -> bool:
    """A dontaudit on what is refused for what it opens would hide an attack (R-015)."""
    return any(finding.level == "refuse" and finding.code not in ("R-017", "D-002") for finding in question.findings)


def _codes(question: Question) -> str:
    return ", ".join(dict.fromkeys(finding.code for finding in question.findings if finding.level == "refuse"))


def application(question: Question) -> Iterator[Fix]:
    """What the profile's advice knows of this denial; PATH in it stands for the paths that were denied."""
    for advice in question.advice:
        for known in advice.fixes:
            yield _about(known, question.paths)


def _about(known: Fix, paths: Sequence[str]) -> Fix:
    if not paths or known.kind not in (FixKind.RELABEL, FixKind.OWN_TYPE):
        return known
    commands = tuple(
        command.replace("'PATH'", shlex.quote(re.escape(path))).replace("PATH", shlex.quote(path))
        for command in known.commands
        for path in (paths[:3] if "PATH" in command else ("",))
    )
    contexts = tuple(
        replace(one, pattern=re.escape(path) if one.pattern == "PATH" else one.pattern)
        for one in labels_of(known.detail).contexts
        for path in (paths if one.pattern == "PATH" else ("",))
    )
    return replace(known, commands=commands, detail=Labels(tuple(paths), contexts))


def noise(question: Question) -> Iterator[Fix]:
    """What libraries ask of every program, and do without (P-008)."""
    if question.noise:
        yield fix.dontaudit(question.accesses, "programs ask this of themselves and go on without: deny it and do not log it")


def silence(question: Question) -> Iterator[Fix]:
    """What the policy denies without a word by a rule for this very domain: somebody has thought of it."""
    if question.silenced:
        text = "the policy denies it without a word, by a rule for this domain itself; nothing to do unless something fails"
        yield fix.dontaudit(question.accesses, text)


def own_domain(question: Question) -> Iterator[Fix]:
    """User code that shares the hub's domain: no rule, a domain of its own. The same for the proxy's machine code."""
    domains = sorted(question.profile.user_domains)
    if question.noise and question.target in question.profile.domains:
        return  # the change to that domain is what asked
    if question.has("V-001"):
        yield from _own_domain_of_role(question)
    if question.user_only and question.source in question.profile.service_domains and domains:
        program = _program_of(question, domains[0])
        yield fix.transition(
            question.source,
            program,
            domains[0],
            f"give users' code its own domain ({domains[0]}): only {_roles(question)} asked of {question.source}",
        )


def _program_of(question: Question, domain: str) -> str:
    """The service's own program type that starts a domain, "" where the base module has none of that name."""
    program = f"{domain[: -len('_t')]}_exec_t"
    return program if program in question.profile.own_types else ""


def _own_domain_of_role(question: Question) -> Iterator[Fix]:
    roles = [role for role in question.profile.roles if role.name in question.seen.roles]
    domains = {role.domains[0] for role in roles if role.domains}
    if len(domains) != 1 or question.source in domains or any(role.user_code for role in roles):
        return
    domain = domains.pop()
    program = _program_of(question, domain)
    if question.source in question.profile.domains and program:
        text = f"only {_roles(question)} asked: run it in its own domain {domain}, and let {question.source} go without"
        yield fix.transition(question.source, program, domain, text)


def port_label(question: Question) -> Iterator[Fix]:
    """A port by number: the service's own gets its type, a random one cannot be labelled."""
    if not question.permissions & {"name_bind", "name_connect"}:
        return
    for number in question.numbers:
        own = question.own_port(number)
        owner = _port_owner(question, number) if own is not None else ""
        if own is not None and own.type not in (question.target, owner):
            taken = f"; it belongs to {owner} today, so this takes it from there" if owner else ""
            yield fix.port(
                own.protocol, number, own.type, owner, f"port {number} is the service's {own.name}: label it {own.type}{taken}"
            )
    if question.target in GENERIC_PORTS and question.source in question.profile.domains and not is_random(question):
        for number in question.numbers[:3]:
            if question.own_port(number) is None:
                # none of the service's port types is meant for it: labelled as one, its friends could reach it too
                name = f"{question.profile.name}_{number}_port_t"
                text = f"{question.target} is every port without a name: label {number} alone (a new type, for the base module)"
                yield Fix(FixKind.PORT, text, (f"semanage port -a -t {name} -p {question.protocol} {number}",), LabelledPorts())
        if not question.numbers:
            yield Fix(
                FixKind.PORT,
                f"{question.target} is every port without a name: label the one that is meant",
                (),
                LabelledPorts(),
            )


def is_random(question: Question) -> bool:
    """Ports that nobody chose: many different ones, or from the range that the kernel takes its own from."""
    numbers = [number for number in question.numbers if question.own_port(number) is None]
    return len(numbers) > 3 or any(number >= RANDOM_PORT for number in numbers)


def _port_owner(question: Question, number: int) -> str:
    if question.labels is not None:
        return question.labels.ports.owner(question.protocol, number) or ""
    if question.policy is not None:
        return Ports.from_policy(question.policy).owner(question.protocol, number) or ""
    return "" if question.target in GENERIC_PORTS else question.target


def leak(question: Question) -> Iterator[Fix]:
    """A descriptor that the parent left open: the denial is at execve, of a file that the new program never opened."""
    if is_leak(question):
        if question.target == SERVICE_MANAGER and question.is_common(COMMON):
            yield from narrow(question)  # standard input and output, which systemd connects to the journal
        yield fix.dontaudit(
            question.accesses, "the program inherited an open file and does not need it: do not log it, or mend the leak"
        )


def is_leak(question: Question) -> bool:
    if question.tclass not in LEAKY or not question.permissions <= INHERITED or question.candidate.target == "self":
        return False
    if question.tclass == "fd":
        return True
    return bool(question.seen.syscalls) and set(question.seen.syscalls) <= EXECVE


def probe(question: Question) -> Iterator[Fix]:
    """Nothing but a look: programs go on without the answer. Where nearly every domain may look, it is allowed instead."""
    if is_probe(question) and not any(one.kind == FixKind.DONTAUDIT for one in application(question)):
        if question.is_common(COMMON):
            yield from narrow(question)
        yield fix.dontaudit(question.accesses, "it only looked: deny it and do not log it")


def is_probe(question: Question) -> bool:
    if not question.permissions <= PROBES or question.walked or question.candidate.target == "self":
        return False
    if is_unlabelled_mount(question):
        return False  # a home or a data set lies there: who looks wants to go on
    if "search" in question.permissions and not set(question.seen.syscalls) <= LOOKS:
        return False  # on its way to open, connect or run something
    wanted = question.target in question.profile.own_types and question.source not in question.profile.user_domains
    return not wanted


def other_domain(question: Question) -> Iterator[Fix]:
    """A program that has a domain of its own should run in it."""
    if question.tclass != "file" or not question.permissions & {"execute", "execute_no_trans"}:
        return
    program = question.target
    if program in SHARED_PROGRAMS or not program.endswith("_exec_t"):
        return
    domain = f"{program[: -len('_exec_t')]}_t"
    known = question.policy is None or domain in question.policy.types or domain in question.profile.own_types
    if known and domain != question.source and "execute_no_trans" in question.permissions:
        yield from into_domain(question, domain)
        yield fix.transition(
            question.source, program, domain, f"run {program} in its own domain {domain} instead of the service's"
        )


def interface(question: Question, *, exact: bool) -> Iterator[Fix]:
    """Interfaces of the reference policy that cover it; those that open more stand behind the narrow rule."""
    for offer in question.offers:
        if exact == (not offer.surplus and not offer.silences):
            yield Fix(FixKind.INTERFACE, _interface_text(offer), (str(offer),), InterfaceCall(str(offer)))


def _interface_text(offer: Offer) -> str:
    added = [rule.rstrip(";") for rule in fix.rules_of(offer.surplus)]
    text = f"{offer} of the reference policy covers it"
    if added:
        text += f"; it adds {len(offer.surplus)} accesses: {'; '.join(added[:6])}" + (" ..." if len(added) > 6 else "")
    elif not offer.silences:
        text += " and adds nothing"
    if offer.silences:
        text += f"; it silences {len(offer.silences)} that are logged today"
    return text


def _interface_exact(question: Question) -> Iterator[Fix]:
    return interface(question, exact=True)


def _interface_wider(question: Question) -> Iterator[Fix]:
    return interface(question, exact=False)


def narrow(question: Question) -> Iterator[Fix]:
    if question.allowed:
        yield Fix(FixKind.ALLOW, "nothing to do: the policy allows it by now")
    else:
        helped = [access for access in question.accesses if not question.hindered(access)]
        if question.obstacles and helped:
            only = OnlyPermissions(tuple(access.permission for access in helped))
            yield replace(fix.allow(helped, f"a rule is not enough: {question.obstacles[0]}"), detail=only)
        else:
            yield fix.allow(question.accesses, f"a rule is not enough: {question.obstacles[0]}" if question.obstacles else "")


def _switch_small(question: Question) -> Iterator[Fix]:
    """A switch for a mount without labels is wide by its nature: it is made for homes on such a mount."""
    mount = is_unlabelled_mount(question)
    return (one for one, effect in switch(question) if mount or is_small(question, effect))


def _switch_wide(question: Question) -> Iterator[Fix]:
    mount = is_unlabelled_mount(question)
    return (one for one, effect in switch(question) if not (mount or is_small(question, effect)))


STEPS: Sequence[Callable[[Question], Iterator[Fix]]] = (
    own_domain,
    noise,
    wrong_label,
    own_tree,
    port_label,
    leak,
    probe,
    silence,
    _switch_small,
    other_mount,
    own_type,
    other_domain,
    _interface_exact,
    narrow,
    _interface_wider,
    _switch_wide,
)


def _roles(question: Question) -> str:
    return " and ".join(question.seen.roles) or "user code"
