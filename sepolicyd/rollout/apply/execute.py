"""One apply under the lock: prove, record the undo, install, verify.

draft -> transaction { link -> prove -> [journal: planned, with its undo] -> keep the version -> arm the trial -> install }
-> verify -> records -> [journal: done]. The steps in braces run in one libsemanage transaction, between linking and installing,
so that exactly the proved policy is installed with a single rebuild.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Union

from sepolicyd.access import Access
from sepolicyd.errors import RefusedError, SepolicydError, ToolError
from sepolicyd.kernel.journal import MessageId, Priority
from sepolicyd.kernel.xattr import read_context
from sepolicyd.module.build import workdir
from sepolicyd.module.store import Store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.policy_files import LIVE_POLICY
from sepolicyd.rollout.apply import trial as trials
from sepolicyd.rollout.apply.announce import announce
from sepolicyd.rollout.apply.changes_besides_modules import Change, changes_of, to_json
from sepolicyd.rollout.apply.installed_version import install, install_checked
from sepolicyd.rollout.apply.journal import ApplyJournal, Operation, Outcome, Step
from sepolicyd.rollout.apply.link_and_prove import Plan, proved, proved_in_copy
from sepolicyd.rollout.apply.module_draft import Draft, OnStep
from sepolicyd.rollout.apply.recovery import finish, to_version
from sepolicyd.rollout.apply.restorable_part import desired_of, files_of, keep_part, part_of
from sepolicyd.rollout.apply.verify_loaded import LoadedPolicy, check_same, verify_kernel, verify_store
from sepolicyd.rollout.apply.versions import Version, Versions, labels_of, rules_to, sha256
from sepolicyd.rollout.history import HistoryEvent
from sepolicyd.rollout.session import load_policy
from sepolicyd.rules.guard.policy_delta import Judge
from sepolicyd.settings import Settings


@dataclass(frozen=True)
class Applied:
    """The result of `apply`."""

    version: int
    previous: int
    changed: bool
    """False if the store already held everything."""
    verified: str = ""
    """"identical" (byte for byte the proved policy), "compared" (by meaning) or "kernel" (also loaded in the kernel)."""
    now_allowed: tuple[Access, ...] = ()
    """Pending accesses that the new policy already allows."""
    deadline: float = 0.0
    """Deadline for confirmation in epoch seconds, 0 without a trial."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Duration of each step in seconds."""
    plan: Optional[Plan] = None
    """The proved plan."""


@dataclass(frozen=True)
class Order:
    """The request for an apply: user and options."""

    by: str
    """The user name, for the history."""
    pending: tuple[Access, ...] = ()
    """Pending accesses, to report those that the new policy allows."""
    confirm_within: Optional[float] = None
    """Seconds until the previous version returns if the new one is not confirmed; None for no trial."""


def now_allowed(order: Order, plan: Plan) -> tuple[Access, ...]:
    return tuple(sorted(access for access in order.pending if plan.linked.allowed(access).allowed))


def refuse(plan: Plan) -> None:
    """Refuse a plan whose proof failed.

    :raises RefusedError: the proof found a reason against loading the policy
    """
    if not plan.proof.refusals:
        return
    others = len(plan.proof.refusals) - 1
    raise RefusedError(
        f"version {plan.number} of {plan.module} may not be loaded: {plan.proof.refusals[0]}",
        (f"and {others} more; " if others else "") + "run: sepolicyd preview; to withdraw a decision: sepolicyd reset ID",
    )


