"""The `demo` command: a captured rollout through the real daemon, review, apply into a store of its own, and a replay."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Optional

import click

from sepolicyd import process, profiles
from sepolicyd.cli import terminal
from sepolicyd.cli.candidate_view import screen
from sepolicyd.cli.options import settings_from
from sepolicyd.cli.plan_view import lines
from sepolicyd.errors import InputError, ToolError
from sepolicyd.module.build import workdir
from sepolicyd.module.store import create_store
from sepolicyd.rollout.apply import pipeline
from sepolicyd.rollout.apply.execute import Order
from sepolicyd.rollout.apply.session_draft import base_package, planned
from sepolicyd.rollout.review.answer import store_decision
from sepolicyd.rollout.review.queue import queue
from sepolicyd.rollout.session import Session, invoking_user
from sepolicyd.rules.assess.assess import Assessed
from sepolicyd.rules.fixes.fix import FixKind
from sepolicyd.settings import DEFAULT_PROFILE, Settings
from sepolicyd.state.decisions import AnswerKind
from sepolicyd.state.evidence_reader import read_evidence

LOG = "rollout.log.gz"
CHUNKS = 8
CHUNK_PAUSE_S = 0.35
WAIT_S = 30.0
MAX_ROUNDS = 3


@click.command("demo")
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Work in this new directory and leave it there.")
def demo_command(keep: Optional[Path]) -> None:
    """Replay a captured rollout into a policy store of its own.

    The real daemon follows a log that grows, a careful administrator's answers are given, the module is built, proved
    and loaded into a copy of the distribution's store, and the log is replayed. Needs no SELinux kernel and no root.

    \b
    Example:
      sepolicyd demo
    """
    began = time.monotonic()
    with _work_directory(keep) as place:
        settings = replace(settings_from(None, place / "state", place / "root"), log=place / "audit.log")
        session = Session(settings, profiles.load(DEFAULT_PROFILE, settings.policy_dirs))
        _heading("1. Create a policy store from the distribution's policy, with the service's domains (sepolicyd init)")
        with workdir("demo") as directory:
            store = create_store(settings.root)
            store.install([base_package(session, directory)], settings.priority)
        _heading("2. The daemon follows a growing audit log: a hub, two users, a terminal, notebooks")
        _follow(session)
        _heading("3. Candidates, and the answers of a careful administrator")
        _answer(session)
        _heading("4. Preview: build, link in a copy of the store, compare access by access")
        with planned(session) as plan:
            terminal.print_out("\n".join(lines(plan)))
            _heading("5. Apply in one transaction, and verify the resulting policy")
            order, guard = Order(invoking_user()), session.guard()
            done = pipeline.apply(plan, settings, guard, order, on_step=lambda word: terminal.print_err(f"   ... {word}"))
        terminal.print_out(f"{plan.module} version {done.version} loaded and verified ({done.verified})")
        _heading("6. Replay the same log under the new policy")
        _replay(session)
    terminal.print_out(f"\nTotal time: {time.monotonic() - began:.0f} s.")


@contextmanager
def _work_directory(keep: Optional[Path]) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=False)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="sepolicyd-demo-") as name:
        yield Path(name)


def _follow(session: Session) -> None:
    """Start a daemon and append the log in chunks that do not end at line ends; print its progress."""
    settings = session.settings
    text = _captured(session)
    settings.log.touch()
    size = -(-len(text) // CHUNKS)
    settings.state.mkdir(parents=True, exist_ok=True)
    output = settings.state / "daemon.out"
    with process.background(_argv(settings), output=output, env=_env()) as ended, settings.log.open("ab", buffering=0) as log:
        for start in range(0, len(text), size):
            log.write(text[start : start + size])
            time.sleep(CHUNK_PAUSE_S)
            if ended() is not None:
                raise ToolError(
                    f"the daemon ended with exit code {ended()}", f"see {output}, or run: {' '.join(_argv(settings))}"
                )
            seen = read_evidence(settings.evidence_db)
            terminal.print_err(
                f"   {seen.counts.get('lines', 0):5} lines read, {len(seen.evidence):4} distinct accesses of the service"
            )
        _wait(settings, text.count(b"\n"))


def _captured(session: Session) -> bytes:
    # beside the directory of the policies, in the source tree as after installation
    path = session.profile.directory.parents[1] / "examples" / session.profile.name / LOG
    try:
        return gzip.decompress(path.read_bytes())
    except OSError as error:
        raise InputError(f"the demo's log {path} cannot be read: {error.strerror}", "install sepolicyd's examples") from None


def _env() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("SEPOLICYD_")}


def _argv(settings: Settings) -> list[str]:
    return [sys.executable, "-m", "sepolicyd", "run", "--state", str(settings.state), "--log", str(settings.log)]


def _wait(settings: Settings, lines_written: int) -> None:
    give_up = time.monotonic() + WAIT_S
    while read_evidence(settings.evidence_db).counts.get("lines", 0) < lines_written:
        if time.monotonic() > give_up:
            raise ToolError("the daemon has not read the whole log", f"see {settings.state / 'daemon.out'}")
        time.sleep(0.05)


def _answer(session: Session) -> None:
    """Decide until nothing is pending. Refused accesses come first: denying them releases the candidates frozen by a burst."""
    for number in range(MAX_ROUNDS):
        waiting = queue(session)
        if not waiting.items:
            return
        levels = Counter(item.level for item in waiting.items)
        terminal.print_out(
            f"{len(waiting.items)} candidates: {', '.join(f'{count} {level}' for level, count in levels.items())}"
            + (f"; {waiting.solved} accesses are already allowed" if waiting.solved else "")
        )
        if number == 0:
            _show_first(waiting.items)
        _store(session, waiting.items)


def _show_first(items: Sequence[Assessed]) -> None:
    terminal.print_out("\n" + "\n".join(f"  {line}" for line in screen(items[0])) + "\n")


def _store(session: Session, items: Sequence[Assessed]) -> None:
    """Store the decision of :func:`careful` for each candidate; leave frozen ones for the next round."""
    given: Counter[str] = Counter()
    frozen = [item for item in items if item.frozen and item.level != "refuse"]
    store = session.decisions()
    try:
        for item in items:
            if item in frozen and len(frozen) < len(items):
                continue  # frozen by a burst of refused targets, which are decided first
            answer, reason = careful(item)
            store_decision(session, store, answer, item, reason=reason)
            given[f"{answer.value}: {reason}"] += 1
    finally:
        store.close()
    for text, count in sorted(given.items()):
        terminal.print_out(f"  {count:4} {text}")


def careful(item: Assessed) -> tuple[AnswerKind, str]:
    """Return the decision of a careful administrator, and the reason."""
    if item.level == "refuse":
        return AnswerKind.DENY, "the guard refuses it"
    if not item.approvable:
        return AnswerKind.DENY, "it cannot be approved in this form"
    if item.level == "review":
        return AnswerKind.DENY, "it is of level review, and the service works without it"
    if item.fix.kind is FixKind.DONTAUDIT:
        return AnswerKind.DONTAUDIT, "a probe that the service does not depend on"
    return AnswerKind.ALLOW, "the guard has no objection"


def _replay(session: Session) -> None:
    """Let a daemon with empty state read the log again, and check that no candidate is pending under the new policy."""
    again = replace(session.settings, state=session.settings.state / "replay")
    process.run([*_argv(again), "--once"], env=_env())
    shutil.copytree(session.settings.decisions_db.parent, again.decisions_db.parent)
    left = queue(Session(again, session.profile))
    seen = len(left.snapshot.evidence)
    terminal.print_out(
        f"{seen} distinct accesses were denied in that log; {left.solved} of them are now allowed, the others are decided."
    )
    terminal.print_out(f"{len(left.items)} pending.")
    if left.items:
        raise ToolError(f"{len(left.items)} candidates are pending after the replay", "this is a bug: please report it")


def _heading(text: str) -> None:
    terminal.print_out("\n" + terminal.style(text, bold=True))
