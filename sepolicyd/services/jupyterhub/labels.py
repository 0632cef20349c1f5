"""The intended labels of a JupyterHub's files, and problems that prevent labelling."""

from __future__ import annotations

import os
from pathlib import Path

from sepolicyd.problems import Problem, Severity
from sepolicyd.services.discovery import Label
from sepolicyd.services.jupyterhub.discover import Installation
from sepolicyd.services.paths import SHARED, SHARED_KEYS, USERS_TREES
from sepolicyd.services.unit_labels import unit_labels

PREFIX = "jupyterhub"


def labels_of(found: Installation, prefix: str = PREFIX) -> tuple[Label, ...]:
    """Return the labels of all files of the installation, sorted by path, without trees shared with other services."""
    programs = [Label(found.hub, f"{prefix}_exec_t", what="the hub")]
    programs += [Label(path, f"{prefix}_user_exec_t", what="starts a user's server") for path in found.user_scripts]
    if found.proxy:
        programs.append(Label(found.proxy, f"{prefix}_proxy_exec_t", what="the proxy"))
    if found.host.exchange:
        programs.append(Label(found.host.exchange, f"{prefix}_course_t", tree=True, what="nbgrader's exchange"))
    programs += [Label(path, f"{prefix}_user_unit_file_t", what="unit of users' servers") for path in found.user_units]
    labels = [*programs, *_configuration(found, prefix), *_state(found, prefix), *unit_labels(found.unit, prefix)]
    labels = [label for label in labels if not (label.tree and label.path in SHARED)]
    # the first label of a path wins: secrets come before the trees that contain them
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
    """Return the directories with the hub's state: its working directory and that of its SQLite file."""
    url = found.config.text("JupyterHub.db_url") or "sqlite:///jupyterhub.sqlite"
    url = url if "://" in url else f"sqlite:///{url}"  # as jupyterhub.app does
    # Without a unit the working directory is unknown. A database with a full path, or on a server, does not lie there.
    elsewhere = url.startswith("sqlite:////") or not url.startswith("sqlite:")
    folders = [] if found.unit is None and elsewhere else [found.workdir]
    if url.startswith("sqlite:///"):
        folders.append(os.path.dirname(found.path(url[len("sqlite:///") :])))  # noqa: PTH120
    return tuple(dict.fromkeys(os.path.normpath(folder) for folder in folders))


def problems_of(found: Installation) -> list[Problem]:
    """Return problems with the locations of the hub's files."""
    problems = []
    for folder in state_dirs(found):
        if folder in SHARED:
            what = f"the hub keeps its state in {folder}, which is shared with other services and cannot be relabelled"
            hint = "set WorkingDirectory= in the unit, for example to /var/lib/jupyterhub, and move jupyterhub.sqlite there"
            problems.append(Problem(Severity.STOP, "I-shared", what, hint))
    key = found.config.text("JupyterHub.ssl_key")
    if key and found.path(key).startswith(SHARED_KEYS):
        what = f"the TLS key {found.path(key)} may be used by other programs, which could no longer read it"
        problems.append(Problem(Severity.WARN, "I-key", what, "copy key and certificate to /etc/jupyterhub/keys"))
    if found.prefix.startswith(USERS_TREES):
        what = f"JupyterHub is installed in {found.prefix}, a directory of users' files: its code would not be protected"
        problems.append(Problem(Severity.STOP, "I-home", what, "install it under /opt"))
    return problems


def code_labels(found: Installation) -> tuple[Label, ...]:
    """Return labels for programs and libraries of a Python prefix outside the usual directories."""
    usual = ("/usr/", "/opt/", "/usr/local/")
    if not found.prefix or found.prefix == "/usr" or found.prefix.startswith(usual):
        return ()
    return (
        Label(found.prefix, "usr_t", tree=True, what="installation"),
        Label(f"{found.prefix}/bin", "bin_t", tree=True, what="programs"),
        Label(f"{found.prefix}/lib", "lib_t", tree=True, what="libraries"),
    )
