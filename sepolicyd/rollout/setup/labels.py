"""An Installation in, file contexts out: what is labelled how, and what stands against it (shared trees, owners, mounts)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from sepolicyd.errors import ToolError
from sepolicyd.module.source import FileContext
from sepolicyd.problems import Problem, Severity
from sepolicyd.services.jupyterhub.discover import Installation
from sepolicyd.services.unit_file import Unit

XATTR = "security.selinux"
# Trees that others share: a file in them may be labelled, the tree never
_SHARED = """
/ /bin /boot /dev /etc /home /lib /lib64 /mnt /opt /proc /root /run /sbin /srv /sys /tmp /usr /usr/bin /usr/lib
/usr/local /usr/local/bin /usr/local/etc /usr/local/lib /usr/sbin /usr/share /var /var/lib /var/lib/private /var/log
/var/run /var/spool /var/tmp /etc/ssl /etc/ssl/certs /etc/ssl/private /etc/pki /etc/pki/tls /etc/pki/tls/private
/etc/letsencrypt /etc/systemd /var/cache
"""
SHARED = frozenset(_SHARED.split())
# What the base policy gives to whatever has no policy of its own; any other label has an owner
_GENERIC = """
bin_t cert_t default_t etc_t etc_runtime_t lib_t root_t src_t unlabeled_t user_home_dir_t user_home_t usr_t var_lib_t
var_log_t var_run_t var_spool_t var_t file_t home_root_t admin_home_t user_runtime_root_t
"""
GENERIC = frozenset(_GENERIC.split())
USERS_TREES = ("/home/", "/root/", "/tmp/", "/var/tmp/")  # noqa: S108 named to be refused
SPECIAL = re.compile(r"([\\.^$?*+|()\[\]{}])")


@dataclass(frozen=True)
class Label:
    """One path and the type that it should have; ``tree``: with all that is in it."""

    path: str
    type: str
    tree: bool = False
    what: str = ""

    def context(self, subs: Mapping[str, str]) -> FileContext:
        """Its line of .fc. ``subs``: file_contexts.subs, by which paths are renamed before a pattern is looked for."""
        pattern = SPECIAL.sub(r"\\\1", substituted(self.path, subs))
        return FileContext(f"{pattern}(/.*)?", self.type) if self.tree else FileContext(pattern, self.type, "--")


def substituted(path: str, subs: Mapping[str, str]) -> str:
    """The path under which libselinux looks a path up: of the aliases that begin it the longest, once (label_file.c)."""
    for alias in sorted(subs, key=len, reverse=True):
        if path == alias or path.startswith(alias.rstrip("/") + "/"):
            return subs[alias].rstrip("/") + path[len(alias.rstrip("/")) :]
    return path


def read_subs(contexts: Path) -> dict[str, str]:
    """Aliases of file_contexts.subs_dist and .subs (selabel_file(5)), the administrator's over the distribution's.

    :param contexts: path of file_contexts
    """
    found: dict[str, str] = {}
    for suffix in (".subs_dist", ".subs"):
        try:
            text = contexts.with_name(contexts.name + suffix).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        words = (line.split("#")[0].split() for line in text.splitlines())
        found.update({pair[0]: pair[1] for pair in words if len(pair) == 2})
    return found


def labels_of(found: Installation, prefix: str = "jupyterhub") -> tuple[Label, ...]:
    """All that the installation's files should be, sorted by path; a tree that others share gives labels of its files only."""
    programs = [Label(found.hub, f"{prefix}_exec_t", what="the hub")]
    programs += [Label(path, f"{prefix}_user_exec_t", what="starts a student's server") for path in found.user_scripts]
    if found.proxy:
        programs.append(Label(found.proxy, f"{prefix}_proxy_exec_t", what="the proxy"))
    labels = [*programs, *_configuration(found, prefix), *_state(found, prefix), *unit_labels(found.unit, prefix)]
    labels = [label for label in labels if not (label.tree and label.path in SHARED)]
    # the same path twice: the first one wins, secrets stand before the trees that hold them
    return tuple(sorted({label.path: label for label in reversed(labels)}.values(), key=lambda label: label.path))


