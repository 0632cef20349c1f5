"""Plan `init`: find the service, choose labels and ports, prove the base module in a copy of the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

from sepolicyd.errors import StateError, ToolMissingError
from sepolicyd.module import base_module
from sepolicyd.module.build import workdir
from sepolicyd.module.listing import Installed
from sepolicyd.module.store import Store, policy_is_mls
from sepolicyd.policy.delta import difference
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.labels import FileContexts, Ports
from sepolicyd.problems import Problem, Severity, stops
from sepolicyd.profiles import Profile
from sepolicyd.rollout.setup import base_dontaudit, path_trust, unit_outputs
from sepolicyd.rollout.setup import journal as init_journal
from sepolicyd.rollout.setup import labels as init_labels
from sepolicyd.rollout.setup import port_labels as ports
from sepolicyd.rollout.setup import processes as init_processes
from sepolicyd.rollout.setup.journal import SetupJournal
from sepolicyd.rollout.setup.port_labels import PortChange
from sepolicyd.rollout.setup.processes import Running
from sepolicyd.rollout.setup.unit_outputs import NOTHING, UsedBySystemd
from sepolicyd.rules.guard import policy_delta
from sepolicyd.rules.guard.guard import load_guard
from sepolicyd.rules.guard.override import parse_overrides
from sepolicyd.services.discovery import BooleanRequest, Found, Label
from sepolicyd.services.registry import discovery_of
from sepolicyd.services.unit_file import read_unit
from sepolicyd.settings import Settings, policy_dirs

NOT_SILENT = base_dontaudit.BaseDontaudits()
CONTEXTS = "contexts/files/file_contexts"
FEDORAS = frozenset(("unconfined_service_t", "passwd_file_t"))  # types of Fedora's base policy that the reference policy lacks
SELINUXFS = Path("/sys/fs/selinux/enforce")


@dataclass(frozen=True)
class InitPlan:
    """All changes of an init, tested in a copy of the store. A problem of severity STOP prevents it from running.

    ``booleans`` are those that the configuration needs, with the reason; ``tunables`` are all booleans of the module.
    """

    profile: str
    module: str
    priority: int
    unit: str
    types: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()
    found: Found = field(default_factory=Found)
    ports: tuple[PortChange, ...] = ()
    processes: tuple[Running, ...] = ()
    booleans: tuple[BooleanRequest, ...] = ()
    tunables: tuple[str, ...] = ()
    findings: tuple[Problem, ...] = ()
    by_systemd: UsedBySystemd = NOTHING
    package: bytes = b""
    limits: bytes = b""
    """CIL text of the constraints on the service's domains, empty if the profile has none."""
    quiet: base_dontaudit.BaseDontaudits = NOT_SILENT
    again: bool = False

    @property
    def stopped(self) -> tuple[Problem, ...]:
        return stops(self.findings)


def plan_init(
    settings: Settings,
    profile: Profile,
    *,
    unit: str = "",
    headers: Optional[Path] = None,
    mounts: Optional[str] = None,
    proc: Optional[Path] = None,
) -> InitPlan:
    """Find the service, build its module, link it in a private copy of the store, and list the changes. Writes only below /tmp.

    :param headers: directory of the policy headers, None for the configured one
    :param mounts: /proc/self/mounts of the machine, None to read this machine's if the root is "/"
    :param proc: /proc of the machine, None for this machine's if the root is "/", and no processes otherwise
    :raises RefusedError: there is nothing to confine (not installed, or in a container)
    :raises ToolError: the module does not build or link; nothing has been changed
    """
    store = Store(settings.root)
    store.check()
    found = _find(settings.root, profile, unit)
    source = profile.file(".te").read_text(encoding="utf-8")
    name, _ = base_module.module_of(source, profile.file(".te"))
    before = PolicyIndex.load(store.policy())
    journal = init_journal.read(settings, profile.name)
    changes = _port_changes(profile, found, before, store)
    findings = [*found.problems, *_conflicts(store, before, profile, name, journal), *_off(settings)]
    findings += ports.judge(changes, profile.own_types, _web_hints(profile, found), _take(profile))
    findings += _label_findings(settings, store, profile, found.labels, mounts)
    findings += path_trust.judge(settings, profile, headers or settings.policy_headers, found)
    processes = _processes(settings, profile, unit or found.unit_name, proc)
    if journal is not None:
        findings += init_processes.why_unconfined(processes, profile, labels=_programs(settings, found.labels))
    plan = InitPlan(
        profile=profile.name,
        module=name,
        priority=settings.priority,
        unit=unit or found.unit_name,
        labels=found.labels,
        found=found,
        ports=tuple(change for change in changes if change.before not in ports.WEB),
        processes=processes,
        booleans=found.booleans,
        by_systemd=unit_outputs.of_unit(found.unit),
        tunables=base_module.booleans_of(source),
        findings=tuple(sorted(findings, reverse=True)),
        again=journal is not None,
    )
    return plan if plan.stopped else _proved(plan, store, profile, headers or settings.policy_headers, before, settings)


