"""Build and link the planned module in a copy of the store, for plan and proof."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from sepolicyd.access import Access
from sepolicyd.errors import ToolError
from sepolicyd.module.build import build
from sepolicyd.module.source import Rule, SourceText, render
from sepolicyd.module.store import Store, policy_is_mls
from sepolicyd.module.transaction import Before, commit
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.rollout.apply.desired import DesiredPolicy
from sepolicyd.rollout.apply.installed import (
    install,
    target_booleans,
    target_ports,
)
from sepolicyd.rollout.apply.versions import Version, Versions, sha256
from sepolicyd.settings import Settings


@dataclass(frozen=True)
class Linked:
    source: SourceText
    package: bytes
    start: PolicyIndex
    policy: PolicyIndex
    left_out: Mapping[Access, str]


class LinkBench:
    """The copy of the store on which a plan is tried."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        versions: Versions,
        previous: Version,
        asked: DesiredPolicy,
        place: Path,
        say: OnStep,
    ) -> None:
        self.settings, self.versions, self.previous, self.asked, self.place, self.say = (
            settings, versions, previous, asked, place, say,
        )  # fmt: skip
        say("copy the store")
        self.store_policy = sha256(store.policy().read_bytes())
        self.mls = policy_is_mls(store.policy())
        self.copy = store.copy(place / "copy")
        ports, booleans = target_ports(previous, asked.ports), target_booleans(previous, asked.booleans)
        self.local = Before()
        if ports or booleans:
            self.local = commit(store.root, store.kind, priority=settings.priority, ports=ports, booleans=booleans, dry=True)
        self.ports = [port for port in ports if port not in self.local.ports]
        self.booleans = [one for one in booleans if one not in self.local.booleans]

    def link(self, fresh: Mapping[str, bytes], before: Future[PolicyIndex]) -> Linked:
        """
        :param before: the present policy, being read in a thread while semodule works: the two together cost what one does
        """
        start: Optional[PolicyIndex] = None
        if fresh:
            self.say("link the base module")
            install(self.copy, fresh, self.settings.priority, self.place)
            start = PolicyIndex.load(self.copy.policy())
        rules, failure = self.asked.rules, None
        made: Optional[tuple[SourceText, bytes]] = None
        try:
            made = self._try(rules)
        except ToolError as error:
            failure = error
        start = start or before.result()
        left_out = {rule.access: reason for rule in rules for reason in [_unknown(rule.access, start)] if reason}
        if left_out:  # semodule refuses the whole module for one unknown name; the rest must go on
            made = self._try(tuple(rule for rule in rules if rule.access not in left_out))
        elif failure is not None or made is None:
            raise failure or ToolError("nothing was linked")
        source, package = made
        left_out.update({item.access: item.reason for item in source.refused})
        self.say("compare")
        return Linked(source, package, start, PolicyIndex.load(self.copy.policy()), left_out)

    def _try(self, rules: tuple[Rule, ...]) -> tuple[SourceText, bytes]:
        asked, name = self.asked, self.versions.name
        source = render(name, self.versions.next(), rules, asked.contexts, asked.transitions, mls=self.mls)
        self.say("compile")
        package = build(source, self.place, mls=self.mls).read_bytes()
        self.say("link in a copy of the store")
        install(self.copy, {name: package}, self.settings.priority, self.place, ports=self.ports, booleans=self.booleans)
        return source, package


def _unknown(access: Access, policy: PolicyIndex) -> str:
    missing = policy.missing_names(access)
    return f"the policy has no {' and no '.join(missing)}" if missing else ""


OnStep = Callable[[str], None]
