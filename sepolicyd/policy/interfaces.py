"""Find interfaces of the reference policy that cover accesses, each with its exact surplus.

Each one-argument interface in the headers (/usr/share/selinux/devel/include) is expanded once by m4, like in the Makefile
of the headers, and cached. Interfaces with other statements than allow and dontaudit are never offered, because the effect
of an attribute may change with the next version of the policy.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any, Optional

from sepolicyd.access import SELF, Access
from sepolicyd.errors import InputError, StateError
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.interface_parser import EVERY, InterfaceRule, InterfaceText, Names, UnusableError, parse_interface
from sepolicyd.process import run
from sepolicyd.storage.files import write_whole

INCLUDE = Path("/usr/share/selinux/devel/include")
SUBJECT = "sepolicyd_subject_t"
FORMAT = 1  # of the cache file
MAX_SURPLUS = 60  # a longer list would not be read
MAX_ACCESSES = 1000
MAX_OFFERS = 3
MAX_COUNTED = 80  # accesses of an interface that are compared when its users are counted
WORD = re.compile(r"[A-Za-z_][\w.-]*")
INTERFACE = re.compile(r"^(interface|template)\(`(\w+)',", re.MULTILINE)
DBUS = "dbus"
MARK = re.compile(r"^@@([0-9]+)@@", re.MULTILINE)


@dataclass(frozen=True)
class Offer:
    """An interface that allows all accesses of a candidate."""

    interface: str
    source: str
    """Its argument: the source of the accesses, or their target if the interface allows both directions of D-Bus."""
    accesses: frozenset[Access]
    surplus: tuple[Access, ...]
    """Accesses beyond the candidate and the current policy."""
    silences: tuple[Access, ...] = ()
    """Accesses that it would dontaudit and that are logged at present."""
    users: int = 0
    """Number of confined domains that hold all accesses of the interface, a measure of its use."""
    direct: bool = True
    """Whether its text names the other type itself, not only one of its attributes."""

    @property
    def rank(self) -> tuple[bool, int, int, int, str]:
        """Sort key: first the interface with most users, which a policy author would choose."""
        return (not self.direct, -self.users, len(self.surplus), len(self.silences), self.interface)

    def __str__(self) -> str:
        return f"{self.interface}({self.source})"


class Interfaces:
    """All interfaces of the headers, indexed by the names in their text. Each is parsed on first use."""

    def __init__(self, expansions: dict[str, str]) -> None:
        self._expansions = expansions
        self._parsed: dict[str, Optional[InterfaceText]] = {}
        self._by_word: dict[str, set[str]] = {}
        for name, text in expansions.items():
            for word in set(WORD.findall(text)):
                self._by_word.setdefault(word, set()).add(name)

    def __len__(self) -> int:
        return len(self._expansions)

    def __contains__(self, name: str) -> bool:
        return name in self._expansions

    def text(self, name: str) -> Optional[InterfaceText]:
        """Return an interface's rules, None if it contains other statements than allow and dontaudit."""
        if name not in self._parsed:
            try:
                self._parsed[name] = parse_interface(self._expansions[name])
            except UnusableError:
                self._parsed[name] = None
        return self._parsed[name]

    @classmethod
    def load(cls, cache: Path, include: Path = INCLUDE) -> Interfaces:
        """Read the interfaces, from the cache if the headers have not changed.

        :param cache: directory for the expansions; a missing directory or a damaged cache file is created
        :raises InputError: the headers are missing
        :raises ToolMissingError: m4 is not installed
        """
        if not (include / "support").is_dir():
            raise InputError(
                f"the reference policy's interfaces are not in {include}",
                "install selinux-policy-dev (Debian) or selinux-policy-devel (Fedora, RHEL) to have interfaces offered",
            )
        files = sorted(include.glob("*/*.if"))
        kept = cache / f"interfaces-{_identity(include, files)}.json"
        expansions = _read_cache(kept)
        if expansions is None:
            expansions = expand(include, files)
            _write_cache(kept, expansions)
        return cls(expansions)

    def covering(
        self, policy_index: PolicyIndex, accesses: Iterable[Access], *, refuses: Callable[[Access], bool] = lambda _: False
    ) -> list[Offer]:
        """Return up to MAX_OFFERS interfaces that allow all of the accesses (of one source), the most usual first.

        :param refuses: True for an access that must never be offered; interfaces with one in their surplus are skipped
        """
        wanted = frozenset(accesses)
        if not wanted or len({access.source for access in wanted}) != 1:
            return []
        subject = next(iter(wanted)).source
        offers = [self._offer(name, policy_index, wanted, refuses, subject) for name in self._named(wanted, policy_index)]
        for other in _other_ends(wanted, policy_index):
            turned = frozenset(Access.of(other, access.source, access.tclass, access.permission) for access in wanted)
            offers += [self._offer(name, policy_index, wanted, refuses, other) for name in self._named(turned, policy_index)]
        found = {str(offer): offer for offer in offers if offer is not None}
        return sorted(found.values(), key=lambda offer: offer.rank)[:MAX_OFFERS]

    def _named(self, wanted: frozenset[Access], policy_index: PolicyIndex) -> list[str]:
        """Return the interfaces whose text names the class and the target (or its attribute) of every access."""
        names: Optional[set[str]] = None
        for access in wanted:
            reach = {access.target, access.target_type, *policy_index.attributes_of(access.target_type)}
            here = set().union(*(self._by_word.get(word, ()) for word in reach)) & self._by_word.get(access.tclass, set())
            names = here if names is None else names & here
        return sorted(names or ())

    def _offer(
        self,
        name: str,
        policy_index: PolicyIndex,
        wanted: frozenset[Access],
        refuses: Callable[[Access], bool],
        subject: str,
    ) -> Optional[Offer]:
        text = self.text(name)
        if text is None or any(
            not policy_index.types_of(item) and item not in policy_index.attributes for item in text.required
        ):
            return None  # other statements, or a module with the interface would not link
        given = _within(text, "allow", subject, policy_index)
        if given is None or not wanted <= given:
            return None
        surplus = [access for access in given - wanted if not policy_index.allowed(access).allowed]
        hidden = _within(text, "dontaudit", subject, policy_index)
        if hidden is None or len(surplus) > MAX_SURPLUS or any(refuses(access) for access in surplus):
            return None
        silences = sorted(access for access in hidden - given if not policy_index.allowed(access).dontaudited)
        if any(refuses(access) for access in silences):
            return None
        mine = sorted(access for access in given if access.source == subject)
        users = policy_index.count_holding_all(mine[:MAX_COUNTED])
        return Offer(
            name, subject, given, tuple(sorted(surplus)), tuple(silences), users, self._is_direct(name, wanted, subject)
        )

    def _is_direct(self, name: str, wanted: frozenset[Access], subject: str) -> bool:
        """Tell whether an interface is meant for the other type. For D-Bus only, one may cover a call as a side effect."""
        if any(access.tclass != DBUS for access in wanted):
            return True
        others = {access.source if access.target_type == subject else access.target_type for access in wanted}
        return all(name in self._by_word.get(other, ()) for other in others)


