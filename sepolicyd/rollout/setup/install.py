"""Carry out or undo the plan of `init`: one store transaction, relabelling, and a journal for `init --undo`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sepolicyd import process
from sepolicyd.errors import RefusedError, UsageError
from sepolicyd.module import transaction
from sepolicyd.module.base_module import limits_name
from sepolicyd.module.build import workdir
from sepolicyd.module.store import Store, policy_is_mls
from sepolicyd.module.transaction import BooleanValue
from sepolicyd.problems import Problem, stops
from sepolicyd.profiles import Profile
from sepolicyd.rollout.setup import base_dontaudit, path_trust
from sepolicyd.rollout.setup import journal as init_journal
from sepolicyd.rollout.setup import labels as init_labels
from sepolicyd.rollout.setup import port_labels as ports
from sepolicyd.rollout.setup import processes as init_processes
from sepolicyd.rollout.setup.journal import SetupJournal
from sepolicyd.rollout.setup.plan import CONTEXTS, InitPlan, _programs
from sepolicyd.rollout.setup.port_labels import PortChange
from sepolicyd.services.rootfs import inside
from sepolicyd.settings import Settings


@dataclass(frozen=True)
class InitDone:
    """The result of run_init or undo_init, and remaining manual steps."""

    module: str
    relabelled: tuple[str, ...] = ()
    ports: tuple[PortChange, ...] = ()
    findings: tuple[Problem, ...] = ()
    restart: str = ""
    booleans: tuple[str, ...] = ()


def run_init(settings: Settings, profile: Profile, plan: InitPlan, switch: Sequence[str] = ()) -> InitDone:
    """Load the module, relabel the ports and exactly the plan's paths. The undo record is written before the first change.

    :param switch: booleans of the module to switch on in the same transaction
    :raises UsageError: a boolean is not declared by the module; nothing has been changed
    :raises RefusedError: a problem of severity STOP, or the store is locked; nothing has been changed
    :raises ToolError: a tool failed; :func:`undo_init` reverts the completed steps
    """
    if plan.stopped:
        raise RefusedError(plan.stopped[0].what, plan.stopped[0].hint)
    if not plan.package:
        raise UsageError("this plan has not been proved", "run init again")
    foreign = sorted(set(switch) - set(plan.tunables))
    if foreign:
        raise UsageError(f"{foreign[0]} is not a boolean of the module {plan.module}", f"run: setsebool -P {foreign[0]} on")
    # the files may have changed while the user read the plan: check the paths again
    unsafe = stops(path_trust.relabelled(settings.root, plan.labels, plan.found))
    if unsafe:
        raise RefusedError(unsafe[0].what, unsafe[0].hint)
    store = Store(settings.root)
    store.check()
    store.wait_for_lock()
    paths = tuple(label.path for label in plan.labels if inside(settings.root, label.path).exists())
    init_journal.write(settings, _journal(settings, plan, paths))
    base_dontaudit.write(settings, profile.name, plan.quiet)
    with workdir("init") as place:
        packages = _packages(plan, place)
        if settings.live:
            _install(store, packages, plan, switch)
            ports.run_live(store.active, plan.ports)
        else:
            mls = policy_is_mls(store.policy())
            ports.write_local(store.active, plan.ports, level=":s0" if mls else "")
            _install(store, packages, plan, switch)
    relabelled = relabel(settings, store, paths)
    labels = _programs(settings, plan.labels) if relabelled else []
    after = init_processes.why_unconfined(plan.processes, profile, labels=labels)
    restart = f"systemctl restart {plan.unit}" if plan.unit else ""
    return InitDone(plan.module, relabelled, plan.ports, after, restart, tuple(switch))


def _packages(plan: InitPlan, place: Path) -> list[Path]:
    """Write the base module and the profile's constraints, if any."""
    package = place / f"{plan.module}.pp"
    package.write_bytes(plan.package)
    if not plan.limits:
        return [package]
    limits = place / f"{limits_name(plan.module)}.cil"
    limits.write_bytes(plan.limits)
    return [package, limits]


def _install(store: Store, packages: Sequence[Path], plan: InitPlan, switch: Sequence[str]) -> None:
    if not switch:
        store.install(packages, plan.priority)
        return
    values = [BooleanValue(name, True) for name in dict.fromkeys(switch)]
    transaction.commit(store.root, store.kind, packages=packages, priority=plan.priority, booleans=values)