def _configuration(found: Installation, prefix: str) -> list[Label]:
    labels = []
    for key, kind in (
        ("JupyterHub.ssl_key", "tls"),
        ("JupyterHub.ssl_cert", "tls"),
        ("JupyterHub.cookie_secret_file", "secret"),
    ):
        path = found.config.text(key)
        if path:
            labels.append(Label(found.path(path), f"{prefix}_{kind}_t", what=key))
    key = found.config.text("JupyterHub.ssl_key")
    folder = os.path.dirname(found.path(key)) if key else ""  # noqa: PTH120 a text
    if folder and folder not in SHARED and Path(folder).name in ("keys", "ssl", "tls", "certs", "private"):
        labels.append(Label(folder, f"{prefix}_tls_t", tree=True, what="TLS key and certificate"))
    if found.config.path is not None:
        folder = os.path.dirname(found.config.path)  # noqa: PTH120
        if folder in SHARED or folder == found.workdir:
            labels.append(Label(str(found.config.path), f"{prefix}_etc_t", what="configuration"))
        else:
            labels.append(Label(folder, f"{prefix}_etc_t", tree=True, what="configuration"))
    return labels


def _state(found: Installation, prefix: str) -> list[Label]:
    labels = []
    if not found.config.text("JupyterHub.cookie_secret_file"):
        labels.append(Label(found.path("jupyterhub_cookie_secret"), f"{prefix}_secret_t", what="cookie secret"))
    labels += [Label(folder, f"{prefix}_var_lib_t", tree=True, what="state") for folder in state_dirs(found)]
    log = found.config.text("JupyterHub.extra_log_file")
    if log:
        labels.append(Label(found.path(log), f"{prefix}_log_t", what="log"))
    return labels


def state_dirs(found: Installation) -> tuple[str, ...]:
    """Directories in which the hub keeps state: its working directory and the one of its sqlite file."""
    url = found.config.text("JupyterHub.db_url") or "sqlite:///jupyterhub.sqlite"
    # where no unit starts it, nobody knows the working directory; what is configured by a full path, or kept by a database
    # server, does not lie there
    elsewhere = url.startswith("sqlite:////") or not url.startswith("sqlite:")
    folders = [] if found.unit is None and elsewhere else [found.workdir]
    if url.startswith("sqlite:///"):
        folders.append(os.path.dirname(found.path(url[len("sqlite:///") :])))  # noqa: PTH120
    return tuple(dict.fromkeys(os.path.normpath(folder) for folder in folders))


def unit_labels(unit: Optional[Unit], prefix: str) -> list[Label]:
    """What systemd makes for the unit (systemd.exec(5)): RuntimeDirectory= and the like, and a log that it appends to."""
    if unit is None:
        return []
    labels = []
    for key, parent, kind in (
        ("RuntimeDirectory", "/run", "runtime"),
        ("StateDirectory", "/var/lib", "var_lib"),
        ("LogsDirectory", "/var/log", "log"),
        ("ConfigurationDirectory", "/etc", "etc"),
    ):
        labels += [Label(f"{parent}/{name}", f"{prefix}_{kind}_t", tree=True, what=key) for name in unit.words(key)]
    for key in ("StandardOutput", "StandardError"):
        way, colon, path = unit.get(key).partition(":")
        if colon and way in ("append", "file", "truncate") and path.startswith("/"):
            labels.append(Label(path, f"{prefix}_log_t", what=f"the unit's {key}"))
    return labels


