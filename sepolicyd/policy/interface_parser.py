"""Parse the rules of an interface expanded by m4. Statements other than allow and dontaudit make it unusable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

TOKEN = re.compile(r"[A-Za-z_][\w.-]*|[{}();:,~*]|-(?=[A-Za-z_])|\S")
NAME = re.compile(r"[A-Za-z_][\w.-]*\Z")
AV_WORDS = ("allow", "dontaudit")
EVERY = "*"


class UnusableError(ValueError):
    """Interface with other statements than allow and dontaudit, so its surplus is not exactly known."""


@dataclass(frozen=True)
class Names:
    """A set of names as written: members, excluded names, and the kind: complement (`~`) or all (`*`)."""

    members: frozenset[str]
    without: frozenset[str] = frozenset()
    complement: bool = False

    def of(self, every: frozenset[str]) -> frozenset[str]:
        """Return the members; ``every`` holds all names, for `*` and `~`."""
        members = every if EVERY in self.members else self.members
        return every - self.members if self.complement else members - self.without


@dataclass(frozen=True)
class InterfaceRule:
    """One allow or dontaudit rule as written, its sets not expanded."""

    word: str
    sources: Names
    targets: Names
    classes: Names
    permissions: Names


@dataclass
class InterfaceText:
    """Content of one interface: rules, and required types and attributes (outside of optional blocks)."""

    rules: list[InterfaceRule] = field(default_factory=list)
    required: set[str] = field(default_factory=set)


class _Tokens:
    def __init__(self, text: str) -> None:
        lines = (line.split("#", 1)[0] for line in text.splitlines())
        self._tokens = [match[0] for line in lines for match in TOKEN.finditer(line)]
        self._place = 0

    def more(self) -> bool:
        return self._place < len(self._tokens)

    def peek(self) -> str:
        return self._tokens[self._place] if self.more() else ""

    def next(self) -> str:
        item = self.peek()
        self._place += 1
        return item

    def expect(self, wanted: str) -> None:
        item = self.next()
        if item != wanted:
            raise UnusableError(f"{item!r} where {wanted!r} was expected")


def parse_interface(text: str) -> InterfaceText:
    """Read the expansion of one interface.

    :raises UnusableError: a statement other than require, optional, allow and dontaudit (typeattribute, type_transition,
        a conditional, an else branch), or text that does not fit the grammar
    """
    tokens, found, depth = _Tokens(text), InterfaceText(), 0
    while tokens.more():
        item = tokens.next()
        if item == "require":
            tokens.expect("{")
            names = _required(tokens)
            if depth == 0:
                found.required |= names
        elif item == "optional":
            tokens.expect("{")
            depth += 1
        elif item == "}" and depth:
            depth -= 1
        elif item in AV_WORDS:
            found.rules.append(_rule(item, tokens))
        elif item != ";":
            raise UnusableError(f"statement {item}")
    if depth:
        raise UnusableError("an optional block is not closed")
    return found


def _required(tokens: _Tokens) -> set[str]:
    """Read the types and attributes of a require block, up to its closing brace."""
    names: set[str] = set()
    while tokens.more():
        word = tokens.next()
        if word == "}":
            return names
        declared = set(_declared(tokens)) if word != ";" else set()
        if word in {"type", "attribute"}:
            names |= declared
    raise UnusableError("a require block is not closed")


def _declared(tokens: _Tokens) -> Iterator[str]:
    depth = 0
    while tokens.more():
        item = tokens.next()
        if item == ";" and depth == 0:
            return
        depth += {"{": 1, "}": -1}.get(item, 0)
        if depth == 0 and NAME.match(item):
            yield item


def _rule(word: str, tokens: _Tokens) -> InterfaceRule:
    sources, targets = _names(tokens), _names(tokens)
    tokens.expect(":")
    classes, permissions = _names(tokens), _names(tokens)
    tokens.expect(";")
    return InterfaceRule(word, sources, targets, classes, permissions)


def _names(tokens: _Tokens) -> Names:
    item = tokens.next()
    if item == "~":
        inner = _names(tokens)
        return Names(inner.members - inner.without, complement=True)
    if item != "{":
        if item != EVERY and not NAME.match(item):
            raise UnusableError(f"{item!r} where a name was expected")
        return Names(frozenset((item,)))
    members: set[str] = set()
    without: set[str] = set()
    while tokens.peek() != "}":
        if not tokens.more():
            raise UnusableError("a set is not closed")
        if tokens.peek() == "-":
            tokens.next()
            without.add(tokens.next())
        else:
            inner = _names(tokens)
            if inner.complement:
                raise UnusableError("a complement inside a set")
            members |= inner.members
            without |= inner.without
    tokens.next()
    return Names(frozenset(members), frozenset(without))
