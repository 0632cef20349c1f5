"""Parse policy source (.te or CIL) into statements for the guard."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sepolicyd.access import SELF, Access

MAX_STATEMENTS = 100_000
_TE_COMMENT = re.compile(r"#[^\n]*")
# require blocks are skipped, since they contain no statements; they have one level of inner braces: class file { read };
_REQUIRE = re.compile(r"\b(?:gen_)?require\b\s*\(?`?\s*\{?(?:[^{}']|\{[^{}]*\})*[}']\s*\)?")
_CIL_COMMENT = re.compile(r";[^\n]*")
_TOKEN = re.compile(r'"[^"]*"|[{}();:,~*-]|[^\s{}();:,~*"]+')
RULES = ("allow", "auditallow", "dontaudit", "neverallow", "allowxperm", "auditallowxperm", "dontauditxperm")


@dataclass(frozen=True)
class Statement:
    """One statement. ``names``: all identifiers after the kind; a rule has four parts, and the last may hold "*" and "~"."""

    kind: str
    names: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.sources:
            return " ".join((self.kind, *self.names))[:200]
        parts = [_braced(part) for part in (self.sources, self.targets, self.classes, self.permissions)]
        return f"{self.kind} {parts[0]} {parts[1]}:{parts[2]} {parts[3]}"[:300]

    def accesses(self) -> Iterator[Access]:
        """Yield every access of a rule, without expanding attributes and "*"."""
        for source in self.sources:
            for target in self.targets:
                for tclass in self.classes:
                    for permission in self.permissions:
                        yield Access.of(source, source if target == SELF else target, tclass, permission)


def parse_statements(text: str) -> list[Statement]:
    """Parse all statements, in order. Unknown text becomes a statement named by its first word. Never raises."""
    text = text.lstrip()
    return list(_cil(text) if text.startswith(("(", ";")) else _te(_REQUIRE.sub(" ", _TE_COMMENT.sub("", text))))[
        :MAX_STATEMENTS
    ]


def _te(text: str) -> Iterator[Statement]:
    words: list[str] = []
    depth = 0
    for word in _TOKEN.findall(text):
        if word == ";" or (word in "{}" and depth == 0 and _opens_block(words, word)):
            # the braces of if, optional and require contain statements; those after a kind contain names
            if words and words[0] not in ("if", "else", "optional", "require", "gen_require"):
                yield _te_statement(words)
            words = []
            continue
        depth += {"{": 1, "}": -1}.get(word, 0)
        depth = max(depth, 0)
        words.append(word)
    if words:
        yield _te_statement(words)


def _opens_block(words: Sequence[str], word: str) -> bool:
    return word == "}" or not words or words[0] in ("if", "else", "optional", "require")


def _te_statement(words: Sequence[str]) -> Statement:
    kind = words[0]
    if kind in RULES:
        parts = list(_te_parts(words[1:]))
        if len(parts) >= 4:
            permissions = ("ioctl",) if "xperm" in kind else parts[3]
            return Statement(kind, tuple(_names(words[1:])), parts[0], parts[1], parts[2], permissions)
        # `allow sysadm_r system_r;` is a rule on roles
        return Statement("roleallow", tuple(_names(words[1:])))
    return Statement(kind, tuple(_names(words[1:])))


def _te_parts(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield names or braced lists; "~" before a list and "*" are kept as separate marks."""
    index = 0
    while index < len(words):
        word = words[index]
        if word in (":", ","):
            index += 1
        elif word == "~":
            index += 1
            while index < len(words) and words[index] != "}":
                index += 1
            index += 1
            yield ("~",)
        elif word == "{":
            end = words.index("}", index) if "}" in words[index:] else len(words)
            inside = words[index + 1 : end]
            kept = [word for word, before in zip(inside, ["", *inside]) if before != "-" and word not in "{}-,~"]
            yield tuple(kept) or ("",)
            index = end + 1
        else:
            yield (word,)
            index += 1


def _names(words: Sequence[str]) -> Iterator[str]:
    return (word for word in words if word not in "{}():,~-")


def _cil(text: str) -> Iterator[Statement]:
    stack: list[list[object]] = [[]]
    for word in re.findall(r'"[^"]*"|[()]|[^\s()"]+', _CIL_COMMENT.sub("", text)):
        if word == "(":
            if len(stack) > 64:
                return
            stack.append([])
        elif word == ")":
            if len(stack) > 1:
                done = stack.pop()
                stack[-1].append(done)
        else:
            stack[-1].append(word)
    yield from _cil_lists(stack[0])


CONTAINERS = ("block", "optional", "booleanif", "tunableif", "true", "false", "macro", "in")
CIL_KINDS = {"typeattributeset": "typeattribute", "dontauditx": "dontauditxperm", "allowx": "allowxperm"}


def _cil_lists(items: Sequence[object]) -> Iterator[Statement]:
    for item in items:
        if not isinstance(item, list) or not item or not isinstance(item[0], str):
            continue
        kind = item[0]
        if kind in CONTAINERS:
            yield from _cil_lists(item[1:])
        elif kind in ("allow", "auditallow", "dontaudit") and len(item) == 4 and isinstance(item[3], list):
            for tclass, permissions in _cil_classes(item[3]):
                yield Statement(kind, (), tuple(_flat([item[1]])), tuple(_flat([item[2]])), (tclass,), permissions)
        else:
            names = tuple(_flat(item[1:]))
            if kind == "typeattributeset":  # (typeattributeset ATTRIBUTE (TYPE ...)); as typeattribute TYPE ATTRIBUTE
                names = (*names[1:2], *names[:1])
            yield Statement(CIL_KINDS.get(kind, kind), names)


def _cil_classes(item: Sequence[object]) -> Iterator[tuple[str, tuple[str, ...]]]:
    if item and isinstance(item[0], str):
        permissions = tuple(_flat(item[1:]))
        yield item[0], ("*",) if "all" in permissions else ("~",) if "not" in permissions else permissions


def _flat(items: Sequence[object]) -> Iterator[str]:
    for item in items:
        if isinstance(item, list):
            yield from _flat(item)
        elif isinstance(item, str) and item not in ("and", "or", "xor"):
            yield item


def _braced(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else "{ " + " ".join(names) + " }"