def _other_ends(wanted: frozenset[Access], policy_index: PolicyIndex) -> tuple[str, ...]:
    """Return the target of D-Bus messages: X_dbus_chat allows both directions, so either side may be its argument."""
    targets = {access.target_type for access in wanted}
    if len(targets) != 1 or any(access.tclass != DBUS for access in wanted):
        return ()
    return tuple(target for target in targets if target in policy_index.domains and target not in policy_index.unconfined)


def _within(text: InterfaceText, word: str, source: str, policy_index: PolicyIndex) -> Optional[frozenset[Access]]:
    """Return every access of the rules of one kind (allow, dontaudit), None if there are too many."""
    found: set[Access] = set()
    for rule in text.rules:
        if rule.word == word:
            found.update(islice(accesses_of(rule, source, policy_index), MAX_ACCESSES + 1))
            if len(found) > MAX_ACCESSES:
                return None
    return frozenset(found)


def accesses_of(rule: InterfaceRule, subject: str, policy_index: PolicyIndex) -> Iterator[Access]:
    """Yield every access of a rule with its argument replaced by ``subject``, attributes expanded by the policy."""
    sources, targets = _types(rule.sources, subject, policy_index), _types(rule.targets, subject, policy_index)
    for tclass in rule.classes.of(frozenset(policy_index.classes)) & policy_index.classes.keys():
        permissions = rule.permissions.of(policy_index.classes[tclass]) & policy_index.classes[tclass]
        for source, target, permission in product(sources, targets, permissions):
            yield Access.of(source, source if target == SELF else target, tclass, permission)


