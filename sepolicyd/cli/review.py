"""review: one pending candidate after another on the terminal, each answer stored at once."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Optional

import click

from sepolicyd.cli import render
from sepolicyd.cli.decide import said, store_decision
from sepolicyd.cli.options import policy_option, profile_option, state_options
from sepolicyd.cli.screen import screen
from sepolicyd.cli.session import Session, open_session, queue, who
from sepolicyd.errors import RefusedError, UsageError
from sepolicyd.rules.assess import Assessed
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
    config: Optional[Path],
    state: Optional[Path],
    root: Optional[Path],
) -> None:
    """Answer the pending candidates one after another.

    Each answer is stored as it is given: quitting, a lost connection or Ctrl-C loses nothing. Candidates of level
    review ask for a reason; refused ones can be denied or skipped, not allowed.

    \b
    Example:
      sepolicyd review
    """
    session = open_session(profile_name, config, state, root)
    waiting = queue(session, policy_file)
    items = [item for item in waiting.items if level is None or item.level == level]
    if waiting.policy_note:
        render.talk(f"sepolicyd: {render.escape(waiting.policy_note)}")
    if not items:
        render.talk("nothing is pending")
        return
    store = session.decisions()
    try:
        answered = _ask_all(session, store, items)
    finally:
        store.close()
    render.talk(
        f"{render.plural(answered, 'answer')} stored, {render.plural(len(items) - answered, 'candidate')} still pending"
    )


def _ask_all(session: Session, store: DecisionStore, items: list[Assessed]) -> int:
    """Put each question; the return value is how many are answered when the person stops."""
    answered: list[int] = []
    index = 0
    while index < len(items):
        item = items[index]
        render.data(f"\n--- {index + 1} of {len(items)} " + "-" * 60)
        render.data("\n".join(screen(item)))
        step = _ask(session, store, item)
        if step == "quit":
            break
        if step == "undo":
            index = _undo(store, answered, index)
            continue
        if step == "answered":
            answered.append(index)
        index += 1
    return len(answered)


def _ask(session: Session, store: DecisionStore, item: Assessed) -> str:
    """One question until it has an outcome: answered, skipped, undo or quit."""
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
            render.data(said(store_decision(session, store, ANSWERS[answer], item, reason=why), item))
            return "answered"
        else:
            render.talk(KEYS)


def _allow(session: Session, store: DecisionStore, item: Assessed, number: int) -> bool:
    reason = ""
    if item.level == "review" and item.approvable:
        reason = _read("this wants a written reason: ") or ""
    try:
        render.data(said(store_decision(session, store, AnswerKind.ALLOW, item, number or 1, reason), item))
    except (RefusedError, UsageError) as failure:
        render.talk(render.escape(str(failure)))
        return False
    return True


def _undo(store: DecisionStore, answered: list[int], index: int) -> int:
    if not answered:
        render.talk("nothing to undo in this sitting; `sepolicyd reset ID` takes an older decision back")
        return index
    store.undo_last(who(), time.time())
    return answered.pop()


def _read(prompt: str) -> Optional[str]:
    """One line of the person's, or None at the end of input."""
    click.echo(prompt, nl=False, err=True)
    line = sys.stdin.readline()
    return line.strip() if line else None
