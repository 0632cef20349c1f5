"""Configuration, and the paths derived from it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

from sepolicyd.errors import UsageError
from sepolicyd.process import SOURCE_TREE

MODULE_PRIORITY = 360  # between setroubleshoot's 300, selinuxd's 350 and the administrator's 400
MODULE_PREFIX = "sepolicyd_"
HEADERS = "usr/share/selinux/devel"  # below the root; the same place on Debian, Fedora and RHEL
INSTALLED_DATA = Path("/usr/share/sepolicyd")
WHEEL_DATA = Path(sys.prefix) / "share" / "sepolicyd"  # where a wheel in a virtual environment puts the same files
LOCAL_PROFILES = Path("/etc/sepolicyd/policies")
DEFAULT_PROFILE = "jupyterhub"
DEFAULT_CONFIG = Path("/etc/sepolicyd/config.yaml")
DEFAULT_STATE = Path("/var/lib/sepolicyd")
DEFAULT_LOG = Path("/var/log/audit/audit.log")
DEFAULT_METRICS = Path("/run/sepolicyd/sepolicyd.prom")

# key -> (type, default, description); docs/configuration.md describes each key
KEYS: dict[str, tuple[type, Any, str]] = {
    "profile": (str, DEFAULT_PROFILE, "the default profile of commands"),
    "log": (str, str(DEFAULT_LOG), "the audit log to follow"),
    "state": (str, str(DEFAULT_STATE), "directory of evidence, decisions and journals"),
    "priority": (int, MODULE_PRIORITY, "semodule priority of sepolicyd's modules (1 to 399)"),
    "max_lease_seconds": (int, 8 * 3600, "longest single lease"),
    "max_lease_seconds_per_day": (int, 12 * 3600, "limit for all leases of 24 hours together"),
    "alert_command": (list, [], "command (argv) run for critical alerts; the text is its last argument"),
    "metrics_file": (
        str,
        str(DEFAULT_METRICS),
        "what `metrics --write` writes, for node_exporter's textfile collector; *.prom",
    ),
    "overrides": (list, [], "accesses allowed although the guard refuses them: each with access, reason and by"),
}


@dataclass(frozen=True)
class Settings:
    """The configuration of one command."""

    state: Path = DEFAULT_STATE
    root: Path = Path("/")
    """Root of the policy store: "/" for this machine, any other for `semodule -p ROOT -n`."""
    log: Path = DEFAULT_LOG
    profile: str = DEFAULT_PROFILE
    priority: int = MODULE_PRIORITY
    max_lease_seconds: int = 8 * 3600
    max_lease_seconds_per_day: int = 12 * 3600
    alert_command: tuple[str, ...] = ()
    metrics_file: Path = DEFAULT_METRICS
    overrides: tuple[dict[str, Any], ...] = ()
    config: Path = DEFAULT_CONFIG
    policy_dirs: tuple[Path, ...] = field(default=())
    headers: Optional[Path] = None
    """Directory with the policy headers' Makefile, None for the root's own."""

    @property
    def live(self) -> bool:
        """Whether the store is this machine's own."""
        return self.root == Path("/")

    @property
    def policy_headers(self) -> Path:
        """Directory of the headers that belong to the policy of this root."""
        return self.headers or self.root / HEADERS

    @property
    def evidence_db(self) -> Path:
        """Written by the daemon's user; all other readers treat it as untrusted."""
        return self.state / "evidence" / "evidence.db"

    @property
    def decisions_db(self) -> Path:
        """Written by root only."""
        return self.state / "decisions" / "decisions.db"

    @property
    def rollout_dir(self) -> Path:
        """Directory of root's records: leases, the apply journal, kept module versions."""
        return self.state / "rollout"


def policy_dirs() -> tuple[Path, ...]:
    """Return the directories that may hold <profile>/profile.yaml and guard.yaml, in order of precedence.

    These are SEPOLICYD_POLICIES (colon-separated, for tests), the administrator's directory, that of the source tree if
    sepolicyd runs from one, and the installed one.
    """
    return _policy_dirs(os.environ.get("SEPOLICYD_POLICIES", ""))


@lru_cache(maxsize=4)
def _policy_dirs(named: str) -> tuple[Path, ...]:
    tree = (SOURCE_TREE / "policies",) if SOURCE_TREE is not None else ()
    return (
        *(Path(part) for part in named.split(":") if part),
        LOCAL_PROFILES,
        *tree,
        INSTALLED_DATA / "policies",
        WHEEL_DATA / "policies",
    )


def load(config: Optional[Path] = None, *, state: Optional[Path] = None, root: Optional[Path] = None) -> Settings:
    """Read the configuration file and apply the options of the command line. The default file need not exist.

    :raises UsageError: the file is wrong; the message lists all mistakes
    """
    path = config or DEFAULT_CONFIG
    values = _read(path, required=config is not None)
    given: dict[str, Any] = {key: values.get(key, default) for key, (_, default, _) in KEYS.items()}
    return Settings(
        state=state or Path(os.environ.get("SEPOLICYD_STATE") or given["state"]),
        root=root or Path("/"),
        log=Path(given["log"]),
        profile=given["profile"],
        priority=given["priority"],
        max_lease_seconds=given["max_lease_seconds"],
        max_lease_seconds_per_day=given["max_lease_seconds_per_day"],
        alert_command=tuple(str(word) for word in given["alert_command"]),
        metrics_file=Path(given["metrics_file"]),
        overrides=tuple(given["overrides"]),
        config=path,
        policy_dirs=policy_dirs(),
    )


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise UsageError(f"configuration file {path} does not exist", "name another with --config") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"configuration file {path} cannot be read: {error}", "check its permissions and its text") from None
    import yaml  # here, because most commands find no configuration file and need not load it

    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UsageError(
            f"configuration file {path} is not YAML: {' '.join(str(error).split())}", "correct that line"
        ) from None
    mistakes = _mistakes(values)
    if mistakes:
        raise UsageError(f"configuration file {path}: {'; '.join(mistakes)}", f"known keys: {', '.join(KEYS)}")
    return dict(values)


def _mistakes(values: Any) -> list[str]:
    if not isinstance(values, dict):
        return ["it must be a mapping of keys to values"]
    found = [f"unknown key {key!r}" for key in values if key not in KEYS]
    for key, (kind, _, _) in KEYS.items():
        if key in values and (not isinstance(values[key], kind) or isinstance(values[key], bool)):
            found.append(f"{key} must be a {kind.__name__}")
    priority = values.get("priority", MODULE_PRIORITY)
    if isinstance(priority, int) and not 1 <= priority < 400:
        found.append("priority must be between 1 and 399 (400 is the administrator's own)")
    metrics_file = values.get("metrics_file", str(DEFAULT_METRICS))
    if isinstance(metrics_file, str) and not (metrics_file.startswith("/") and metrics_file.endswith(".prom")):
        found.append("metrics_file must be an absolute path that ends in .prom (node_exporter reads no other files)")
    return found