class Execution:
    """One apply under the lock."""

    def __init__(
        self,
        made: Union[Draft, Plan],
        settings: Settings,
        guard: Judge,
        order: Order,
        kernel: LoadedPolicy,
        say: OnStep,
    ) -> None:
        self.made, self.settings, self.guard, self.order, self.kernel, self.say = made, settings, guard, order, kernel, say
        self.store = Store(settings.root)
        self.versions = Versions(settings.rollout_dir, made.module)
        self.journal = ApplyJournal(settings.rollout_dir)
        self.operation: Optional[Operation] = None
        self.deadline, self.loads = 0.0, -1
        self.seconds: dict[str, float] = {}
        self.last = time.monotonic()

    def run(self) -> Applied:
        self._check()
        with workdir("apply") as place:
            try:
                plan = self._install(place)
                self._mark(Step.INSTALLED)
                self.say("verify")
                verified = self._verify(plan)
                self._mark(Step.VERIFIED)
            except SepolicydError as error:
                if self.operation is not None:
                    self._undo(self.operation, place, error)
                raise
            finish(self.settings, self.versions, self._operation())
            self._mark(None)
        made, allowed = self.made, now_allowed(self.order, plan)
        return Applied(made.number, made.previous.number, True, verified, allowed, self.deadline, self.seconds, plan)

    def _check(self) -> None:
        """Check that the draft is still current.

        :raises RefusedError: the store or the kept versions have changed since the draft was made
        """
        self.store.check()
        self.store.wait_for_lock()
        if sha256(self.store.policy().read_bytes()) != self.made.store_policy or self.versions.next() != self.made.number:
            raise RefusedError(
                f"the policy of {self.store.directory} has changed since this change was planned",
                "run: sepolicyd preview",
            )

    def _install(self, place: Path) -> Plan:
        """Link, prove and install in one transaction, or, if that is not possible, in a copy of the store first."""
        if self.made.fresh:  # rules of new base modules are not covered by decisions, so two links are compared
            return self._install_from_copy(place)
        judged: list[Plan] = []

        def judge() -> None:
            judging.append(True)
            linked = self.store.linked_policy()
            # cached for the next command; on this machine, verify_kernel caches the policy as the kernel writes it out
            policy = PolicyIndex.load(linked) if self.store.live else load_policy(self.settings, linked)
            judged.append(self._prove(policy, sha256(linked.read_bytes())))
            self._begin(judged[0], place)

        judging: list[bool] = []
        self.say("link, prove and install")
        try:
            install_checked(self.store, self.made.packages, self.made.outstanding, self.settings.priority, place, judge)
        except ToolError as error:
            if judging:
                raise
            self.say(f"in a copy of the store first, because one transaction is not possible: {error.what}")
            return self._install_from_copy(place)
        if not judged:
            self._take_back(place)
            self.say("in a copy of the store first, because libsemanage did not run its verifier")
            return self._install_from_copy(place)
        return judged[0]

    def _install_from_copy(self, place: Path) -> Plan:
        made = self.made
        plan = made if isinstance(made, Plan) else proved_in_copy(made, self.settings, self.guard, self.say)
        self._begin(plan, place)
        self.say("install")
        todo = made.outstanding
        install(self.store, made.packages, self.settings.priority, place, ports=todo.ports, booleans=todo.booleans)
        return plan

    def _prove(self, linked: PolicyIndex, digest: str) -> Plan:
        """Prove the linked policy, or check that it is the one already proved in a copy.

        :raises ToolError: the store links another policy than the proved copy
        """
        if not isinstance(self.made, Plan):
            return proved(self.made, self.settings, self.guard, linked, digest)
        if digest != self.made.linked_policy:
            check_same(self.made.linked, linked, str(self.store.directory))
        return replace(self.made, linked=linked, linked_policy=digest)

    def _begin(self, plan: Plan, place: Path) -> None:
        """Run the last steps before the change: refuse, or record the undo in the journal and arm the trial.

        :raises RefusedError: the proof found a reason against loading the policy
        """
        refuse(plan)
        self._mark(None, "proved")
        self.operation = self._planned(plan, place)
        self.deadline = self._keep(plan, place)
        self.loads = self.kernel.loads() if self.store.live and self.kernel.enabled() else -1

    def _operation(self) -> Operation:
        if self.operation is None:
            raise ToolError("the change was installed before it was journalled", "run: sepolicyd rollback")
        return self.operation

    def _planned(self, plan: Plan, place: Path) -> Operation:
        details: dict[str, Any] = {
            "kind": HistoryEvent.APPLY.value,
            "module": plan.module,
            "profile": plan.profile.name,
            "from": plan.previous.number,
            "to": plan.number,
            "store_policy": plan.store_policy,
            "linked_policy": plan.linked_policy,
            "workdir": str(place),
            "by": self.order.by,
            "history": _history(plan, self._changes(plan), self.order),
        }
        at, identity = time.time(), uuid.uuid4().hex[:12]
        self.journal.plan(identity, at, details)
        return Operation(identity, {**details, "at": at})

    def _changes(self, plan: Plan) -> tuple[Change, ...]:
        contexts = {path: read_context(path) for path in plan.desired.paths} if self.store.live else {}
        return changes_of(plan.desired, plan.previous.changes, plan.before, contexts)

    def _keep(self, plan: Plan, place: Path) -> float:
        """Store the version and the one that returns after a trial, and arm the trial.

        :return: the deadline in epoch seconds, 0 without a trial
        """
        version = Version(
            number=plan.number,
            modules={name: sha256(data) for name, data in plan.packages.items()},
            rules=plan.source.rules,
            changes=self._changes(plan),
            labels=labels_of(plan.source),
            parent=plan.previous.number,
            at=time.time(),
            contexts=plan.desired.contexts,
            transitions=plan.desired.transitions,
        )
        self.versions.write(version, files_of(plan.source, plan.packages))
        self._mark(Step.KEPT)
        within = self.order.confirm_within
        if within is None:
            return 0.0
        return_to, now = self._keep_return(plan, version, place), trials.now()
        trial = trials.Trial(
            plan.profile.name, plan.module, plan.number, return_to, self.order.by,
            now.wall + within, now.boottime + within, now.boot_id, self._operation().id,
        )  # fmt: skip
        trials.write_trial(self.settings, trial)
        trials.arm(trial, self.settings, within)
        self._mark(Step.ARMED)
        return trial.deadline_wall

    def _keep_return(self, plan: Plan, version: Version, place: Path) -> int:
        """Store the version that returns if the trial is not confirmed, and return its number.

        It allows only accesses that the new version also allows.
        """
        part = part_of(plan.previous, desired_of(version))
        if not part.left_out:
            return plan.previous.number
        made = keep_part(self.versions, plan.previous, part, version.number + 1, place / "return", mls=plan.start.mls)
        return made.number

    def _verify(self, plan: Plan) -> str:
        verified = verify_store(self.store, plan.linked_policy, plan.linked)
        if self.loads >= 0:
            verify_kernel(self.kernel, self.loads, plan.linked, lambda: load_policy(self.settings, LIVE_POLICY))
            return "kernel"
        return verified

    def _take_back(self, place: Path) -> None:
        """Restore modules, labels and values after an install that has no journal entry."""
        previous = self.made.previous
        packages = self.versions.packages(previous.number)
        before = self.made.before
        remove = sorted({self.made.module} - set(packages))
        install(
            self.store, packages, self.settings.priority, place, remove=remove, ports=before.ports, booleans=before.booleans
        )

    def _undo(self, operation: Operation, place: Path, error: SepolicydError) -> None:
        """Return to the previous version, depending on the store's actual content.

        :raises ToolError: the undo failed as well; the operation stays open, and the next command retries it
        """
        try:
            self.store.mend()
            if sha256(self.store.policy().read_bytes()) != self.made.store_policy:
                to_version(self.settings, self.store, self.versions, self.made.number, self.made.previous.number, place)
            self.store.realign()
            running = trials.read_trial(self.settings)
            if running is not None and running.operation == operation.id:
                trials.remove_trial(self.settings)
                trials.disarm(running, self.settings)
            self.journal.end(operation.id, time.time(), Outcome.UNDONE, {"why": error.what})
            text = f"version {self.made.number} of {self.made.module} was taken back: {error.what}"
            announce(self.settings, text, MessageId.POLICY_CHANGE_UNDONE, Priority.WARNING, self.made.profile.name)
        except SepolicydError as second:
            raise ToolError(
                f"{error.what}; the undo failed as well: {second.what}", "run: sepolicyd apply, which retries the undo first"
            ) from error

    def _mark(self, step: Optional[Step], name: str = "recorded") -> None:
        """Record the seconds since the last mark, and the step in the journal."""
        now = time.monotonic()
        self.seconds[step.value if step else name] = now - self.last
        self.last = now
        if step is not None:
            self.journal.step(self._operation().id, time.time(), step)


def _history(plan: Plan, changes: Sequence[Change], order: Order) -> dict[str, Any]:
    """Return the details of the entry in history.jsonl."""
    return {
        "previous": plan.previous.number,
        "rules": len(plan.source.rules),
        "gained": [str(access) for access in sorted(plan.delta.gained)],
        "lost": [str(access) for access in sorted(plan.delta.lost)],
        "opened": {name: len(accesses) for name, accesses in sorted(plan.opened.items())},
        "added_rules": rules_to(plan.outstanding.added),
        "dropped_rules": rules_to(plan.outstanding.dropped),
        "decisions": sorted({rule.provenance.decision for rule in plan.source.rules if rule.provenance}),
        "changes": [to_json(change) for change in changes],
        "base": list(plan.fresh),
        "overrides": [
            {"access": str(access), "reason": override.reason, "by": override.by}
            for access, override in sorted(plan.proof.overrides.items())
        ],
        "module": sha256(plan.packages[plan.module]),
        "policy": plan.linked_policy,
        "confirm_within": order.confirm_within or 0,
    }
