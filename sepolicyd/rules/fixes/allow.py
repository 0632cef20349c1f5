"""Fixes that allow the access: exactly by a rule, or by an interface of the reference policy that covers it."""

from __future__ import annotations

from collections.abc import Iterator

from sepolicyd.policy.interfaces import Offer
from sepolicyd.rules.fixes import fix
from sepolicyd.rules.fixes.candidate_facts import Question
from sepolicyd.rules.fixes.detail import InterfaceCall, OnlyPermissions
from sepolicyd.rules.fixes.fix import Fix, FixKind

SHOWN = 6


def narrow(question: Question) -> Iterator[Fix]:
    """Propose a rule for exactly the accesses for which a rule is effective."""
    if question.allowed:
        yield Fix(FixKind.ALLOW, _allowed_text(question))
        return
    helped = [access for access in question.accesses if not question.hindered(access)]
    if question.obstacles and helped:
        only = OnlyPermissions(tuple(access.permission for access in helped))
        yield Fix(FixKind.ALLOW, f"a rule is not enough: {question.obstacles[0]}", fix.rules_of(helped), only)
    else:
        yield fix.allow(question.accesses, f"a rule is not enough: {question.obstacles[0]}" if question.obstacles else "")


def _allowed_text(question: Question) -> str:
    if not question.seen.enforced:
        return "nothing to do: the policy now allows it"
    return (
        "nothing to do on a machine with this policy, which allows it; since it was denied in enforcing mode, another policy "
        "was loaded then. Assess the log of another machine with that machine's policy (--policy)"
    )


def interface_exact(question: Question) -> Iterator[Fix]:
    """Propose interfaces that allow exactly the denied accesses."""
    return (_interface(offer) for offer in question.offers if not offer.surplus and not offer.silences)


def interface_wider(question: Question) -> Iterator[Fix]:
    """Propose interfaces that allow more; these come after the rule."""
    return (_interface(offer) for offer in question.offers if offer.surplus or offer.silences)


def _interface(offer: Offer) -> Fix:
    added = [rule.rstrip(";") for rule in fix.rules_of(offer.surplus)]
    text = f"{offer} of the reference policy covers it"
    if added:
        text += f"; it adds {len(offer.surplus)} accesses: {'; '.join(added[:SHOWN])}" + (" ..." if len(added) > SHOWN else "")
    elif not offer.silences:
        text += " and adds nothing else"
    if offer.silences:
        text += f"; it suppresses {len(offer.silences)} denials that are currently logged"
    return Fix(FixKind.INTERFACE, text, (str(offer),), InterfaceCall(str(offer)))
