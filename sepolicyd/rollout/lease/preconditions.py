"""Checks before a lease opens. A lease that could not be ended is refused with a RefusedError."""

from __future__ import annotations

from typing import Optional, Protocol

from sepolicyd.errors import RefusedError
from sepolicyd.profiles import Profile
from sepolicyd.rollout.lease.environment import Environment
from sepolicyd.rollout.lease.lease import DAY_S, CorruptLease, Lease
from sepolicyd.rollout.lease.lease_records import leased_seconds
from sepolicyd.settings import Settings
from sepolicyd.storage.trust import refuse_unsafe

MIN_SECONDS = 30
# Domains shared by programs without a policy of their own: making one permissive opens the whole host or has no effect.
SHARED = frozenset(
    (
        *("init_t", "initrc_t", "kernel_t", "unlabeled_t", "unconfined_t", "unconfined_service_t"),
        *("sysadm_t", "staff_t", "user_t", "crond_t", "sshd_t"),
    )
)


class DomainFacts(Protocol):
    """Queries on the loaded policy that a lease needs; implemented by sepolicyd.policy.index.PolicyIndex."""

    def is_unconfined(self, type_name: str) -> bool:
        """Tell whether a domain is unconfined."""
        ...


def domains_to_open(world: Environment, profile: Profile) -> tuple[str, ...]:
    """Return those of the profile's own domains that the loaded policy defines.

    :raises RefusedError: the policy defines none of them
    """
    own = profile.own_domains
    known = world.kernel.known_types()
    if not any(name in known for name in own):
        raise RefusedError(
            f"the loaded policy defines no domain of {profile.name} ({', '.join(own) or 'the profile names none'})",
            "load the service's base module first: sepolicyd init",
        )
    return tuple(name for name in own if name in known)


def refuse_request(
    settings: Settings, world: Environment, profile: Profile, seconds: float, running: Optional[Lease] = None
) -> None:
    """Check the request itself: duration, daily cap, state directory, a lease that is already open.

    :raises RefusedError: one of these checks failed
    """
    if not settings.live:
        raise RefusedError(f"a lease changes the running kernel, but --root names {settings.root}", "omit --root")
    refuse_unsafe(settings.rollout_dir)
    if seconds < MIN_SECONDS:
        raise RefusedError(f"a lease of {seconds:.0f} s is too short", f"request at least {MIN_SECONDS} s")
    if seconds > settings.max_lease_seconds:
        raise RefusedError(
            f"{seconds:.0f} s exceeds the limit for a single lease ({settings.max_lease_seconds} s)",
            f"request a shorter lease, or change max_lease_seconds in {settings.config}",
        )
    now = world.clock.now()
    used = leased_seconds(world.book.history(), now.wall - DAY_S, now.wall)
    if used + seconds > settings.max_lease_seconds_per_day:
        raise RefusedError(
            f"{used:.0f} s have been leased in the last 24 hours; {seconds:.0f} s more would exceed the cap of "
            f"{settings.max_lease_seconds_per_day} s",
            f"request a shorter lease, wait, or change max_lease_seconds_per_day in {settings.config}",
        )
    if running is None and world.book.of(profile.name) is not None:
        raise RefusedError(f"a lease of {profile.name} is already open", "run: sepolicyd learn renew, or learn stop")


def refuse_machine(world: Environment, *, hidden: bool) -> None:
    """Check kernel, store and systemd.

    :raises RefusedError: one of these checks failed
    """
    if not world.kernel.enabled():
        raise RefusedError("SELinux is disabled on this machine", "boot with SELinux enabled first; see: sestatus")
    if not world.kernel.enforcing():
        raise RefusedError(
            "this machine is already permissive without a lease, so the end of a lease could not restore enforcing",
            "run: setenforce 1 (and set SELINUX=enforcing in /etc/selinux/config), then try again",
        )
    if world.kernel.refuses_loads():
        raise RefusedError(
            "the boolean secure_mode_policyload is on or pending: the kernel then refuses policy loads, so a lease could not"
            " be ended",
            "run: setsebool -P secure_mode_policyload off; reboot if it is already on; see: getsebool secure_mode_policyload",
        )
    broken = [item for item in world.book.all() if isinstance(item, CorruptLease)]
    if broken:
        raise RefusedError(f"{broken[0].path} is not a valid lease record: {broken[0].reason}", "run: sepolicyd doctor")
    if hidden and world.store.dontaudit_off():
        raise RefusedError("dontaudit rules are already disabled without a lease", "omit --hidden, or run: semodule -B")
    problem = world.timers.problem()
    if problem:
        raise RefusedError(
            f"no timer could end the lease: {problem}", "install the systemd units (make install); see: sepolicyd doctor"
        )


def refuse_domains(domains: tuple[str, ...], permissive: frozenset[str], policy: DomainFacts) -> None:
    """Check the domains in the loaded policy.

    :raises RefusedError: one is shared, unconfined or already permissive
    """
    for name in domains:
        if name in SHARED or policy.is_unconfined(name):
            raise RefusedError(
                f"{name} is shared or unconfined: making it permissive affects more than this service, or has no effect",
                "give the service a domain of its own first: sepolicyd init",
            )
    already = sorted(permissive & frozenset(domains))
    if already:
        raise RefusedError(
            f"{', '.join(already)} is already permissive without a lease",
            f"run: semanage permissive -d {already[0]}; or remove the module that makes it permissive",
        )
