"""Types, permissions and programs common to all services, loaded from vocabulary.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from sepolicyd.document import Section, read
from sepolicyd.errors import InputError
from sepolicyd.settings import policy_dirs

FILE = "vocabulary.yaml"


@dataclass(frozen=True)
class Vocabulary:
    """The lists of vocabulary.yaml, which documents them."""

    unlabelled: frozenset[str]
    generic: frozenset[str]
    shared_directories: frozenset[str]
    transient: frozenset[str]
    programs: frozenset[str]
    homes: frozenset[str]
    ports: frozenset[str]
    service_manager: frozenset[str]
    changes: frozenset[str]
    entries: frozenset[str]
    probes: frozenset[str]
    inherited: frozenset[str]
    descriptors: frozenset[str]
    execve: frozenset[str]
    looks: frozenset[str]
    machine_code: tuple[str, ...]
    own_endings: Mapping[str, tuple[str, ...]]
    capabilities: Mapping[str, str]


def vocabulary() -> Vocabulary:
    """Return the vocabulary of the first policy directory that contains one.

    :raises InputError: no directory contains one, or the file has errors (the message lists all)
    """
    return _loaded(policy_dirs())


@lru_cache(maxsize=4)
def _loaded(dirs: tuple[Path, ...]) -> Vocabulary:
    for directory in dirs:
        if (directory / FILE).is_file():
            return parse(directory / FILE)
    raise InputError(f"there is no {FILE} in {', '.join(map(str, dirs))}", "install sepolicyd's policies")


def parse(path: Path) -> Vocabulary:
    """Parse the file.

    :raises InputError: the file has errors (the message lists all)
    """
    top = read(path)
    endings, capabilities = _section(top, "own_endings"), _section(top, "capabilities")
    lists = [one.name for one in fields(Vocabulary) if one.type == "frozenset[str]"]
    found = Vocabulary(
        **{name: frozenset(top.texts(name, required=True)) for name in lists},
        machine_code=top.texts("machine_code", required=True),
        own_endings={name: endings.texts(name) for name in endings.values},
        capabilities={name: capabilities.text(name) for name in capabilities.values},
    )
    top.done()
    top.mistakes.raise_if_any(f"vocabulary {path}")
    return found


def _section(top: Section, name: str) -> Section:
    part = top.section(name)
    if part is None:
        top.wrong(name, "is missing")
        return Section(top.node, name, top.mistakes)
    return part
