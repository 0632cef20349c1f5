"""Plan what `apply` and `preview` work on, from the decisions of a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from sepolicyd.access import Access
from sepolicyd.module.base_module import build_base, contexts_of
from sepolicyd.module.build import workdir
from sepolicyd.module.store import Store, policy_is_mls
from sepolicyd.rollout.apply.link import OnStep
from sepolicyd.rollout.apply.plan import Plan, plan
from sepolicyd.rollout.session import Session, open_policy
from sepolicyd.state.decisions import Decision


@contextmanager
def planned(session: Session, on_step: Optional[OnStep] = None) -> Iterator[Plan]:
    """The plan of everything decided; the profile's base module joins it where the store does not know its domains."""
    decided = decided_now(session)
    with workdir("base") as place:
        base = [base_package(session, place)] if _needs_base(session, decided) else []
        yield plan(session.settings, session.profile, decided, session.guard(), base=base, on_step=on_step)


def _needs_base(session: Session, decided: Any) -> bool:
    """Whether decisions name types that the base module declares and the store's policy does not have."""
    policy_index, _ = open_policy(session.settings, None)
    if policy_index is None:
        return False
    own = session.profile.own_types
    names = {name for access in decided for name in (access.source, access.target_type) if name in own}
    return any(policy_index.missing_names(Access.of(name, name, "process", "fork")) for name in names)


def base_package(session: Session, place: Path) -> Path:
    """The profile's base module with the file contexts of its own .fc, built for the store's base policy."""
    text = session.profile.file(".fc").read_text(encoding="utf-8") if session.profile.file(".fc").is_file() else ""
    mls = policy_is_mls(Store(session.settings.root).policy())
    return build_base(session.profile, contexts_of(text), place, headers=session.settings.policy_headers, mls=mls)


def decided_now(session: Session) -> Mapping[Access, Decision]:
    store = session.decisions()
    try:
        return store.decided()
    finally:
        store.close()
