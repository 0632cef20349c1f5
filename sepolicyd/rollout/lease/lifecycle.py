"""The commands on a lease: start, renew, stop, enforce, mark."""

from __future__ import annotations

import os
import pwd
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Optional

from sepolicyd.errors import RefusedError, SepolicydError, StateError, ToolError
from sepolicyd.kernel.journal import MessageId
from sepolicyd.profiles import Profile
from sepolicyd.rollout.lease import exercises, preconditions
from sepolicyd.rollout.lease.close_in_kernel import Ended, attempt, close_now
from sepolicyd.rollout.lease.end import end_due_locked, end_lease
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.host import live_environment
from sepolicyd.rollout.lease.lease import Lease, LeasePhase, module_name, module_text
from sepolicyd.rollout.lease.lease_records import LeaseEvent
from sepolicyd.settings import Settings

# ending a lease holds the lock while semodule runs: up to 80 s in an emulated guest
COMMAND_WAIT_S = 180.0


@dataclass(frozen=True)
class Enforced:
    """The result of `enforce`."""

    ended: Optional[Ended]
    """The end of the lease, None if none was open."""
    enforcing: bool
    pending: Any = None
    """The result of the caller's ``pending`` function."""


def start(
    settings: Settings,
    profile: Profile,
    seconds: float,
    *,
    whole_system: bool = False,
    hidden: bool = False,
    by: str = "",
    why: str = "",
    world: Optional[Environment] = None,
    policy: Optional[preconditions.DomainFacts] = None,
) -> Lease:
    """Open a lease: check that it can be ended, write its record, arm systemd timers, verify, open, verify.

    The time runs from the moment the record is written, so it includes the opening itself (up to 40 s in an emulated guest).

    :param seconds: duration, at least 30
    :param whole_system: `setenforce 0` instead of permissive domains; the caller has warned the user
    :param hidden: disable dontaudit rules, so that the denials they suppress are logged (`semodule -DB`)
    :param why: the reason, for the history and the public record
    :param policy: facts of the loaded policy; read with setools if None
    :raises RefusedError: nothing has been changed
    :raises ToolError: opening failed and was undone, or the record is kept and the timers retry the undo
    """
    world = world or _machine(settings)
    with world.book.lock(COMMAND_WAIT_S):
        end_due_locked(world)
        preconditions.refuse_request(settings, world, profile, seconds)
        preconditions.refuse_machine(world, hidden=hidden)
        domains = () if whole_system else preconditions.domains_to_open(world, profile)
        if domains:
            preconditions.refuse_domains(domains, world.kernel.permissive_types(), policy or _policy_index(settings))
        module = module_name(profile.name)
        world.store.check(module, module_text(domains))
        now = world.clock.now()
        lease = Lease(
            profile=profile.name, id=secrets.token_hex(6), domains=domains, whole_system=whole_system, hidden=hidden,
            module=module, priority=settings.priority, opened=now, deadline_wall=now.wall + seconds,
            deadline_boottime=now.boottime + seconds, services=_plain_units(profile.units),
            alert_command=settings.alert_command, by=by or caller(), why=_reason(why),
        )  # fmt: skip
        return _open(world, lease)


def _open(world: Environment, lease: Lease) -> Lease:
    """Write the record, then open the lease; any failure after that ends the lease again."""
    world.book.write(lease)
    try:
        _publish(world, lease)
        _arm(world, lease)
        world.book.record(LeaseEvent.PLANNED, world.clock.now(), **_entry(lease))
        world.store.open(lease, module_text(lease.domains))
        if lease.whole_system:
            world.kernel.set_enforcing(False)
        _verify_open(world, lease)
        opened = replace(lease, phase=LeasePhase.OPEN)
        world.book.write(opened)
        _publish(world, opened)
        world.book.record(LeaseEvent.OPENED, world.clock.now(), **_entry(lease))
        _verify_in_time(world, lease)
    except BaseException:  # includes Ctrl-C: a lease that was never announced must not stay open
        end_lease(world, lease, "could not be opened")
        raise
    text = f"lease of {lease.profile} opened by {lease.by}: {_scope(lease)} until {_local(lease.deadline_wall)}"
    world.alerts.notice(text, MessageId.LEASE_OPENED, profile=lease.profile)
    return opened