def _label_findings(
    settings: Settings, store: Store, profile: Profile, labels: tuple[Label, ...], mounts: Optional[str]
) -> list[Problem]:
    """Return the problems of the labels: paths of other services, and file systems that keep no labels."""
    contexts = FileContexts.load(store.etc / store.kind / CONTEXTS)
    here = mounts if mounts is not None else _text(Path("/proc/self/mounts")) if settings.live else None
    found = init_labels.owner_findings(labels, contexts.lookup, profile.own_types | {""})
    return [*found, *init_labels.mount_findings(labels, here)]


def _off(settings: Settings) -> list[Problem]:
    if not settings.live or SELINUXFS.exists():
        return []
    what = "SELinux is off on this machine: the policy is built now, and files are labelled when it is switched on"
    return [Problem(Severity.WARN, "I-off", what, "Debian: selinux-activate; Fedora: SELINUX=enforcing in /etc/selinux/config")]


def _find(root: Path, profile: Profile, unit: str) -> Found:
    """Find the service with its discovery code, or else by the unit in the profile and the paths in its .fc."""
    discover = discovery_of(profile.name)
    if discover is not None:
        return discover(root, unit)
    text = profile.file(".fc").read_text(encoding="utf-8") if profile.file(".fc").is_file() else ""
    labels = tuple(init_labels.label_of(context) for context in base_module.contexts_of(text))
    return Found(read_unit(unit or next(iter(profile.units), ""), root), labels)


def _web_hints(profile: Profile, found: Found) -> dict[str, str]:
    return {port.type: found.web_port_hints[port.name] for port in profile.ports if port.name in found.web_port_hints}


def _take(profile: Profile) -> dict[str, frozenset[str]]:
    return {port.type: frozenset(port.take) for port in profile.ports}


def _conflicts(
    store: Store, before: PolicyIndex, profile: Profile, name: str, journal: Optional[SetupJournal]
) -> list[Problem]:
    """Return problems with a policy for this service that sepolicyd did not install."""
    ours = Installed(name, journal.priority) if journal else None
    findings = []
    others = [module for module in store.modules() if module.name == name]
    for module in others:
        if ours is None or module.priority != ours.priority:
            what = f"a module {name} is already installed at priority {module.priority}"
            hint = f"remove it first: semodule -X {module.priority} -r {name}"
            findings.append(Problem(Severity.STOP, "I-policy", what, hint))
    present = sorted(profile.own_types & set(before.types))
    if present and not others:
        what = f"the policy already defines {', '.join(present[:3])}, from another module"
        findings.append(Problem(Severity.STOP, "I-policy", what, "find it: semodule -lfull | grep -i " + profile.name))
    return findings


def _port_changes(profile: Profile, found: Found, before: PolicyIndex, store: Store) -> tuple[PortChange, ...]:
    table = Ports.from_policy(before)
    local = ports.read_local(store.active)
    changes = []
    for port in profile.ports:
        for number in found.ports.get(port.name, (port.number,)):
            owner = table.owner(port.protocol, number) or "port_t"
            record = next((item.type for item in local if item.holds(port.protocol, number)), "")
            if owner != port.type:
                changes.append(PortChange(port.protocol, number, owner, port.type, record))
    return tuple(changes)


