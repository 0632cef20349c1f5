"""The draft for `apply` and `preview`: a session's decisions in force, plus the base module if the store lacks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.module.base_module import build_base, contexts_of
from sepolicyd.module.build import workdir
from sepolicyd.module.store import Store, policy_is_mls
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.apply.link_and_prove import Plan, proved_in_copy
from sepolicyd.rollout.apply.module_draft import Draft, OnStep, drafted
from sepolicyd.rollout.session import Session, open_policy
from sepolicyd.state.decisions import Decision


@contextmanager
def drafted_now(session: Session, on_step: Optional[OnStep] = None) -> Iterator[Draft]:
    """Provide the draft of all decisions in force, with the profile's base module if the store lacks its domains.

    :raises SepolicydError: see :func:`sepolicyd.rollout.apply.module_draft.drafted`
    """
    decided = decided_now(session)
    present, _ = open_policy(session.settings, None)
    with workdir("base") as place:
        base = [base_package(session, place)] if _needs_base(session, decided, present) else []
        settings, profile = session.settings, session.profile
        with drafted(settings, profile, decided, base=base, present=present, on_step=on_step) as draft:
            yield draft


@contextmanager
def planned(session: Session, on_step: Optional[OnStep] = None) -> Iterator[Plan]:
    """Provide the draft, linked in a copy of the store and proved."""
    with drafted_now(session, on_step) as draft:
        yield proved_in_copy(draft, session.settings, session.guard(), on_step)


def _needs_base(session: Session, decided: Iterable[Access], present: Optional[PolicyIndex]) -> bool:
    """Tell whether decisions name types that the base module declares but the present policy lacks."""
    if present is None:
        return False
    own = session.profile.own_types
    names = {name for access in decided for name in (access.source, access.target_type) if name in own}
    return any(present.missing_names(Access.of(name, name, "process", "fork")) for name in names)


def base_package(session: Session, place: Path) -> Path:
    """Build the profile's base module, with the file contexts of its .fc, for the store's base policy."""
    text = session.profile.file(".fc").read_text(encoding="utf-8") if session.profile.file(".fc").is_file() else ""
    mls = policy_is_mls(Store(session.settings.root).policy())
    return build_base(session.profile, contexts_of(text), place, headers=session.settings.policy_headers, mls=mls)


def decided_now(session: Session) -> Mapping[Access, Decision]:
    store = session.decisions()
    try:
        return store.decided()
    finally:
        store.close()