def _journal(settings: Settings, plan: InitPlan, paths: tuple[str, ...]) -> SetupJournal:
    """Return the undo record with the state before the first init; the record of an earlier init takes precedence."""
    old = init_journal.read(settings, plan.profile) or SetupJournal(plan.profile, plan.module, plan.priority)
    return replace(
        old,
        ports=tuple(dict.fromkeys((*old.ports, *plan.ports))),
        paths=tuple(dict.fromkeys((*old.paths, *paths))),
        labels={**init_labels.read_contexts(settings.root, paths), **old.labels},
        booleans=tuple(dict.fromkeys((*old.booleans, *plan.tunables))),
    )


def undo_init(settings: Settings, profile_name: str) -> InitDone:
    """Restore ports and labels, and remove the module and the values of its booleans. Restarts nothing.

    Changes that were already reverted are not an error.

    :raises RefusedError: there is nothing to undo
    """
    journal = init_journal.read(settings, profile_name)
    if journal is None:
        raise RefusedError(f"init {profile_name} has not been run on this machine", "there is nothing to undo")
    store = Store(settings.root)
    store.check()
    store.wait_for_lock()
    own_modules = (journal.module, limits_name(journal.module))
    present = [item.name for item in store.modules() if item.name in own_modules and item.priority == journal.priority]
    _ports_back(settings, store, journal.ports)
    # before the module is removed: values of booleans that no longer exist cannot be removed by libsemanage
    left = [BooleanValue(name, None) for name in sorted(local_booleans(store.active) & set(journal.booleans))]
    if present and left:
        transaction.commit(store.root, store.kind, priority=journal.priority, booleans=left)
    if present:
        process.run(store.argv("-X", str(journal.priority), *(word for name in present for word in ("-r", name))), timeout=900)
    elif not settings.live:
        process.run(store.argv("-B"), timeout=900)
    paths = tuple(path for path in journal.paths if inside(settings.root, path).exists())
    # first the contexts of the remaining policy, for files newer than it; then the recorded context of each older file
    relabelled = relabel(settings, store, paths)
    if relabelled:
        init_labels.write_contexts(settings.root, journal.labels)
    base_dontaudit.remove(settings, profile_name)
    init_journal.remove(settings, profile_name)
    return InitDone(journal.module, relabelled, journal.ports, booleans=tuple(value.name for value in left))


def local_booleans(active: Path) -> frozenset[str]:
    """Return the booleans with a persistent value (setsebool -P): lines ``NAME=1`` of booleans.local."""
    try:
        text = (active / "booleans.local").read_text(encoding="utf-8")
    except FileNotFoundError:
        return frozenset()
    return frozenset(line.partition("=")[0].strip() for line in text.splitlines() if "=" in line and not line.startswith("#"))


def _ports_back(settings: Settings, store: Store, changes: Sequence[PortChange]) -> None:
    # only if the local record is still the one that init made: an administrator may have changed it since
    local = ports.read_local(store.active)
    own_changes = [c for c in changes if any(item.holds(c.protocol, c.number) and item.type == c.after for item in local)]
    if settings.live:
        ports.run_live(store.active, own_changes, back=True)
    elif own_changes:
        ports.write_local(store.active, own_changes, level=":s0" if policy_is_mls(store.policy()) else "", back=True)


def argv_relabel(settings: Settings, store: Store, paths: Iterable[str]) -> list[str]:
    """Run restorecon on this machine, or setfiles with the file contexts of another root."""
    if settings.live:
        return ["restorecon", "-R", "-v", *paths]
    contexts = store.etc / store.kind / CONTEXTS
    places = [str(inside(settings.root, path)) for path in paths]
    return ["setfiles", "-v", "-r", str(settings.root), str(contexts), *places]


def relabel(settings: Settings, store: Store, paths: Sequence[str]) -> tuple[str, ...]:
    """Relabel these paths and return them; () if security xattrs cannot be set below the root.

    :raises ToolError: restorecon failed
    """
    if not paths or not (settings.live or init_labels.can_label(settings.root)):
        return ()
    process.run(argv_relabel(settings, store, paths))
    return tuple(paths)
