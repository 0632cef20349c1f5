"""Checks before a lease opens: every reason why it could not be ended is a RefusedError."""

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
# Domains of everything that has no policy of its own: a permissive one opens the host, or changes nothing.
SHARED = frozenset(
    (
        *("init_t", "initrc_t", "kernel_t", "unlabeled_t", "unconfined_t", "unconfined_service_t"),
        *("sysadm_t", "staff_t", "user_t", "crond_t", "sshd_t"),
    )
)


class DomainFacts(Protocol):
    """What a lease needs to know of the loaded policy; sepolicyd.policy.index.PolicyIndex has it."""

    def is_unconfined(self, type_name: str) -> bool:
        """Tell whether the policy allows a domain everything."""
        ...


def domains_to_open(world: Environment, profile: Profile) -> tuple[str, ...]:
    """Return the profile's own domains that the loaded policy knows.

    :raises RefusedError: the policy knows none of them
    """
    own = profile.own_domains
    known = world.kernel.known_types()
    if not any(name in known for name in own):
        raise RefusedError(
            f"the loaded policy knows no domain of {profile.name} ({', '.join(own) or 'the profile names none'})",
            "load the service's own domain first: sepolicyd init",
        )
    return tuple(name for name in own if name in known)


def refuse_request(
    settings: Settings, world: Environment, profile: Profile, seconds: float, running: Optional[Lease] = None
) -> None:
    """Check what does not depend on the kernel: length, daily cap, state directory, a lease that is open already."""
    if not settings.live:
        raise RefusedError(f"{settings.root} is not this machine: a lease is about the running kernel", "leave --root away")
    refuse_unsafe(settings.rollout_dir)
    if seconds < MIN_SECONDS:
        raise RefusedError(f"a lease of {seconds:.0f} s is too short", f"ask for {MIN_SECONDS} s at least")
    if seconds > settings.max_lease_seconds:
        raise RefusedError(
            f"{seconds:.0f} s is longer than a single lease may be ({settings.max_lease_seconds} s)",
            f"ask for less, or change max_lease_seconds in {settings.config}",
        )
    now = world.clock.now()
    used = leased_seconds(world.book.history(), now.wall - DAY_S, now.wall)
    if used + seconds > settings.max_lease_seconds_per_day:
        raise RefusedError(
            f"with {used:.0f} s already leased in the last 24 hours, {seconds:.0f} s more pass the cap of "
            f"{settings.max_lease_seconds_per_day} s",
            f"ask for less, wait, or change max_lease_seconds_per_day in {settings.config}",
        )
    if running is None and world.book.of(profile.name) is not None:
        raise RefusedError(f"a lease of {profile.name} is open already", "run: sepolicyd learn renew, or learn stop")


def refuse_machine(world: Environment, *, hidden: bool) -> None:
    """Check kernel, store and systemd."""
    if not world.kernel.enabled():
        raise RefusedError("SELinux is disabled on this machine", "boot with it enabled first; see: sestatus")
    if not world.kernel.enforcing():
        raise RefusedError(
            "this machine is permissive already, without a lease, and nothing would end that",
            "run: setenforce 1 (and SELINUX=enforcing in /etc/selinux/config), then ask again",
        )
    if world.kernel.refuses_loads():
        raise RefusedError(
            "the boolean secure_mode_policyload is on or about to be: the kernel takes no policy then, and a lease could not be"
            " ended",
            "setsebool -P secure_mode_policyload off, and reboot if it is on already; see: getsebool secure_mode_policyload",
        )
    broken = [item for item in world.book.all() if isinstance(item, CorruptLease)]
    if broken:
        raise RefusedError(f"{broken[0].path} cannot be understood: {broken[0].reason}", "run: sepolicyd doctor")
    if hidden and world.store.dontaudit_off():
        raise RefusedError("dontaudit rules are off already, without a lease", "leave --hidden away, or run: semodule -B")
    problem = world.timers.problem()
    if problem:
        raise RefusedError(f"nothing could end the lease: {problem}", "install the units (make install); see: sepolicyd doctor")


def refuse_domains(domains: tuple[str, ...], permissive: frozenset[str], policy: DomainFacts) -> None:
    """Check the domains in the loaded policy: shared, unconfined and permissive ones are refused."""
    for name in domains:
        if name in SHARED or policy.is_unconfined(name):
            raise RefusedError(
                f"{name} is shared or unconfined: permissive there opens more than the service, or changes nothing",
                "give the service a domain of its own first: sepolicyd init",
            )
    already = sorted(permissive & frozenset(domains))
    if already:
        raise RefusedError(
            f"{', '.join(already)} is permissive already, without a lease",
            f"remove that first: semanage permissive -d {already[0]}, or the module that makes it permissive",
        )
