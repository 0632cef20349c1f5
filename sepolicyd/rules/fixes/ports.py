"""Fixes for a denied port: the service's own type, a type that the domain can already use, or a new type."""

from __future__ import annotations

from collections.abc import Iterator

from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import Ports
from sepolicyd.rules.fixes import fix, precedents
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.detail import LabelledPorts
from sepolicyd.rules.fixes.fix import Fix, FixKind
from sepolicyd.rules.vocabulary import vocabulary

ASKS = ("name_bind", "name_connect")
RANDOM_PORT = 32768  # start of Linux's ephemeral port range (ip_local_port_range)
MAX_NUMBERS = 3
MAX_TYPES = 2


def port_label(question: Question) -> Iterator[Fix]:
    """Propose a label for a port: the service's own type for its own port, and none for an ephemeral port."""
    if not question.permissions & set(ASKS):
        return
    yield from _own_ports(question)
    if question.source not in question.profile.domains or is_random(question):
        return
    numbers = [number for number in question.numbers if question.own_port(number) is None][:MAX_NUMBERS]
    yield from _usable_ports(question, numbers)
    if question.target in vocabulary().ports:
        yield from _new_ports(question, numbers)


def _usable_ports(question: Question, numbers: list[int]) -> Iterator[Fix]:
    """Propose a port type that the domain can already use.

    Not for connections to a port of another service, since its label is correct.
    """
    if "name_bind" not in question.permissions and question.target not in vocabulary().ports:
        return
    every = _usable_types(question)
    usable = every[:MAX_TYPES]
    for number in numbers:
        owner = port_owner(question, number)
        if owner in every and owner != question.target:
            text = f"port {number} has the type {owner} on this machine, which {question.source} may use: nothing to do here"
            yield Fix(FixKind.PORT, text, (f"semanage port -l | grep -w {number}",), LabelledPorts())
            return
        for name in usable:
            if name != owner:
                yield fix.port(question.protocol, number, name, _named(owner), _usable_text(question, number, name, owner))


def _new_ports(question: Question, numbers: list[int]) -> Iterator[Fix]:
    """Propose a new type for a port without a type of its own."""
    for number in numbers:
        name = f"{precedents.stem(question.source)}_port_t"
        if question.policy is not None and name in question.policy.types:
            name = f"{precedents.stem(question.source)}_{number}_port_t"
        text = (
            f"{question.target} covers all unlabelled ports: give port {number} a type of its own, declared in the base module"
        )
        yield Fix(FixKind.PORT, text, (f"semanage port -a -t {name} -p {question.protocol} {number}",), LabelledPorts())
    if not question.numbers:
        text = f"{question.target} covers all unlabelled ports: label the intended port"
        yield Fix(FixKind.PORT, text, (), LabelledPorts())


def _own_ports(question: Question) -> Iterator[Fix]:
    for number in question.numbers:
        own = question.own_port(number)
        owner = port_owner(question, number) if own is not None else ""
        if own is not None and own.type not in (question.target, owner):
            taken = f"; its present type {owner} is replaced" if owner else ""
            text = f"port {number} is the service's {own.name}: label it {own.type}{taken}"
            yield fix.port(own.protocol, number, own.type, owner, text)


def _usable_text(question: Question, number: int, name: str, owner: str) -> str:
    verb = "listen on" if "name_bind" in question.permissions else "connect to"
    text = f"{question.source} may {verb} ports of type {name}: label port {number} with it"
    if _named(owner):
        text += f"; its present type {owner}, of another service, is replaced"
    return text


def _named(owner: str) -> str:
    """Return the type of a port, "" for a type of unlabelled ports."""
    return "" if owner in vocabulary().ports else owner


def _usable_types(question: Question) -> list[str]:
    """Return the port types to which the domain has the denied access, those most specific to it first."""
    policy = question.policy
    if policy is None or question.unknown:
        return []
    asked = [permission for permission in ASKS if permission in question.permissions]
    named = policy.types_of("port_type") - vocabulary().ports - {question.target}
    own = {port.type for port in question.profile.ports}
    permitted = [
        name for name in named - own if all(policy.grants(question.source, name, question.tclass, one) for one in asked)
    ]
    if len(permitted) > len(named) // 2:  # it can use nearly every port, so none is specific to it
        return []
    service_stem = precedents.stem(question.source)
    direct = precedents.named_targets(policy, policy.resolve(question.source), question.tclass)
    likely = [name for name in permitted if precedents.related(service_stem, name) or name in direct]
    return sorted(
        likely, key=lambda name: (-precedents.related(service_stem, name), _users(policy, question.tclass, asked, name), name)
    )


def _users(policy: PolicyIndex, tclass: str, asked: list[str], name: str) -> int:
    return len(policy.sources_of(tclass, asked[0], name))


def is_random(question: Question) -> bool:
    """Tell whether the kernel chose the ports: many different ones, or from the ephemeral range."""
    numbers = [number for number in question.numbers if question.own_port(number) is None]
    return len(numbers) > MAX_NUMBERS or any(number >= RANDOM_PORT for number in numbers)


def port_owner(question: Question, number: int) -> str:
    """Return the present type of a port, "" if unknown."""
    if question.labels is not None:
        return question.labels.ports.owner(question.protocol, number) or ""
    if question.policy is not None:
        return Ports.from_policy(question.policy).owner(question.protocol, number) or ""
    return "" if question.target in vocabulary().ports else question.target