def _publish(world: Environment, lease: Lease) -> None:
    """Update the public record. A lease does not depend on it, so a failure (such as a full /run) is only reported."""
    problems: list[str] = []
    if not attempt(world.book.publish, problems):
        text = f"monitoring cannot see the lease of {lease.profile}: {'; '.join(problems)}"
        world.alerts.notice(text, MessageId.LEASE_NOT_PUBLISHED, profile=lease.profile)


def _arm(world: Environment, lease: Lease) -> None:
    world.timers.arm(lease, lease.remaining(world.clock.now()))
    if not world.timers.armed(lease):
        raise ToolError(f"{lease.unit}.timer is not active after systemd-run", f"see: systemctl status {lease.unit}.timer")


def _verify_open(world: Environment, lease: Lease) -> None:
    """Read the kernel back. semodule may silently skip the load (security-profiles-operator#2463); reload in that case."""
    if lease.whole_system:
        return
    wanted = frozenset(lease.domains)
    if not wanted <= world.kernel.permissive_types():
        world.store.reload()
    missing = wanted - world.kernel.permissive_types()
    if missing:
        raise ToolError(f"{', '.join(sorted(missing))} did not become permissive in the kernel", "see: semodule -lfull")


def _verify_in_time(world: Environment, lease: Lease) -> None:
    if lease.is_due(world.clock.now()):
        raise ToolError("opening took longer than the lease itself", "request a longer lease with --for")


def renew(settings: Settings, profile: Profile, seconds: float, *, world: Optional[Environment] = None) -> Lease:
    """Move the deadline to ``seconds`` from now, later or earlier. The new timer is armed before the record is changed.

    :raises RefusedError: there is no open lease, or a cap is reached
    """
    world = world or _machine(settings)
    with world.book.lock(COMMAND_WAIT_S):
        end_due_locked(world)
        old = world.book.of(profile.name)
        if old is None:
            raise RefusedError(f"there is no lease of {profile.name} to renew", "run: sepolicyd learn start")
        preconditions.refuse_request(settings, world, profile, seconds, running=old)
        new = old.until(world.clock.now(), seconds)
        _arm(world, new)
        try:
            # history first: a lease longer than its history says would evade the daily cap
            world.book.record(LeaseEvent.RENEWED, world.clock.now(), **_entry(new))
            world.book.write(new)
            _publish(world, new)
        except SepolicydError:
            if new.unit != old.unit:
                world.timers.disarm(new)
            raise
        if old.unit != new.unit:
            world.timers.disarm(old)
        return new


def stop(settings: Settings, profile: Profile, *, by: str = "", world: Optional[Environment] = None) -> Ended:
    """End the lease now.

    :raises RefusedError: no lease is open, or another command has held the lock for minutes
    """
    world = world or _machine(settings)
    with _closed_first(world, profile):
        lease = world.book.of(profile.name)
        if lease is None:
            raise RefusedError(f"there is no lease of {profile.name}", "see: sepolicyd learn status")
        return end_lease(world, lease, f"stopped by {by or caller()}")


@contextmanager
def _closed_first(world: Environment, profile: Profile) -> Iterator[None]:
    """Close this lease in the kernel, then hold the lock; the kernel is closed even while another process has the lock.

    :raises RefusedError: another process held the lock for minutes; the kernel enforces
    """
    lease = world.book.of(profile.name)
    if lease is not None:
        close_now(world, lease, [])
    try:
        with ExitStack() as stack:
            stack.enter_context(world.book.lock(COMMAND_WAIT_S))
            held = stack.pop_all()
    except (RefusedError, StateError) as error:
        state = f"{', '.join(lease.domains) or 'the machine'} is enforcing in the kernel" if lease else "nothing was open"
        raise type(error)(f"{error.what}; {state}; store and boot policy were not changed", error.hint) from error
    with held:
        yield