def findings_of(found: Installation) -> list[Problem]:
    """What the places of the files forbid."""
    findings = []
    for folder in state_dirs(found):
        if folder in SHARED:
            what = f"the hub keeps its state in {folder}, which others share: it could neither be labelled nor kept from others"
            hint = "set WorkingDirectory= in the unit, to /var/lib/jupyterhub say, and move jupyterhub.sqlite there"
            findings.append(Problem(Severity.STOP, "I-shared", what, hint))
    key = found.config.text("JupyterHub.ssl_key")
    if key and found.path(key).startswith(("/etc/letsencrypt/", "/etc/pki/", "/etc/ssl/")):
        what = f"the TLS key {found.path(key)} may serve other programs too, which could not read it any more"
        findings.append(Problem(Severity.WARN, "I-key", what, "copy key and certificate to /etc/jupyterhub/keys"))
    if found.prefix.startswith(USERS_TREES):
        what = f"JupyterHub is installed in {found.prefix}, where users' files lie: its code would not be protected"
        findings.append(Problem(Severity.STOP, "I-home", what, "install it under /opt"))
    return findings


def code_labels(found: Installation) -> tuple[Label, ...]:
    """Labels that a prefix in an unusual place needs, so that python and its libraries are programs and code there."""
    usual = ("/usr/", "/opt/", "/usr/local/")
    if not found.prefix or found.prefix == "/usr" or found.prefix.startswith(usual):
        return ()
    return (
        Label(found.prefix, "usr_t", tree=True, what="installation"),
        Label(f"{found.prefix}/bin", "bin_t", tree=True, what="programs"),
        Label(f"{found.prefix}/lib", "lib_t", tree=True, what="libraries"),
    )


def owner_findings(labels: Iterable[Label], present: Callable[[str, str], Optional[str]], own: frozenset[str]) -> list[Problem]:
    """Paths that another module's file contexts name already.

    :param present: the type that file_contexts gives a path now, by path and class ("file", "dir"), None for none
    """
    findings = []
    for label in labels:
        now = present(label.path, "dir" if label.tree else "file")
        if now and now not in GENERIC and now not in own:
            what = f"{label.path} is {now} now: another module owns it"
            hint = "remove that module or that file context, or put the file elsewhere"
            findings.append(Problem(Severity.STOP, "I-path", what, hint))
    return findings


def mount_findings(labels: Iterable[Label], mounts: Optional[str]) -> list[Problem]:
    """Paths on file systems that keep no labels. ``mounts`` is /proc/self/mounts; the kernel writes ``seclabel`` where it may.

    None, and a machine whose root has no ``seclabel`` (SELinux is off there), give nothing to judge by.
    """
    table = _mounts(mounts or "")
    root = next((options for point, _, options in reversed(table) if point == "/"), ())
    if "seclabel" not in root:
        return []
    findings = []
    for label in labels:
        point, kind, options = _mount_of(label.path, table)
        fixed = next((option for option in options if option.startswith("context=")), "")
        if "seclabel" not in options or fixed:
            why = f"mounted with {fixed}" if fixed else f"a {kind} file system, which keeps no labels"
            what = f"{label.path} lies on {point}, {why}: it cannot become {label.type}"
            findings.append(Problem(Severity.STOP, "I-mount", what, "move it to a file system with labels (ext4, xfs, btrfs)"))
    return findings


def _mounts(text: str) -> list[tuple[str, str, Sequence[str]]]:
    found: list[tuple[str, str, Sequence[str]]] = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) >= 4:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), fields[1])
            found.append((point, fields[2], fields[3].split(",")))
    return found


def _mount_of(path: str, table: Sequence[tuple[str, str, Sequence[str]]]) -> tuple[str, str, Sequence[str]]:
    """The longest mount point that holds the path; of several on one point the last is on top."""
    best: tuple[str, str, Sequence[str]] = ("/", "", ())
    for point, kind, options in table:
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = (point, kind, options)
    return best


