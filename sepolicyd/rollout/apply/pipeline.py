"""A Plan in, the policy changed and verified out: every step journalled, the undo before the act, one transaction.

plan -> [journal: planned, with what undoes it] -> keep the version -> arm the trial -> one semodule transaction -> verify the
result -> records -> [journal: done]. Wherever it is cut off, :func:`recover` finishes or undoes it by what the store holds.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from sepolicyd.access import Access
from sepolicyd.errors import RefusedError, SepolicydError, ToolError
from sepolicyd.kernel.selinuxfs import SelinuxFs
from sepolicyd.module.build import workdir
from sepolicyd.module.store import Store, policy_is_mls
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.end_trial import end_trial_locked
from sepolicyd.rollout.apply.installed import install
from sepolicyd.rollout.apply.journal import UNDONE, ApplyJournal, Operation
from sepolicyd.rollout.apply.lock import BUSY, locked
from sepolicyd.rollout.apply.partial_return import desired_of, files_of, keep_part, part_of
from sepolicyd.rollout.apply.plan import Plan
from sepolicyd.rollout.apply.recovery import Settled, finish, settle, to_version
from sepolicyd.rollout.apply.verify import LoadedPolicy, verify_kernel, verify_store
from sepolicyd.rollout.apply.versions import Version, Versions, labels_of, rules_to, sha256
from sepolicyd.settings import Settings


@dataclass(frozen=True)
class Applied:
    """What `apply` did. ``changed`` False: the store held all of it already.

    ``verified``: identical (the very bytes that were checked), compared (by meaning), kernel (and the kernel runs it).
    ``now_allowed``: pending accesses that the new policy allows. ``deadline``: epoch seconds by which to confirm, else 0.
    ``seconds`` by step.
    """

    version: int
    previous: int
    changed: bool
    verified: str = ""
    now_allowed: tuple[Access, ...] = ()
    deadline: float = 0.0
    seconds: Mapping[str, float] = ()  # type: ignore[assignment]


def recover(settings: Settings) -> list[Settled]:
    """What a crash has left open is finished or undone, and a trial that is over is ended: the first act of any command.

    :return: what was found and settled, [] where all was well, or another sepolicyd is at work
    :raises SepolicydError: it could not be settled; it stays open
    """
    if not settings.rollout_dir.is_dir() or not os.access(settings.rollout_dir, os.W_OK):
        return []  # nothing was ever applied, or this is no root: only root can settle
    journal = ApplyJournal(settings.rollout_dir)
    if not journal.open() and not (settings.rollout_dir / trials.FILE).exists():
        return []
    try:
        with locked(settings):
            return _recover_locked(settings)
    except RefusedError as error:
        if BUSY in error.what:
            return []
        raise


def _recover_locked(settings: Settings) -> list[Settled]:
    settled = [settle(settings, operation) for operation in ApplyJournal(settings.rollout_dir).open()]
    ended = end_trial_locked(settings)
    return settled + ([ended] if ended else [])


def apply(
    made: Plan,
    settings: Settings,
    *,
    by: str,
    pending: Iterable[Access] = (),
    confirm_within: Optional[float] = None,
    kernel: Optional[LoadedPolicy] = None,
    on_step: Optional[Callable[[str], None]] = None,
) -> Applied:
    """
    :param by: the person, for the history
    :param pending: accesses that wait for an answer, to tell which the new policy allows
    :param confirm_within: seconds after which the previous version returns unless `confirm` came
    :raises RefusedError: the plan may not be done, or is no longer true; nothing has been changed
    :raises ToolError: a tool failed, or the result is not what was checked; the previous version stands
    :raises StateError: a record cannot be written; the journal tells how far it went, the next command finishes or undoes it
    """
    if made.proof.refusals:
        raise RefusedError(f"version {made.number} of {made.module} may not be loaded: {made.proof.refusals[0]}", _more(made))
    with locked(settings):
        _recover_locked(settings)
        still = tuple(sorted(access for access in pending if made.linked.allowed(access).allowed))
        if made.empty:
            return Applied(made.previous.number, made.previous.number, changed=False, now_allowed=still, seconds={})
        running = trials.read_trial(settings)
        if running is not None:
            raise RefusedError(
                f"version {running.version} of {running.module} is on trial",
                "first `sepolicyd confirm` or `sepolicyd rollback`",
            )
        work = _Work(made, settings, by, confirm_within, kernel or SelinuxFs(), on_step or (lambda _: None))
        return replace(work.run(), now_allowed=still)


def _more(made: Plan) -> str:
    others = len(made.proof.refusals) - 1
    return (f"and {others} more; " if others else "") + "`sepolicyd preview` shows all of it"


class _Work:
    """One apply under the lock."""

    def __init__(
        self, made: Plan, settings: Settings, by: str, within: Optional[float], kernel: LoadedPolicy, say: Callable[[str], None]
    ) -> None:
        self.made, self.settings, self.by, self.within, self.kernel, self.say = made, settings, by, within, kernel, say
        self.store = Store(settings.root)
        self.versions = Versions(settings.rollout_dir, made.module)
        self.journal = ApplyJournal(settings.rollout_dir)
        self.id = uuid.uuid4().hex[:12]
        self.seconds: dict[str, float] = {}
        self.last = time.monotonic()

    def run(self) -> Applied:
        self._check()
        with workdir("apply") as place:
            operation = self._plan(place)
            try:
                deadline = self._keep(place)
                self.say("install")
                loads = self.kernel.loads() if self.store.live and self.kernel.enabled() else -1
                install(
                    self.store,
                    self.made.packages,
                    self.settings.priority,
                    place,
                    ports=self.made.ports,
                    booleans=self.made.booleans,
                )
                self._mark("installed")
                self.say("verify")
                verified = self._verify(loads)
                self._mark("verified")
            except SepolicydError as error:
                self._undo(operation, place, error)
                raise
            finish(self.settings, self.versions, operation)
            self._mark("recorded")
        return Applied(self.made.number, self.made.previous.number, True, verified, deadline=deadline, seconds=self.seconds)

    def _check(self) -> None:
        """The plan must still be about what stands in the store."""
        self.store.check()
        self.store.wait_for_lock()
        if sha256(self.store.policy().read_bytes()) != self.made.store_policy or self.versions.next() != self.made.number:
            raise RefusedError(
                f"the policy of {self.store.directory} has changed since this was planned",
                "look at it again: sepolicyd preview",
            )

    def _plan(self, place: Path) -> Operation:
        made = self.made
        details: dict[str, Any] = {
            "kind": "apply",
            "module": made.module,
            "profile": made.profile,
            "from": made.previous.number,
            "to": made.number,
            "store_policy": made.store_policy,
            "linked_policy": made.linked_policy,
            "workdir": str(place),
            "by": self.by,
            "history": self._history(),
        }
        at = time.time()
        self.journal.plan(self.id, at, details)
        return Operation(self.id, {**details, "at": at})

    def _history(self) -> dict[str, Any]:
        made = self.made
        return {
            "previous": made.previous.number,
            "rules": len(made.source.rules),
            "gained": [str(access) for access in sorted(made.delta.gained)],
            "lost": [str(access) for access in sorted(made.delta.lost)],
            "opened": {name: len(accesses) for name, accesses in sorted(made.opened.items())},
            "added_rules": rules_to(made.new_rules),
            "dropped_rules": rules_to(made.dropped_rules),
            "decisions": sorted({rule.provenance.decision for rule in made.source.rules if rule.provenance}),
            "changes": [dict(change) for change in _changes(made, live=self.store.live)],
            "base": sorted(set(made.changed) - {made.module}),
            "overrides": [
                {"access": str(access), "reason": override.reason, "by": override.by}
                for access, override in sorted(made.proof.overrides.items())
            ],
            "module": sha256(made.packages[made.module]),
            "policy": made.linked_policy,
            "confirm_within": self.within or 0,
        }

    def _keep(self, place: Path) -> float:
        """The version with its files, and what returns after a trial; then the trial's timer. Returns the deadline, or 0."""
        made = self.made
        version = Version(
            number=made.number,
            modules={name: sha256(data) for name, data in made.packages.items()},
            rules=made.source.rules,
            changes=_changes(made, live=self.store.live),
            labels=labels_of(made.source),
            parent=made.previous.number,
            at=time.time(),
            contexts=made.desired.contexts,
            transitions=made.desired.transitions,
        )
        self.versions.write(version, files_of(made.source, made.packages))
        self._mark("kept")
        if self.within is None:
            return 0.0
        return_to = self._keep_return(version, place)
        now = trials.now()
        trial = trials.Trial(
            made.profile, made.module, made.number, return_to, self.by,
            now.wall + self.within, now.boottime + self.within, now.boot_id, self.id,
        )  # fmt: skip
        trials.write_trial(self.settings, trial)
        trials.arm(trial, self.settings, self.within)
        self._mark("armed")
        return trial.deadline_wall

    def _keep_return(self, version: Version, place: Path) -> int:
        """What returns is never more than both allow: of a previous version with what nobody wants any more, the rest."""
        part = part_of(self.made.previous, desired_of(version))
        if not part.left_out:
            return self.made.previous.number
        mls = policy_is_mls(self.store.policy())
        return keep_part(self.versions, self.made.previous, part, version.number + 1, place / "return", mls=mls).number

    def _verify(self, loads: int) -> str:
        verified = verify_store(self.store, self.made.linked_policy, self.made.linked)
        if loads >= 0:
            verify_kernel(self.kernel, loads, self.made.linked)
            return "kernel"
        return verified

    def _undo(self, operation: Operation, place: Path, error: SepolicydError) -> None:
        """Back to the previous version by what the store holds; where that fails too the operation stays open."""
        try:
            self.store.mend()
            if sha256(self.store.policy().read_bytes()) != self.made.store_policy:
                to_version(self.settings, self.store, self.versions, self.made.number, self.made.previous.number, place)
            self.store.realign()
            running = trials.read_trial(self.settings)
            if running is not None and running.operation == self.id:
                trials.remove_trial(self.settings)
                trials.disarm(running, self.settings)
            self.journal.end(operation.id, time.time(), UNDONE, {"why": error.what})
        except SepolicydError as second:
            raise ToolError(
                f"{error.what}; and taking it back failed: {second.what}", "the next sepolicyd command tries again"
            ) from error

    def _mark(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = now - self.last
        self.last = now
        if name != "recorded":
            self.journal.step(self.id, time.time(), name)


def _changes(made: Plan, *, live: bool) -> tuple[Mapping[str, Any], ...]:
    """What the version changes besides modules, each with what stood before us (not before this version alone)."""
    known = {_change_key(change): change["before"] for change in made.previous.changes}
    ports = {(port.protocol, port.number): port.type for port in made.before.ports}
    values = {value.name: value.on for value in made.before.booleans}
    found: list[dict[str, Any]] = [
        {
            "kind": "port",
            "protocol": port.protocol,
            "number": port.number,
            "type": port.type,
            "before": ports[port.protocol, port.number],
        }
        for port in made.desired.ports
    ]
    found += [{"kind": "boolean", "name": one.name, "on": one.on, "before": values[one.name]} for one in made.desired.booleans]
    found += [{"kind": "path", "path": path, "before": _context(path) if live else ""} for path in made.desired.paths]
    return tuple({**change, "before": known.get(_change_key(change), change["before"])} for change in found)


def _change_key(change: Mapping[str, Any]) -> tuple[Any, ...]:
    return (change["kind"], change.get("protocol"), change.get("number"), change.get("name"), change.get("path"))


def _context(path: str) -> str:
    try:
        return os.getxattr(path, "security.selinux", follow_symlinks=False).rstrip(b"\0").decode("utf-8", "replace")
    except OSError:
        return ""
