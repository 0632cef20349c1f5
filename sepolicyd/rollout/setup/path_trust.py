"""Which paths of a plan root may obey and relabel: what another user can change stops `init`, or is a warning.

What `init` runs or obeys itself must be root's alone. What the service owns is judged by what root trusts already: the
service's own user and system accounts are a warning, since the service is installed so on many machines; a person's
account, and what every user can write, stop the plan.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator
from pathlib import Path

from sepolicyd import process
from sepolicyd.problems import Problem, Severity
from sepolicyd.profiles import Profile
from sepolicyd.services.codes import SetupCode
from sepolicyd.services.discovery import Found, Label
from sepolicyd.services.rootfs import inside
from sepolicyd.settings import Settings
from sepolicyd.storage.trust import Weakness, entry_weaknesses, links_below, weaknesses_along

TOOLS = ("make", "checkmodule", "semodule_package", "semodule", "semanage", "restorecon", "setfiles")
FIRST_PERSON = 1000  # login.defs(5), UID_MIN and GID_MIN
USERS_GROUP = 100  # "users", of which every person is a member on some distributions
NOBODY = 65534
SHOWN = 3
"""Problems that are named for each tree; the rest is counted."""


def judge(settings: Settings, profile: Profile, headers: Path, found: Found) -> list[Problem]:
    """Judge everything that `init` obeys and relabels."""
    return [*obeyed(settings, profile, headers, found), *relabelled(settings.root, found.labels, found)]


def obeyed(settings: Settings, profile: Profile, headers: Path, found: Found) -> list[Problem]:
    """Judge what `init` runs and reads as configuration; nothing where the caller is not root, who risks nothing of others."""
    if os.geteuid() != 0:
        return []
    problems = []
    for path, purpose in _run_and_read(settings, profile, headers):
        problems += [_stop(weak, f"init {purpose} {path}") for weak in weaknesses_along(path)]
    for file in found.unit.files if found.unit else ():
        place = Path("/") / file.relative_to(settings.root)
        for weak in weaknesses_along(place, root=settings.root):
            problems.append(_stop(weak, f"the unit file {place} says what is relabelled"))
    trusted = _service_users(settings.root, found)
    for text in found.configuration:
        for weak in weaknesses_along(Path(text), root=settings.root):
            problems.append(_judged(weak, trusted, f"{text} says which paths are relabelled"))
    return list(dict.fromkeys(problems))


def relabelled(root: Path, labels: Iterable[Label], found: Found) -> list[Problem]:
    """Judge the paths that get a label: every parent, and the links below."""
    if os.geteuid() != 0:
        return []
    trusted = _service_users(root, found)
    problems: list[Problem] = []
    for label in labels:
        place = inside(root, label.path)
        if not (place.exists() or place.is_symlink()):
            continue
        for weak in weaknesses_along(Path(label.path), root=root):
            problems.append(_judged(weak, trusted, f"{label.path} is to become {label.type}"))
        problems += _few([_link(weak, trusted, label) for weak in links_below(place)], label)
    return list(dict.fromkeys(problems))


def _run_and_read(settings: Settings, profile: Profile, headers: Path) -> Iterator[tuple[Path, str]]:
    for tool in TOOLS:
        found = process.which(tool)
        if found is not None:
            yield Path(found), "runs"
    if (headers / "Makefile").is_file():
        yield (headers / "Makefile").absolute(), "runs"
        for place, _, files in os.walk(headers.absolute() / "include"):
            yield from ((Path(place) / name, "compiles") for name in files)
    if settings.config.exists():
        yield settings.config.absolute(), "obeys"
    for folder in (profile.directory.absolute(), *(path.absolute() for path in settings.policy_dirs)):
        # a checkout is trusted as far as the program in it
        if folder.is_dir() and not (process.SOURCE_TREE and process.SOURCE_TREE in folder.parents):
            yield from ((path, "loads") for path in sorted(folder.glob("*")) if path.is_file())


def _service_users(root: Path, found: Found) -> frozenset[int]:
    """The user ids of the unit's User=; empty where it is root or not known."""
    if found.unit is None or found.unit.user in ("root", "0"):
        return frozenset()
    name = found.unit.user
    if name.isdigit():
        return frozenset({int(name)})
    if root == Path("/"):
        try:
            return frozenset({pwd.getpwnam(name).pw_uid})
        except KeyError:
            return frozenset()
    try:
        text = (root / "etc/passwd").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    rows = (line.split(":") for line in text.splitlines())
    return frozenset(int(row[2]) for row in rows if len(row) > 3 and row[0] == name and row[2].isdigit())


def _is_service(weak: Weakness, trusted: frozenset[int]) -> bool:
    """Whether the weakness is a system account's or the service's own user's."""
    if weak.user is not None:
        return weak.user in trusted or weak.user < FIRST_PERSON
    if weak.group is not None:
        return weak.group in trusted or (weak.group < FIRST_PERSON and weak.group != USERS_GROUP)
    return False


def _stop(weak: Weakness, purpose: str) -> Problem:
    hint = f"run: chown root {weak.path}; chmod go-w {weak.path}"
    return Problem(Severity.STOP, SetupCode.TRUST.value, f"{weak}, and {purpose}", hint)


def _judged(weak: Weakness, trusted: frozenset[int], purpose: str) -> Problem:
    if not _is_service(weak, trusted):
        return _stop(weak, purpose)
    hint = f"stop the service while init runs; better: chown root {weak.path}; chmod go-w {weak.path}"
    return Problem(Severity.WARN, SetupCode.TRUST.value, f"{weak}, and {purpose}", hint)


def _link(weak: Weakness, trusted: frozenset[int], label: Label) -> Problem:
    """Judge a link: a hard link where another user than root can make one, and a symbolic link of a person, stop the plan."""
    what = f"{weak}, and it is to become {label.type}"
    roots = not any(entry_weaknesses(weak.path.parent))
    if weak.path.is_symlink():
        roots = roots and not any(entry_weaknesses(weak.path))
        calm = roots or (_is_service(weak, trusted) and weak.user != 0)
        hint = "init labels the link, not its target" if calm else f"look where it points, then remove it: {weak.path}"
    else:
        calm = roots
        hint = f"find its other names: find / -xdev -samefile {weak.path}; then replace it by a copy"
    return Problem(Severity.WARN if calm else Severity.STOP, SetupCode.LINK.value, what, hint)


def _few(problems: list[Problem], label: Label) -> list[Problem]:
    problems.sort(key=lambda one: -one.level)
    rest = len(problems) - SHOWN
    if rest <= 0:
        return problems
    more = Problem(problems[SHOWN].level, SetupCode.LINK.value, f"{label.path} has {rest} more such links", "")
    return [*problems[:SHOWN], more]
