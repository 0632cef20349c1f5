"""Text and JSON of a draft and of a proved plan: what `apply` would change, and the objections to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sepolicyd.access import Access
from sepolicyd.cli import terminal
from sepolicyd.rollout.apply.link_and_prove import Plan, opened_by
from sepolicyd.rollout.apply.module_draft import Draft

SHOWN = 30
VALUES = {None: "as before", True: "on", False: "off"}


def outline(draft: Draft) -> list[str]:
    """Return the changes that the decisions ask for, as lines of text, before the module is linked."""
    todo = draft.outstanding
    lines = [_title(draft)]
    lines += _accesses("adds", "+", [rule.access for rule in todo.added], "rule", "rules")
    lines += _accesses("drops", "-", [rule.access for rule in todo.dropped], "rule", "rules")
    if draft.fresh:
        lines.append(f"  base     {', '.join(draft.fresh)}, for the service's own domains")
    return lines + _settings(draft, opened_by(draft, draft.start))


def lines(plan: Plan) -> list[str]:
    """Return a proved plan as lines of text: accesses gained and lost, settings, overrides and refusals."""
    shown = [_title(plan)]
    if plan.base_delta is not None:
        count = terminal.plural(len(plan.base_delta.gained), "access", "accesses")
        shown.append(f"  base     {count} for the service's own domains")
    count, bare = terminal.plural(len(plan.delta.gained), "access", "accesses"), len(plan.proof.uncovered)
    covered = f"{bare} of them covered by no decision" if bare else "each covered by a decision"
    shown += [f"  gained   {count}, {covered}", *_first(plan.delta.gained, "+")]
    shown += _accesses("lost", "-", plan.delta.lost, "access", "accesses")
    shown += _settings(plan, plan.opened)
    shown += [f"  no effect {access}: {terminal.escape(why)}" for access, why in sorted(plan.proof.without_effect.items())]
    for access, one in plan.proof.overrides.items():
        shown.append(f"  override {access}: {terminal.escape(one.reason)} ({terminal.escape(one.by)})")
    return shown + [f"  REFUSED  {terminal.escape(text)}" for text in plan.proof.refusals]


def _title(draft: Draft) -> str:
    if draft.empty:
        return f"{draft.module} version {draft.previous.number}: nothing to change"
    return f"{draft.module} version {draft.number} (now: {draft.previous.number or 'none'})"


def _accesses(word: str, sign: str, accesses: Collection[Access], noun: str, many: str) -> list[str]:
    return [f"  {word:8} {terminal.plural(len(accesses), noun, many)}", *_first(accesses, sign)] if accesses else []


def _first(accesses: Iterable[Access], sign: str) -> list[str]:
    ordered = sorted(accesses)
    shown = [f"    {sign} {access}" for access in ordered[:SHOWN]]
    return shown + ([f"    ... {len(ordered) - SHOWN} more; --json lists all"] if len(ordered) > SHOWN else [])


def _settings(draft: Draft, opened: Mapping[str, Collection[Access]]) -> list[str]:
    """Return lines for ports, booleans, labels, and the accesses that are left out."""
    todo = draft.outstanding
    shown = [f"  port     {port.protocol} {port.number} -> {port.type or 'as the policy has it'}" for port in todo.ports]
    for one in todo.booleans:
        opens = opened.get(one.name, ())
        more = f", which enables {terminal.plural(len(opens), 'access', 'accesses')}" if opens else ""
        shown += [f"  boolean  {one.name} -> {VALUES[one.on]}{more}", *_first(opens, "+")]
    shown += [f"  relabel  {terminal.escape(path)}" for path in draft.desired.paths]
    return shown + [f"  left out {access}: {terminal.escape(why)}" for access, why in sorted(draft.left_out.items())]


def document(plan: Plan) -> dict[str, Any]:
    """Return the JSON of preview."""
    todo, covered = plan.outstanding, plan.proof.covered
    return {
        "module": plan.module,
        "version": plan.number,
        "previous": plan.previous.number,
        "empty": plan.empty,
        "te": plan.source.te,
        "fc": plan.source.fc,
        "gained": [
            {"access": str(access), "decision": covered[access].id if access in covered else None}
            for access in sorted(plan.delta.gained)
        ],
        "lost": [str(access) for access in sorted(plan.delta.lost)],
        "base_gained": None if plan.base_delta is None else len(plan.base_delta.gained),
        "uncovered": [str(access) for access in plan.proof.uncovered],
        "ports": [{"protocol": port.protocol, "number": port.number, "type": port.type} for port in todo.ports],
        "booleans": [
            {"name": one.name, "on": one.on, "opens": [str(access) for access in sorted(plan.opened.get(one.name, ()))]}
            for one in todo.booleans
        ],
        "relabel": list(plan.desired.paths),
        "by_hand": list(plan.desired.manual),
        "left_out": {str(access): why for access, why in sorted(plan.left_out.items())},
        "without_effect": {str(access): why for access, why in sorted(plan.proof.without_effect.items())},
        "refusals": list(plan.proof.refusals),
    }