def enforce(
    settings: Settings,
    profile: Profile,
    *,
    pending: Optional[Callable[[], Any]] = None,
    by: str = "",
    world: Optional[Environment] = None,
) -> Enforced:
    """End the lease, if one is open, and switch enforcing on.

    :param pending: called once the kernel enforces; its result (undecided accesses, which fail from now on) is returned
    :raises RefusedError: SELinux is disabled, or the lock was held for minutes (the kernel enforces)
    """
    world = world or _machine(settings)
    if not world.kernel.enabled():
        raise RefusedError(
            "SELinux is disabled on this machine: nothing can be enforced", "boot with SELinux enabled; see: sestatus"
        )
    switched = not world.kernel.enforcing()
    if switched:
        world.kernel.set_enforcing(True)
    with _closed_first(world, profile):
        lease = world.book.of(profile.name)
        ended = end_lease(world, lease, f"enforced by {by or caller()}") if lease else None
        end_due_locked(world)
        if switched:
            world.book.record(LeaseEvent.ENFORCED, world.clock.now(), profile=profile.name, by=by or caller())
    return Enforced(ended, world.kernel.enforcing(), pending() if pending else None)


def mark(settings: Settings, profile: Profile, name: str, *, world: Optional[Environment] = None) -> exercises.ExerciseMark:
    """Begin an exercise: flush the access vector cache, so that each access is logged again, and record name and time.

    :raises RefusedError: no lease is open, or the name holds characters that are not allowed
    """
    world = world or _machine(settings)
    lease = world.book.of(profile.name)
    if lease is None or lease.phase is not LeasePhase.OPEN or lease.is_due(world.clock.now()):
        raise RefusedError(f"no lease of {profile.name} is open", "run: sepolicyd learn start")
    exercises.check_name(name)
    # under the lock: a reload while another command ends the lease could load the module that it has just removed
    with world.book.lock(COMMAND_WAIT_S):
        if world.book.of(profile.name) is None:
            raise RefusedError(f"the lease of {profile.name} has just ended", "run: sepolicyd learn start")
        world.store.reload()
        made = exercises.ExerciseMark(name=name, epoch=world.clock.now().wall, profile=profile.name, lease=lease.id)
        exercises.append(exercises.path(settings.state), made)
        world.book.record(LeaseEvent.MARKED, world.clock.now(), id=lease.id, profile=profile.name, name=name, by=caller())
    return made


def _policy_index(settings: Settings) -> preconditions.DomainFacts:
    from sepolicyd.policy import index_store
    from sepolicyd.policy.policy_files import find_policy

    place = index_store.place_for(settings.state)
    facts: preconditions.DomainFacts = index_store.load(find_policy(settings), place).policy_index
    return facts


def _machine(settings: Settings) -> Environment:
    if os.geteuid() != 0:
        raise RefusedError("only root opens and ends leases", "run this with sudo")
    return live_environment(settings.rollout_dir)


def _entry(lease: Lease) -> dict[str, Any]:
    return {
        "id": lease.id, "profile": lease.profile, "domains": list(lease.domains), "whole_system": lease.whole_system,
        "hidden": lease.hidden, "deadline_wall": round(lease.deadline_wall, 3), "by": lease.by,
        **({"why": lease.why} if lease.why else {}),
    }  # fmt: skip


def _scope(lease: Lease) -> str:
    return "the whole system is permissive" if lease.whole_system else f"{', '.join(lease.domains)} permissive"


def _reason(text: str) -> str:
    """Return a reason on one line without control characters, at most 500 characters long."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:500]


def _local(wall: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(wall).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _plain_units(units: Iterable[str]) -> tuple[str, ...]:
    """Return the unit names that are not glob patterns, since systemctl would match a pattern with units of other services."""
    return tuple(unit for unit in units if not set(unit) & set("*?["))


def caller() -> str:
    """Return the name of the user who runs the command; below sudo, the name of the user who called sudo."""
    name = os.environ.get("SUDO_USER")
    if name:
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
