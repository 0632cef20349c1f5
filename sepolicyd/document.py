"""Read a YAML file into plain values and report every mistake with file, line and key path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, TypeVar

import yaml

from sepolicyd.access import is_identifier
from sepolicyd.errors import InputError

Item = TypeVar("Item")
# libyaml's parser if PyYAML was built with it: six times as fast, with the same nodes and positions
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_BYTES = 1 << 20
MAX_SHOWN = 50


@dataclass
class Mistakes:
    """The mistakes of one file, collected and raised together."""

    file: str
    found: list[str] = field(default_factory=list)

    def add(self, node: yaml.Node, path: str, what: str) -> None:
        self.found.append(f"{self.file}:{node.start_mark.line + 1}: {path or 'the file'}: {what}")

    def raise_if_any(self, what: str) -> None:
        """:raises InputError: at least one mistake was added"""
        if self.found:
            rest = len(self.found) - MAX_SHOWN
            more = [f"... and {rest} more"] if rest > 0 else []
            plural = "mistake" if len(self.found) == 1 else "mistakes"
            raise InputError("\n  ".join([f"{what} has {len(self.found)} {plural}:", *self.found[:MAX_SHOWN], *more]))


class Section:
    """One mapping of the document. The reader asks for each key that it knows; :meth:`done` reports the others."""

    def __init__(self, node: yaml.Node, path: str, mistakes: Mistakes) -> None:
        self.node = node
        self.path = path
        self.mistakes = mistakes
        self.asked: list[str] = []
        self.values: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        if not isinstance(node, yaml.MappingNode):
            mistakes.add(node, path, f"must be a mapping of keys to values, not {_kind(node)}")
            return
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name in self.values:
                mistakes.add(key, self._at(name), "is a duplicate")
            self.values[name] = (key, value)

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, what: str) -> None:
        """Add a mistake about one key, at its line, or at the section's line if the key is missing."""
        node = self.values[name][1] if name in self.values else self.node
        self.mistakes.add(node, self._at(name) if name else self.path, what)

    def has(self, name: str) -> bool:
        return name in self.values

    def get(self, name: str, *, required: bool = False) -> Optional[yaml.Node]:
        self.asked.append(name)
        if name in self.values:
            node = self.values[name][1]
            if not (isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"):
                return node
        if required:
            self.wrong(name, "is missing" if name not in self.values else "has no value")
        return None

    def text(self, name: str, default: str = "", *, required: bool = False, oneof: Sequence[str] = ()) -> str:
        node = self.get(name, required=required)
        if node is None:
            return default
        value = self._scalar(node, self._at(name))
        if oneof and value is not None and value not in oneof:
            self.wrong(name, f"is {value!r}; it must be one of {', '.join(oneof)}")
            return default
        return default if value is None else value

    def flag(self, name: str, default: bool = False) -> bool:
        node = self.get(name)
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:bool":
            self.wrong(name, "must be true or false")
            return default
        return node.value.lower() in ("true", "yes", "on")

    def number(self, name: str, default: int = 0, *, low: int, high: int, required: bool = False) -> int:
        node = self.get(name, required=required)
        if node is None:
            return default
        try:
            value = int(node.value, 10) if isinstance(node, yaml.ScalarNode) else low - 1
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            self.wrong(name, f"must be a number from {low} to {high}")
            return default
        return value

    def texts(self, name: str, *, required: bool = False, check: Optional[Callable[[str], str]] = None) -> tuple[str, ...]:
        """Return a list of texts; a single text counts as a list of one.

        :param check: returns the mistake of one text, "" if it is correct
        """
        node = self.get(name, required=required)
        if node is None:
            return ()
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        values = []
        for index, part in enumerate(parts):
            at = self._at(name) + (f"[{index}]" if isinstance(node, yaml.SequenceNode) else "")
            value = self._scalar(part, at)
            if value is None:
                continue
            wrong = check(value) if check else ""
            if wrong:
                self.mistakes.add(part, at, wrong)
            values.append(value)
        return tuple(values)

    def section(self, name: str) -> Optional[Section]:
        node = self.get(name)
        return None if node is None else Section(node, self._at(name), self.mistakes)

    def each(self, name: str, read: Callable[[Section], Item], *, required: bool = False) -> tuple[Item, ...]:
        """Read a list of mappings, each by ``read``, and check each for unknown keys."""
        node = self.get(name, required=required)
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode):
            self.wrong(name, f"must be a list, not {_kind(node)}")
            return ()
        items = []
        for index, part in enumerate(node.value):
            section = Section(part, f"{self._at(name)}[{index}]", self.mistakes)
            if section.values:
                items.append(read(section))
                section.done()
        return tuple(items)

    def done(self) -> None:
        for name, (key, _) in self.values.items():
            if name not in self.asked:
                self.mistakes.add(key, self._at(name), f"unknown key; known here: {', '.join(sorted(set(self.asked)))}")

    def _scalar(self, node: yaml.Node, at: str) -> Optional[str]:
        if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
            self.mistakes.add(node, at, f"must be a text, not {_kind(node)}")
            return None
        return str(node.value)


def read(path: Path, mistakes: Optional[Mistakes] = None) -> Section:
    """Read the top-level mapping of a YAML file.

    :raises InputError: the file is missing, unreadable, too large, not UTF-8, or not YAML (the message names the line)
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "give another file, or check its permissions") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} has {len(data)} bytes; a file of this kind has at most {MAX_BYTES}")
    return parse(data, str(path), mistakes)


def parse(data: bytes, name: str, mistakes: Optional[Mistakes] = None) -> Section:
    """:raises InputError: not UTF-8 or not YAML"""
    mistakes = mistakes if mistakes is not None else Mistakes(name)
    try:
        node = _compose(data.decode("utf-8"))
        for _ in _walk(node, ()):
            pass
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8: byte {error.start}", "save it as UTF-8") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{name}:{_line(error)} is not YAML: {_parser_message(error)}", "correct that line") from None
    if node is None:
        raise InputError(f"{name} is empty", "policies/schema/profile.schema.json describes the keys of a profile")
    return Section(node, "", mistakes)


def _compose(text: str) -> Optional[yaml.Node]:
    try:
        return yaml.compose(text, Loader=LOADER)
    except yaml.YAMLError:
        # PyYAML's own parser gives the position of the mistake more exactly
        return yaml.compose(text, Loader=yaml.SafeLoader)


def type_name(text: str) -> str:
    """Check for :meth:`Section.texts`: return a mistake if the text cannot be the name of a type, class or attribute."""
    return "" if is_identifier(text) else f"{text!r} is not a valid type name"


def _walk(node: Optional[yaml.Node], above: tuple[int, ...]) -> Iterator[yaml.Node]:
    # An anchor that contains itself is legal YAML, but walking it never ends. Nested aliases ("billion laughs") are harmless
    # here, because aliased nodes are shared and only named keys are read.
    if node is None or not isinstance(node, yaml.CollectionNode):
        return
    if id(node) in above:
        raise yaml.YAMLError("an anchor contains itself")
    yield node
    for part in node.value:
        for below in part if isinstance(part, tuple) else (part,):
            yield from _walk(below, (*above, id(node)))


def _line(error: BaseException) -> int:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return int(mark.line) + 1 if mark is not None else 1


def _parser_message(error: BaseException) -> str:
    return " ".join(str(getattr(error, "problem", None) or error).split())[:300]


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "nothing" if node.tag == "tag:yaml.org,2002:null" else "a single value"