def _proved(plan: InitPlan, store: Store, profile: Profile, headers: Path, before: PolicyIndex, settings: Settings) -> InitPlan:
    """Return the plan with its package, linked in a copy: types that it brings, labels and ports as the result has them, the
    guard."""
    mls = policy_is_mls(store.policy())
    _check_family(before, headers)
    with workdir("init") as place:
        subs = init_labels.read_subs(store.etc / store.kind / CONTEXTS)
        contexts = [init_labels.context_of(label, subs) for label in plan.labels]
        package = base_module.build_base(profile, contexts, place, headers=headers, mls=mls)
        copy = store.copy(place / "store")
        # a lease may have disabled dontaudit rules, so those of the base module are read from the copy
        (copy.active / "disable_dontaudit").unlink(missing_ok=True)
        # the port types are declared by the module: libsemanage needs both in one transaction
        ports.write_local(copy.active, plan.ports, level=":s0" if mls else "")
        limits = base_module.limits_of(profile, plan.module, place)
        copy.install([package, *([limits] if limits else [])], plan.priority)
        after = PolicyIndex.load(copy.policy())
        refused = unit_outputs.refused(plan.labels, plan.by_systemd, after)
        if refused:
            kept = tuple(label for label in plan.labels if label not in refused)
            plan = replace(plan, labels=kept, findings=(*plan.findings, *refused.values()))
            return _proved(plan, store, profile, headers, before, settings)
        findings = [*plan.findings, *_unlike(plan, copy, after), *_refused(before, after, profile, settings)]
        types = tuple(sorted(profile.own_types & set(after.types)))
        done, limited = package.read_bytes(), limits.read_bytes() if limits else b""
    quiet = base_dontaudit.silent_of(after, profile.domains)
    return replace(plan, types=types, package=done, limits=limited, quiet=quiet, findings=tuple(sorted(findings, reverse=True)))


def _check_family(before: PolicyIndex, headers: Path) -> None:
    """Refuse to build without headers on Fedora's policy, because the expanded text is for the reference policy.

    :raises ToolMissingError: the policy headers are not installed
    """
    if base_module.headers_here(headers) is None and before.types.keys() >= FEDORAS:
        what = "the policy headers are not installed; without them, a base module can be built for Debian's policy only"
        raise ToolMissingError(what, "run: dnf install selinux-policy-devel")


def _refused(before: PolicyIndex, after: PolicyIndex, profile: Profile, settings: Settings) -> list[Problem]:
    """Return a problem for each rule of the base module that the guard refuses."""
    overrides, _ = parse_overrides(settings.overrides)
    guard = load_guard(settings.policy_dirs or policy_dirs())
    hint = f"remove these rules from {profile.file('.te')}; to keep them, list each under overrides in {settings.config}"
    return [
        Problem(Severity.STOP, found.code, f"the base module {found.text}", hint)
        for found in policy_delta.base(difference(before, after), guard, profile, overrides)
    ]


def _unlike(plan: InitPlan, copy: Store, after: PolicyIndex) -> list[Problem]:
    """Return a problem for each deviation from the plan: a label overridden by another pattern, a port with another type."""
    findings = []
    contexts = FileContexts.load(copy.etc / copy.kind / CONTEXTS)
    for label in plan.labels:
        result = contexts.lookup(label.path, "dir" if label.tree else "file")
        if result != label.type:
            what = (
                f"{label.path} would be {result or 'unlabelled'} instead of {label.type}: another file context takes precedence"
            )
            findings.append(Problem(Severity.STOP, "I-label", what, "see: semanage fcontext -l -C"))
    table = Ports.from_policy(after)
    for change in plan.ports:
        result = table.owner(change.protocol, change.number)
        if result != change.after:
            what = f"{change.protocol} port {change.number} would keep the type {result}"
            findings.append(Problem(Severity.STOP, "I-port", what, "see: semanage port -l -C"))
    return findings


def _processes(settings: Settings, profile: Profile, unit: str, proc: Optional[Path]) -> tuple[Running, ...]:
    place = proc or (Path("/proc") if settings.live else None)
    return init_processes.running(place, unit, profile) if place and unit else ()


def _programs(settings: Settings, labels: Iterable[Label]) -> list[tuple[str, str, str]]:
    """Return (program, intended type, present type) of programs that start a domain; [] below a root without labels."""
    programs = [label for label in labels if label.type.endswith("_exec_t")]
    have = init_labels.read_contexts(settings.root, [label.path for label in programs])
    types = [(label.path, label.type, (have.get(label.path, "").split(":") + [""] * 3)[2]) for label in programs]
    return types if any(now for _, _, now in types) else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}", "mount /proc") from error
