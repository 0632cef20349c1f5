"""The `review` command: ask about one pending candidate after another, and store each answer at once."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.candidate_view import screen
from sepolicyd.cli.decide import decision_line
from sepolicyd.cli.options import policy_option, profile_option, state_options
from sepolicyd.cli.session import open_session
from sepolicyd.errors import RefusedError, UsageError
from sepolicyd.rollout.review.answer import store_decision
from sepolicyd.rollout.review.queue import queue, with_interfaces
from sepolicyd.rollout.review.shown import record
from sepolicyd.rollout.session import Session, invoking_user
from sepolicyd.rules.assess.assess import Assessed
from sepolicyd.state.decisions import AnswerKind, DecisionStore

KEYS = "a allow (fix 1), 2..9 allow by that fix, d deny, n deny and do not log, s skip, u undo, q quit, ? this"
ANSWERS = {"d": AnswerKind.DENY, "n": AnswerKind.DONTAUDIT}


@click.command("review")
@click.option("--level", type=click.Choice(["refuse", "review", "note", "none"]), help="Only candidates of this level.")
@profile_option
@policy_option
@state_options
def review_command(
    level: Optional[str],
    profile_name: Optional[str],
    policy_file: Optional[Path],
    **paths: Optional[Path],
) -> None:
    """Answer the pending candidates one after another.

    Each answer is stored as it is given: quitting, a lost connection or Ctrl-C loses nothing. Candidates of level
    review ask for a reason; refused ones can be denied or skipped, not allowed.

    \b
    Example:
      sepolicyd review
    """
    session = open_session(profile_name, **paths)
    review = ReviewSession(session, policy_file, level)
    if review.note:
        terminal.print_err(f"sepolicyd: {terminal.escape(review.note)}")
    if not review.items:
        terminal.print_err("nothing is pending")
        return
    store = session.decisions()
    try:
        _ask_all(review, store)
    finally:
        store.close()
    left = terminal.plural(len(review.items), "candidate")
    terminal.print_err(f"{terminal.plural(review.answered, 'answer')} stored, {left} still pending")


class ReviewSession:
    """The candidates of one run of `review`; assessed again when an answer changes what may be approved."""

    def __init__(self, session: Session, policy_file: Optional[Path], level: Optional[str]) -> None:
        self.session, self.policy_file, self.level = session, policy_file, level
        self.answered = 0
        self.skipped: set[str] = set()
        self.note = ""
        self.items: list[Assessed] = []
        self.judge()

    def judge(self) -> None:
        found = queue(self.session, self.policy_file)
        self.note = found.policy_note
        self.items = [item for item in found.items if self.level is None or item.level == self.level]

    def next(self) -> Optional[Assessed]:
        item = next((item for item in self.items if item.candidate.id not in self.skipped), None)
        return None if item is None else with_interfaces(self.session, item, self.policy_file)

    def settle(self, item: Assessed) -> None:
        """Remove an answered candidate. Assess the rest again if its burst of refused targets had frozen them."""
        self.answered += 1
        self.items = [other for other in self.items if other.candidate.id != item.candidate.id]
        if item.level == "refuse" and any(other.frozen for other in self.items):
            self.judge()


def _ask_all(review: ReviewSession, store: DecisionStore) -> None:
    """Ask about each candidate until all are answered or skipped, or the user quits."""
    while True:
        item = review.next()
        if item is None:
            return
        left = sum(other.candidate.id not in review.skipped for other in review.items)
        terminal.print_out(f"\n--- {left} to go " + "-" * 60)
        terminal.print_out("\n".join(screen(item)))
        record(review.session.settings, [item])
        step = _ask(review.session, store, item)
        if step == "quit":
            return
        if step == "answered":
            review.settle(item)
        elif step == "undo":
            _undo(review, store)
        else:
            review.skipped.add(item.candidate.id)


def _ask(session: Session, store: DecisionStore, item: Assessed) -> str:
    """Ask about one candidate until there is an outcome: "answered", "skipped", "undo" or "quit"."""
    outcomes = {"s": "skipped", "u": "undo", "q": "quit"}
    while True:
        answer = _read("[a 2-9 d n s u q ?] ")
        if answer is None:
            return "quit"
        if answer in outcomes:
            return outcomes[answer]
        if answer == "a" or answer.isdigit():
            if _allow(session, store, item, 1 if answer == "a" else int(answer)):
                return "answered"
        elif answer in ANSWERS:
            why = _read("why (may be empty): ") or ""
            terminal.print_out(decision_line(store_decision(session, store, ANSWERS[answer], item, reason=why), item))
            return "answered"
        else:
            terminal.print_err(KEYS)


def _allow(session: Session, store: DecisionStore, item: Assessed, number: int) -> bool:
    reason = ""
    if item.needs_reason:
        reason = _read("this requires a reason: ") or ""
    try:
        terminal.print_out(decision_line(store_decision(session, store, AnswerKind.ALLOW, item, number or 1, reason), item))
    except (RefusedError, UsageError) as failure:
        terminal.print_err(terminal.escape(str(failure)))
        return False
    return True


def _undo(review: ReviewSession, store: DecisionStore) -> None:
    if not review.answered:
        terminal.print_err("nothing to undo in this review; to withdraw an older decision, run: sepolicyd reset ID")
        return
    store.undo_last(invoking_user(), time.time())
    review.answered -= 1
    review.judge()


def _read(prompt: str) -> Optional[str]:
    """Read one line from standard input, None at its end."""
    click.echo(prompt, nl=False, err=True)
    line = sys.stdin.readline()
    return line.strip() if line else None