def label_of(context: FileContext) -> Label:
    """A label of a .fc line: the plain text in front of the pattern's first meta character is what is relabelled."""
    if context.pattern.endswith("(/.*)?"):
        return Label(_plain(context.pattern[: -len("(/.*)?")]), context.type, tree=True)
    return Label(_plain(context.pattern), context.type, tree=context.kind == "-d")


def _plain(pattern: str) -> str:
    out = ""
    index = 0
    while index < len(pattern):
        char = pattern[index]
        if char == "\\" and index + 1 < len(pattern):
            out += pattern[index + 1]
            index += 2
            continue
        if char in ".^$?*+|()[]{}":
            return out.rpartition("/")[0] or "/"
        out += char
        index += 1
    return out


def booleans_of(found: Installation) -> tuple[tuple[str, str], ...]:
    """Booleans that the configuration asks for, with the setting that says so; nobody switches them but a person."""
    config = found.config
    login, spawner = config.text("JupyterHub.authenticator_class").lower(), config.text("JupyterHub.spawner_class").lower()
    database = config.text("JupyterHub.db_url")
    wanted = []
    if any(word in login for word in ("oauth", "github", "google", "gitlab", "openid", "azure", "cilogon", "globus")):
        wanted.append(("jupyterhub_connect_web", f"authenticator_class is {login}"))
    if "ldap" in login:
        wanted.append(("jupyterhub_connect_ldap", f"authenticator_class is {login}"))
    if database.startswith(("postgres", "mysql", "mariadb")):
        wanted.append(("jupyterhub_connect_db", f"db_url is a {database.partition(':')[0]} server"))
    if "sudo" in spawner:
        wanted.append(("jupyterhub_use_sudospawner", f"spawner_class is {spawner}"))
    if "systemd" in spawner:
        wanted.append(("jupyterhub_use_systemdspawner", f"spawner_class is {spawner}"))
    if config.values.get("LocalAuthenticator.create_system_users") is True:
        wanted.append(("jupyterhub_create_users", "create_system_users is on"))
    if "Spawner.pre_spawn_hook" in (*config.values, *config.computed):
        wanted.append(("jupyterhub_hub_write_homes", "pre_spawn_hook is set; only if it writes to users' homes"))
    return tuple(wanted)


def read_contexts(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """The whole context of each path and of all below it, links not followed; "" for one without a label."""
    places = (item for path in paths for item in _walk(root / path.lstrip("/")))
    return {"/" + place.relative_to(root).as_posix(): _context(place) for place in places}


def _context(place: Path) -> str:
    try:
        return os.getxattr(place, XATTR, follow_symlinks=False).rstrip(b"\0").decode(errors="replace")
    except OSError:  # ENODATA, or a file system that knows no such attribute
        return ""


def write_contexts(root: Path, contexts: Mapping[str, str]) -> None:
    """Give each path the context that it had, where it has another now.

    :raises ToolError: a path is there and cannot be labelled
    """
    for path, context in sorted(contexts.items()):
        place = root / path.lstrip("/")
        try:
            if _context(place) == context:
                continue
            if context:
                os.setxattr(place, XATTR, context.encode() + b"\0", follow_symlinks=False)
            else:
                os.removexattr(place, XATTR, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            what = f"{path} cannot become {context or 'unlabelled'}: {error.strerror}"
            raise ToolError(what, f"run: chcon {context} {path}") from error


def can_label(root: Path) -> bool:
    """Whether security xattrs can be set below a root (the right to, and a file system that keeps them)."""
    probe = root / ".sepolicyd-label"
    try:
        probe.touch()
        os.setxattr(probe, XATTR, b"system_u:object_r:default_t:s0\0")
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def _walk(place: Path) -> Iterable[Path]:
    if not place.exists() and not place.is_symlink():
        return
    yield place
    if place.is_dir() and not place.is_symlink():
        for folder, names, files in os.walk(place):
            yield from (Path(folder) / name for name in (*names, *files))
