"""Trust checks of the paths in a plan: paths that another user can change stop `init`, or cause a warning.

Files that `init` runs or acts on must be writable by root only. For the service's own files, write access of the service's user
or of a system account is a warning, since many machines install services that way; write access of a person's account or of
every user stops the plan.
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
USERS_GROUP = 100  # "users", which contains all persons on some distributions
NOBODY = 65534
SHOWN = 3
"""Problems that are named for each tree; the rest is counted."""


def judge(settings: Settings, profile: Profile, headers: Path, found: Found) -> list[Problem]:
    """Check all files that `init` acts on and relabels."""
    return [*obeyed(settings, profile, headers, found), *relabelled(settings.root, found.labels, found)]


def obeyed(settings: Settings, profile: Profile, headers: Path, found: Found) -> list[Problem]:
    """Check the files that `init` runs or reads as configuration. Skipped if the caller is not root."""
    if os.geteuid() != 0:
        return []
    problems = []
    for path, purpose in _run_and_read(settings, profile, headers):
        problems += [_stop(weak, f"init {purpose} {path}") for weak in weaknesses_along(path)]
    for file in found.unit.files if found.unit else ():
        place = Path("/") / file.relative_to(settings.root)
        for weak in weaknesses_along(place, root=settings.root):
            problems.append(_stop(weak, f"the unit file {place} determines which paths are relabelled"))
    trusted = _service_users(settings.root, found)
    for text in found.configuration:
        for weak in weaknesses_along(Path(text), root=settings.root):
            problems.append(_judged(weak, trusted, f"{text} determines which paths are relabelled"))
    return list(dict.fromkeys(problems))


def relabelled(root: Path, labels: Iterable[Label], found: Found) -> list[Problem]:
    """Check the paths that get a label: all parents, and the links below."""
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
        # a source checkout is trusted as much as the program that runs from it
        if folder.is_dir() and not (process.SOURCE_TREE and process.SOURCE_TREE in folder.parents):
            yield from ((path, "loads") for path in sorted(folder.glob("*")) if path.is_file())


def _service_users(root: Path, found: Found) -> frozenset[int]:
    """Return the user ids of the unit's User=; empty if it is root or unknown."""
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
    """Tell whether the write access belongs to a system account or the service's own user."""
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
    hint = f"stop the service while init runs, or preferably run: chown root {weak.path}; chmod go-w {weak.path}"
    return Problem(Severity.WARN, SetupCode.TRUST.value, f"{weak}, and {purpose}", hint)


def _link(weak: Weakness, trusted: frozenset[int], label: Label) -> Problem:
    """Check a link. Hard links that a user other than root can create, and symbolic links of persons, stop the plan."""
    what = f"{weak}, and it is to become {label.type}"
    roots = not any(entry_weaknesses(weak.path.parent))
    if weak.path.is_symlink():
        roots = roots and not any(entry_weaknesses(weak.path))
        calm = roots or (_is_service(weak, trusted) and weak.user != 0)
        hint = "init labels the link, not its target" if calm else f"check its target, then remove it: {weak.path}"
    else:
        calm = roots
        hint = f"find its other names: find / -xdev -samefile {weak.path}; then replace it with a copy"
    return Problem(Severity.WARN if calm else Severity.STOP, SetupCode.LINK.value, what, hint)


def _few(problems: list[Problem], label: Label) -> list[Problem]:
    problems.sort(key=lambda one: -one.level)
    rest = len(problems) - SHOWN
    if rest <= 0:
        return problems
    more = Problem(problems[SHOWN].level, SetupCode.LINK.value, f"{label.path} has {rest} more such links", "")
    return [*problems[:SHOWN], more]
