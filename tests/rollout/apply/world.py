"""A policy store of a few lines, which the real semodule links in milliseconds, and decisions to apply."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from sepolicyd.access import Access
from sepolicyd.module.store import Store
from sepolicyd.profiles import Profile, Role
from sepolicyd.rollout.apply.execute import Applied, Order
from sepolicyd.rollout.apply.link_and_prove import Plan, plan
from sepolicyd.rollout.apply.module_draft import drafted
from sepolicyd.rollout.apply.pipeline import apply
from sepolicyd.rules.fixes.fix import FixKind
from sepolicyd.rules.guard.level import GuardLevel
from sepolicyd.rules.guard.rule import Finding
from sepolicyd.settings import Settings
from sepolicyd.state.decisions import AnswerKind, Decision
from sepolicyd.state.fix_codec import decode

BASE = Path(__file__).parent / "data" / "base.cil"
MODULE = "sepolicyd_svc"
READ = Access.of("svc_t", "svc_data_t", "file", "read")
OPEN = Access.of("svc_t", "svc_data_t", "file", "open")
WRITE = Access.of("svc_t", "svc_data_t", "file", "write")
EXECMEM = Access.of("svc_t", "svc_t", "process", "execmem")
PORT = Access.of("svc_t", "port_t", "tcp_socket", "name_bind")


class ShadowGuard:
    """Refuses what touches shadow_t, and nothing else."""

    def judge(self, accesses: Iterable[Access], profile: Any = None, policy: Any = None) -> dict[Access, list[Finding]]:
        bad = [access for access in accesses if access.target == "shadow_t"]
        return {access: [Finding("R-002", GuardLevel.REFUSE, f"{access}: credentials")] for access in bad}

    def judge_dontaudit(self, access: Access, profile: Any = None, policy: Any = None) -> list[Finding]:
        return [Finding("R-015", GuardLevel.REFUSE, "hides an attack")] if access.target == "shadow_t" else []

    def judge_joined(
        self, joined: Iterable[tuple[str, str]], exempted: Iterable[object] = (), profile: Any = None
    ) -> list[Finding]:
        found = [
            Finding("R-011", GuardLevel.REFUSE, f"{name} joins {attribute}")
            for name, attribute in joined
            if "can_read" in attribute
        ]
        return found + [Finding("R-020", GuardLevel.REFUSE, str(item)) for item in exempted]

    def judge_statement(self, text: str, profile: Any = None, policy: Any = None) -> list[Finding]:
        return [Finding("R-014", GuardLevel.REFUSE, text)] if text.startswith("permissive") else []


def make_store(root: Path) -> Store:
    """The base policy in a new store."""
    for name in ("etc/selinux/default/policy", "etc/selinux/default/contexts/files", "var/lib/selinux/default/active/modules"):
        (root / name).mkdir(parents=True)
    (root / "etc/selinux/config").write_text("SELINUX=enforcing\nSELINUXTYPE=default\n", encoding="ascii")
    (root / "etc/selinux/semanage.conf").write_text(
        "module-store = direct\nexpand-check=0\ndisable-genhomedircon=true\n", encoding="ascii"
    )
    store = Store(root)
    subprocess.run(["/usr/sbin/semodule", *store.argv("-X", "100", "-i", str(BASE))[1:]], check=True, capture_output=True)
    return store


@dataclass(frozen=True)
class World:
    """One store and one state directory."""

    settings: Settings
    store: Store
    profile: Profile

    def plan(self, decided: Mapping[Access, Decision], **more: Any) -> Plan:
        return plan(self.settings, self.profile, decided, ShadowGuard(), **more)

    def apply(
        self,
        decided: Mapping[Access, Decision],
        *,
        pending: Sequence[Access] = (),
        confirm_within: Optional[float] = None,
        on_step: Optional[Callable[[str], None]] = None,
    ) -> Applied:
        order = Order("alice", tuple(pending), confirm_within)
        with drafted(self.settings, self.profile, decided) as draft:
            return apply(draft, self.settings, ShadowGuard(), order, on_step=on_step)

    def load(self, made: Plan) -> Applied:
        """Apply a plan that was proved in a copy."""
        return apply(made, self.settings, ShadowGuard(), Order("alice"))

    def policy(self) -> bytes:
        return self.store.policy().read_bytes()

    def ours(self) -> list[str]:
        return [module.name for module in self.store.modules() if module.priority == self.settings.priority]

    def again(self, directory: Path) -> World:
        """A copy of it all, to be broken."""
        shutil.copytree(self.settings.root, directory / "root")
        if self.settings.state.exists():
            shutil.copytree(self.settings.state, directory / "state")
        return world(directory)


def world(directory: Path) -> World:
    """The store in ``directory``/root, made if it is not there."""
    root = directory / "root"
    store = Store(root) if root.exists() else make_store(root)
    settings = Settings(state=directory / "state", root=root, profile="svc")
    profile = Profile("svc", "a service", directory, (), (Role("main", domains=("svc_t",)),))
    return World(settings, store, profile)


def allow(
    *accesses: Access, number: int = 1, fix: str = "", detail: Optional[Mapping[str, Any]] = None
) -> dict[Access, Decision]:
    """Decisions that allow these, as DecisionStore.decided gives them; ``detail`` as it is stored."""
    kind = FixKind(fix) if fix else None
    decision = Decision(AnswerKind.ALLOW, accesses, "alice", 1.7e9, "needed", "cafe", kind, decode(detail or {}), id=number)
    return dict.fromkeys(accesses, decision)


def dontaudit(*accesses: Access, number: int = 9) -> dict[Access, Decision]:
    decision = Decision(AnswerKind.DONTAUDIT, accesses, "alice", 1.7e9, "noise", "beef", id=number)
    return dict.fromkeys(accesses, decision)
