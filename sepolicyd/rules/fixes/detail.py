"""The details of a fix: what `apply` carries out, or what a person is told to do, as one frozen dataclass per shape.

Paths come from the audit log and are not escaped. All other fields are names that were checked, or text of sepolicyd's
own files.
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
    """The kind of file: "" for any, "--" for a regular file, "-d" for a directory, and so on."""


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
    """The type that the port has today, "" where the policy gives it none."""


@dataclass(frozen=True)
class NoDetail:
    """Nothing beyond the decided accesses (allow, dontaudit), or nothing to carry out (refuse, unknown)."""


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
    """Permissions of the candidate that are allowed as well: adding an entry to a shared directory keeps its type."""


@dataclass(frozen=True)
class LabelledPorts:
    """Ports and their new types; empty where the type does not exist yet, so that a person has to declare it first."""

    ports: tuple[LabelledPort, ...] = ()


@dataclass(frozen=True)
class BooleanSetting:
    """A boolean's persistent value."""

    boolean: str
    value: bool


@dataclass(frozen=True)
class BooleanSettings:
    """Several booleans that allow the access only together."""

    settings: tuple[BooleanSetting, ...]


@dataclass(frozen=True)
class DomainTransition:
    """A program type and the domain that it should run in; "" where the name is not known."""

    program: str
    domain: str


@dataclass(frozen=True)
class InterfaceCall:
    """A call of a reference policy interface, for example "logging_send_syslog_msg(httpd_t)"."""

    call: str


@dataclass(frozen=True)
class OnlyPermissions:
    """The permissions of the candidate that a rule helps, where a constraint still denies the others."""

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
    """The booleans that a fix sets."""
    if isinstance(detail, BooleanSettings):
        return detail.settings
    return (detail,) if isinstance(detail, BooleanSetting) else ()


def labels_of(detail: FixDetail) -> NewLabels:
    """The paths to relabel and the file_contexts rules of a fix, none where it has none."""
    if isinstance(detail, OwnType):
        return detail.labels
    return detail if isinstance(detail, NewLabels) else NewLabels()


def is_automatic(detail: FixDetail) -> bool:
    """Whether `apply` carries the fix out as something other than a rule; False also where a person has to do it."""
    if isinstance(detail, LabelledPorts):
        return bool(detail.ports)
    if isinstance(detail, OwnType) and detail.created:
        return True
    labels = labels_of(detail)
    return bool(booleans_of(detail)) or bool(labels.paths or labels.contexts)
