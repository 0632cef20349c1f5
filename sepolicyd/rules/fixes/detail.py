"""The details of a fix, carried out by `apply` or by hand, as one frozen dataclass per kind.

Paths come from the audit log and are not escaped. All other fields are checked names, or text from sepolicyd's own files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True, order=True)
class PathLabel:
    """A rule for file_contexts."""

    pattern: str
    """A regular expression as in file_contexts(5)."""
    type: str
    kind: str = ""
    """The file kind: "" for any, "--" for a regular file, "-d" for a directory, and so on."""


@dataclass(frozen=True, order=True)
class CreatedLabel:
    """A type_transition: objects that ``source`` creates in a directory of ``target`` get ``type``."""

    source: str
    target: str
    tclass: str
    type: str


@dataclass(frozen=True, order=True)
class LabelledPort:
    """A type for one port."""

    protocol: str
    number: int
    type: str
    owner: str = ""
    """The present type of the port, "" if the policy has none for it."""


@dataclass(frozen=True)
class NoDetail:
    """No details beyond the decided accesses (allow, dontaudit), or nothing to carry out (refuse, unknown)."""


NO_DETAIL = NoDetail()


@dataclass(frozen=True)
class ConfigurationLine:
    """A line in a configuration file of the application, of systemd or of the system."""

    file: str
    line: str


@dataclass(frozen=True)
class NewLabels:
    """Rules for file_contexts, and the paths to relabel with restorecon. Without rules: restorecon alone."""

    paths: tuple[str, ...] = ()
    contexts: tuple[PathLabel, ...] = ()


@dataclass(frozen=True)
class OwnType:
    """A type of the service's own: for existing paths (``labels``), for new objects (``created``), or both."""

    labels: NewLabels = NewLabels()
    created: tuple[CreatedLabel, ...] = ()
    allowed: tuple[str, ...] = ()
    """Permissions of the candidate that are also allowed, since adding an entry to a shared directory needs them."""


@dataclass(frozen=True)
class LabelledPorts:
    """Ports and their new types; empty if the type does not exist yet and must be declared by hand first."""

    ports: tuple[LabelledPort, ...] = ()


@dataclass(frozen=True)
class BooleanSetting:
    """A boolean's persistent value."""

    boolean: str
    value: bool


@dataclass(frozen=True)
class BooleanSettings:
    """Several booleans that allow the access only in combination."""

    settings: tuple[BooleanSetting, ...]


@dataclass(frozen=True)
class DomainTransition:
    """A program type and the intended domain; "" if the name is unknown."""

    program: str
    domain: str


@dataclass(frozen=True)
class InterfaceCall:
    """A call of a reference policy interface, for example "logging_send_syslog_msg(httpd_t)"."""

    call: str


@dataclass(frozen=True)
class OnlyPermissions:
    """The permissions of the candidate for which a rule is effective, if a constraint denies the others."""

    permissions: tuple[str, ...]


FixDetail = Union[
    NoDetail,
    ConfigurationLine,
    NewLabels,
    OwnType,
    LabelledPorts,
    BooleanSetting,
    BooleanSettings,
    DomainTransition,
    InterfaceCall,
    OnlyPermissions,
]


def booleans_of(detail: FixDetail) -> tuple[BooleanSetting, ...]:
    """Return the booleans that a fix sets."""
    if isinstance(detail, BooleanSettings):
        return detail.settings
    return (detail,) if isinstance(detail, BooleanSetting) else ()


def labels_of(detail: FixDetail) -> NewLabels:
    """Return the paths to relabel and the file_contexts rules of a fix, empty if it has none."""
    if isinstance(detail, OwnType):
        return detail.labels
    return detail if isinstance(detail, NewLabels) else NewLabels()


def is_automatic(detail: FixDetail) -> bool:
    """Tell whether `apply` carries out the fix as something other than a rule; False for manual fixes."""
    if isinstance(detail, LabelledPorts):
        return bool(detail.ports)
    if isinstance(detail, OwnType) and detail.created:
        return True
    labels = labels_of(detail)
    return bool(booleans_of(detail)) or bool(labels.paths or labels.contexts)
