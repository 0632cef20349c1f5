"""Comparison of `paper` and `hand`: commands typed, accesses opened, and whether the class works.

What a rollout opens is read from the policies that the kernel had before and after it, attributes expanded; both are judged by
the project's guard, which is the published list of what an expert refuses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional

from sepolicyd.policy import delta
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rules.guard.guard import load_guard
from tests.vm.bench import ROOT, Context  # type: ignore[attr-defined]
from tests.vm.machine import Result

NAMES = ("hand", "paper")
LOADED = "/sys/fs/selinux/policy"
# the account of a comparison, in the logs of its scenario
ACCOUNT = "account.json"
SECRETS = ("shadow_t", "jupyterhub_secret_t", "jupyterhub_tls_t")


@dataclass
class Account:
    """What a rollout cost and what it gave; accesses are (type, class, permission) that the service's domains gained."""

    commands: int = 0
    characters: int = 0
    seconds: float = 0.0
    answers: int = 0
    rounds: int = 0
    rules: int = 0
    accesses: int = 0
    refused: list[str] = field(default_factory=list)
    students: int = 0
    students_share: bool = False
    works: bool = False
    new_denials: int = 0
    open_seconds: float = 0.0


@dataclass
class Administrator:
    """Types commands; how many, how long they are, and how long they run is part of the comparison."""

    context: Context
    account: Account = field(default_factory=Account)

    def types(self, script: str, *, timeout: float = 420, check: bool = True) -> Result:
        done = self.context.run(script, timeout=timeout, check=check)
        self.account.commands += 1
        self.account.characters += len(script) + 1
        self.account.seconds += done.seconds
        return done


def policy(context: Context, name: str) -> Path:
    """The policy that the kernel has now, as a file on the host."""
    context.run(f"cat {LOADED} > /root/{name}")
    path = context.logs / name
    path.write_bytes(context.machine.get(f"/root/{name}"))
    return path


def opens(account: Account, before: Path, after: Path, domains: Sequence[str], students: str) -> None:
    """Fill in what the domains may after the rollout and could not before it; `students` is where their code runs."""
    new = PolicyIndex.load(after)
    found = delta.difference(before, new)
    held = [access for access in found.gained if access.source in domains]
    judged = load_guard([ROOT / "policies"]).judge(held, None, new)
    account.accesses = len(held)
    account.refused = sorted(
        str(access)
        for access, findings in judged.items()
        # a domain's way in by a program type that came with it is no foreign entry point
        if findings[0].level == "refuse" and not (access.permission == "entrypoint" and access.target in found.new_types)
    )
    account.students = sum(access.source == students for access in held)
    account.students_share = len(domains) == 1


def keep(context: Context, account: Account) -> None:
    (context.logs / ACCOUNT).write_text(json.dumps(asdict(account), indent=1, sort_keys=True) + "\n")


def kept(logs: Path) -> Optional[Account]:
    """The account that this scenario left, in this run of the bench or in one before it."""
    try:
        return Account(**json.loads((logs / ACCOUNT).read_text()))
    except OSError:
        return None


def told(by_hand: Account, by_us: Account) -> str:
    """Both as a table for a person."""
    rows: list[tuple[str, ...]] = [("", "by hand", "by sepolicyd")]

    def row(name: str, *values: object) -> None:
        rows.append((name, *(str(value) for value in values)))

    both = (by_hand, by_us)
    row("commands typed", *(a.commands for a in both))
    row("characters typed", *(a.characters for a in both))
    row("seconds until they had run", *(round(a.seconds) for a in both))
    row("questions answered", *(a.answers for a in both))
    row("rounds", *(a.rounds for a in both))
    row("allow rules of the learned modules", *(a.rules for a in both))
    row("accesses opened, base modules included", *(a.accesses for a in both))
    row("of them to students' code", *(f"{a.students}{', the hub’s domain' if a.students_share else ''}" for a in both))
    row("of them on the guard's refuse list", *(len(a.refused) for a in both))
    row("seconds the machine was open", *(round(a.open_seconds) for a in both))
    row("the class works under enforcing", *("yes" if a.works else "no" for a in both))
    row("new denials under enforcing", *(a.new_denials for a in both))
    widths = [max(len(line[column]) for line in rows) for column in range(3)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in rows]
    for who, account in (("by hand", by_hand), ("by sepolicyd", by_us)):
        lines += [f"refused, {who}: {access}" for access in account.refused]
    return "\n".join(lines)


def comparison(directory: Path) -> str:
    """The table, once both scenarios have left their account below this directory of logs; else nothing."""
    accounts = [kept(directory / name) for name in NAMES]
    return told(accounts[0], accounts[1]) if accounts[0] and accounts[1] else ""
