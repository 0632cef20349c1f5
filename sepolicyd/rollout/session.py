"""The context of one command: settings, profile, stores and the loaded policy."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Optional

from sepolicyd import profiles
from sepolicyd.errors import InputError, SepolicydError
from sepolicyd.policy import index_store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.policy_files import find_policy, identity_of
from sepolicyd.rollout.lease import exercises
from sepolicyd.rollout.lease.exercises import ExerciseMark
from sepolicyd.rollout.lease.lifecycle import caller
from sepolicyd.rules.guard.guard import Guard, load_guard
from sepolicyd.settings import Settings
from sepolicyd.state.decisions import DecisionStore
from sepolicyd.state.evidence_reader import Snapshot, read_evidence


@dataclass(frozen=True)
class Session:
    """One command's settings and the profile it works on."""

    settings: Settings
    profile: profiles.Profile

    def guard(self) -> Guard:
        return load_guard(self.settings.policy_dirs)

    def decisions(self) -> DecisionStore:
        return DecisionStore(self.settings.decisions_db)

    def marks(self) -> list[ExerciseMark]:
        """Return the exercises of this profile that `learn mark` recorded."""
        made = exercises.read(exercises.path(self.settings.state))
        return [mark for mark in made if mark.profile == self.profile.name]

    def snapshot(self) -> Snapshot:
        """Return the daemon's evidence."""
        return read_evidence(self.settings.evidence_db)


def open_policy(settings: Settings, policy_file: Optional[Path]) -> tuple[Optional[PolicyIndex], str]:
    """Return the policy to assess against, or None with the reason.

    :raises InputError: the policy file that was named cannot be read
    """
    if policy_file is not None:
        if not policy_file.is_file():
            raise InputError(f"policy {policy_file} is not a file", "give a binary kernel policy, such as policy.33")
        return load_policy(settings, policy_file), ""
    try:
        return load_policy(settings, find_policy(settings)), ""
    except SepolicydError as error:
        return None, f"not assessed against a policy: {error}"


def load_policy(settings: Settings, path: Path) -> PolicyIndex:
    """Return the index of a policy, from the cache on disk if possible. Reports once on stderr why it cannot be cached.

    :raises ToolMissingError: no setools
    :raises InputError: no such file, not a kernel policy, or too new a version
    """
    return _loaded(identity_of(path), settings.state)


@lru_cache(maxsize=2)
def _loaded(identity: tuple[object, ...], state: Path) -> PolicyIndex:
    """Read a policy once per command; a new ``identity`` (policy load or file) means another policy."""
    found = index_store.load(Path(str(identity[0])), index_store.place_for(state))
    if found.note:
        print(f"sepolicyd: {found.note if found.note.isprintable() else ascii(found.note)}", file=sys.stderr)
    return found.policy_index


def invoking_user() -> str:
    """Return the user name for the history; below sudo, the name of the user who called sudo."""
    return f"{caller()} (sudo)" if os.environ.get("SUDO_USER") else caller()