def _types(names: Names, subject: str, policy_index: PolicyIndex) -> frozenset[str]:
    def expanded(members: frozenset[str]) -> frozenset[str]:
        found: set[str] = set()
        for name in members:
            if name in {SELF, EVERY}:
                found.add(name)
            else:
                found |= {subject} if name == SUBJECT else policy_index.types_of(name)
        return frozenset(found)

    members = expanded(names.members)
    every = frozenset(policy_index.types) if names.complement or EVERY in members else frozenset()
    return Names(members, expanded(names.without), names.complement).of(every)


# -- expansion -------------------------------------------------------------------------------------------------------------


def expand(include: Path, files: Iterable[Path]) -> dict[str, str]:
    """Expand every interface with one parameter; return its text by name, with SUBJECT as the argument."""
    names = [name for path in files for name in one_argument_interfaces(_read(path))]
    support = [str(path) for path in sorted((include / "support").glob("*.spt"))]
    with tempfile.TemporaryDirectory(prefix="sepolicyd-") as folder:
        everything, calls = Path(folder, "all.conf"), Path(folder, "calls.te")
        # as in the Makefile of the headers: rule tmp/all_interfaces.conf, then m4 -s of support, interfaces and source
        defined = run(["m4", *support, *map(str, files)]).stdout.replace("dollarsstar", "$*")
        everything.write_text(f"divert(-1)\n{defined}\ndivert\n", encoding="utf-8")
        calls.write_text("".join(f"@@{number}@@\n{name}({SUBJECT})\n" for number, name in enumerate(names)), encoding="utf-8")
        done = run(["m4", *_definitions(include / "build.conf"), *support, str(everything), str(calls)])
    parts = MARK.split(done.stdout)[1:]
    return {names[int(number)]: _squeezed(text) for number, text in zip(parts[::2], parts[1::2])}


def one_argument_interfaces(text: str) -> list[str]:
    """Return the names of the interfaces in an .if file that use only their first argument."""
    found = []
    heads = list(INTERFACE.finditer(text))
    for head, following in zip(heads, [*heads[1:], None]):
        # ignore comments: the documentation of the next interface may name its parameters
        lines = text[head.end() : following.start() if following else len(text)].splitlines()
        body = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        if head[1] == "interface" and "$1" in body and not re.search(r"\$[2-9*@]", body):
            found.append(head[2])
    return found


def _definitions(path: Path) -> list[str]:
    """Return the -D options that the Makefile of the headers derives from build.conf."""
    values = dict(re.findall(r"^(?:override )?(\w+)\s*[?:]?=\s*(\S*)", _read(path) if path.is_file() else "", re.MULTILINE))
    names = ["hide_broken_symptoms", f"mls_num_sens={values.get('MLS_SENS', 16)}"]
    names += [f"mls_num_cats={values.get('MLS_CATS', 1024)}", f"mcs_num_cats={values.get('MCS_CATS', 1024)}"]
    names += [f"enable_{values['TYPE']}"] if values.get("TYPE") in {"mls", "mcs"} else []
    names += [f"distro_{values['DISTRO']}"] if values.get("DISTRO") else []
    for key, name in (("SYSTEMD", "init_systemd"), ("DIRECT_INITRC", "direct_sysadm_daemon"), ("UBAC", "enable_ubac")):
        names += [name] if values.get(key) == "y" else []
    return [word for name in names for word in ("-D", name)]


def _squeezed(text: str) -> str:
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return "\n".join(" ".join(line.split()) for line in lines if line)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


# -- cache -----------------------------------------------------------------------------------------------------------------


def _identity(include: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256(f"{FORMAT} {include}".encode())
    for path in (*files, *sorted((include / "support").glob("*.spt")), include / "build.conf"):
        if path.is_file():
            stat = path.stat()
            digest.update(f"{path} {stat.st_mtime_ns} {stat.st_size}\n".encode())
    return digest.hexdigest()[:16]


def _read_cache(path: Path) -> Optional[dict[str, str]]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and all(isinstance(name, str) and isinstance(text, str) for name, text in found.items())
    return found if whole else None


def _write_cache(path: Path, expansions: dict[str, str]) -> None:
    """Write the expansions to the cache; after a failure the next command expands the interfaces again."""
    try:
        for old in path.parent.glob("interfaces-*.json"):
            old.unlink()
        write_whole(path, json.dumps(expansions).encode())
    except (OSError, StateError):
        return
