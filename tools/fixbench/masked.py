"""A policy index in the state before a fix: rules for the denied accesses of one row are hidden.

The policies at hand are newer than most rows and hold their fixes. A denial that the policy allows by now would be
answered "nothing to do", which says nothing about the fix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from sepolicyd.access import Access
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.index_tables import Pair
from sepolicyd.policy.labels import FileContexts, Labels, Spec


class MaskedIndex(PolicyIndex):
    """One index for all rows; :meth:`hide` sets what is hidden, so that caches by source and target stay."""

    def __init__(self, whole: PolicyIndex) -> None:
        super().__init__(whole.tables, whole.path)
        self._hidden: dict[tuple[str, str, str], set[str]] = {}
        self._conditional_too = True
        self._rule = "allow"
        self._booleans = dict(whole.booleans)

    def hide(self, accesses: Iterable[Access], *, conditional: bool, rule: str = "allow") -> None:
        """:param conditional: hide rules under booleans as well (unless the maintainer's fix was a boolean)"""
        self._hidden = {}
        self._conditional_too, self._rule = conditional, rule
        for access in accesses:
            key = (self.resolve(access.source), self.resolve(access.target_type), access.tclass)
            self._hidden.setdefault(key, set()).add(access.permission)
        self.booleans = self._booleans if conditional else {**self._booleans, **self._switched_off(rule)}

    def _switched_off(self, rule: str) -> dict[str, bool]:
        """The booleans that allow a hidden access now, each with its other value: the denial was logged in that state."""
        found: dict[str, bool] = {}
        for (source, target, tclass), permissions in self._hidden.items():
            for some, condition in super().pair(source, target, tclass, rule).conditional:
                if some & permissions and condition.active(self._booleans):
                    found.update({name: not self._booleans[name] for name in condition.booleans})
        return found

    def pair(self, source: str, target: str, tclass: str, rule: str = "allow") -> Pair:
        found = super().pair(source, target, tclass, rule)
        hidden = self._hidden.get((self.resolve(source), self.resolve(target), tclass))
        if not hidden or rule not in ("allow", self._rule):
            return found
        conditional = found.conditional
        if self._conditional_too:
            conditional = tuple((permissions - hidden, condition) for permissions, condition in conditional)
        return Pair(found.permissions - hidden, conditional)

    def grants(
        self, source: str, target: str, tclass: str, permission: str, states: Optional[Mapping[str, bool]] = None
    ) -> bool:
        if (self.resolve(source), self.resolve(target), tclass) not in self._hidden:
            return super().grants(source, target, tclass, permission, states)
        pair = self.pair(source, target, tclass)
        now = self.booleans if states is None else states
        return permission in pair.permissions or any(one.active(now) for one in pair.conditions(permission))


class MaskedContexts:
    """File contexts without the rules that a row's fix added: the path has the type that the denied object had."""

    def __init__(self, whole: FileContexts) -> None:
        self._whole = whole
        self.hidden: dict[str, str] = {}
        self.patterns: frozenset[str] = frozenset()

    def by_parent(self, directory: str) -> Sequence[Spec]:
        return self._without(self._whole.by_parent(directory))

    def by_last(self, name: str) -> Sequence[Spec]:
        return self._without(self._whole.by_last(name))

    def _without(self, specs: Sequence[Spec]) -> Sequence[Spec]:
        return [spec for spec in specs if spec.pattern not in self.patterns and spec.stem not in self.hidden]

    def lookup(self, path: str, tclass: str = "file") -> Optional[str]:
        return self.hidden.get(path) or self._whole.lookup(path, tclass)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


def masked_labels(labels: Labels) -> tuple[Labels, MaskedContexts]:
    assert labels.files is not None
    files = MaskedContexts(labels.files)
    return Labels(labels.policy_index, labels.ports, files), files  # type: ignore[arg-type]
