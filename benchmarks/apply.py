"""Compare the time of an apply with a plain `semodule -i` of the same module, on copies of the distribution's store."""

from __future__ import annotations

import os
import shutil
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.figures import Figure
from sepolicyd.access import Access
from sepolicyd.module.store import Store, create_store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.profiles import Profile, Role
from sepolicyd.rollout.apply.execute import Order
from sepolicyd.rollout.apply.module_draft import drafted
from sepolicyd.rollout.apply.pipeline import apply
from sepolicyd.rules.guard.guard import Guard
from sepolicyd.settings import Settings, policy_dirs
from sepolicyd.state.decisions import AnswerKind, Decision

LIMIT = 2.5
ROUNDS = 3
# the size of a typical module: a domain of the distribution, and types that it cannot access yet
SOURCE = "sshd_t"
TARGETS = ("var_t", "usr_t", "lib_t", "var_log_t", "mnt_t", "var_spool_t", "tmp_t", "home_root_t", "src_t", "srv_t")
PERMISSIONS = ("getattr", "read", "open", "ioctl", "lock", "map", "write", "append", "create", "unlink")


def decisions(policy: PolicyIndex) -> dict[Access, Decision]:
    accesses = [Access.of(SOURCE, target, "file", permission) for target in TARGETS for permission in PERMISSIONS]
    wanted = tuple(access for access in accesses if not policy.missing_names(access) and not policy.allowed(access).allowed)
    return dict.fromkeys(wanted, Decision(AnswerKind.ALLOW, wanted, "bench", 1.7e9, "measured", id=1))


class _NoGuard(Guard):
    """The real guard without its refusals, since the benchmark uses a domain of the distribution."""

    def judge(self, *given: Any, **more: Any) -> Any:
        super().judge(*given, **more)
        return {}


def _processor() -> float:
    """Processor seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def measure(work: Path, rounds: int = ROUNDS) -> tuple[int, float, float, float]:
    """Return the number of rules, the median seconds of apply and semodule, and the median ratio. Runs alternate."""
    guard = _NoGuard(Guard.load(policy_dirs()).rules)
    bare, whole = [], []
    store = create_store(work / "store")
    decided = decisions(PolicyIndex.load(store.policy()))
    profile = Profile("bench", "", work, (), (Role("main", domains=(SOURCE,)),))
    for number in range(rounds):
        root = work / f"whole{number}"
        shutil.copytree(store.root, root, symlinks=True)
        settings = Settings(state=work / f"state{number}", root=root)
        began = _processor()
        with drafted(settings, profile, decided) as draft:
            apply(draft, settings, guard, Order("bench"))
        whole.append(_processor() - began)
        [package] = settings.rollout_dir.glob("versions/*/1/*.pp")
        root = work / f"bare{number}"
        shutil.copytree(store.root, root, symlinks=True)
        began = _processor()
        Store(root).install([package], settings.priority)
        bare.append(_processor() - began)
    ratios = statistics.median(one / other for one, other in zip(whole, bare))
    return len(decided), statistics.median(whole), statistics.median(bare), ratios


def figures(work: Path) -> list[Figure]:
    rules, ours, theirs, times = measure(work)
    return [
        Figure(
            f"loading {rules} rules, checked before and after",
            "sepolicyd apply",
            f"{ours:.1f} s",
            "semodule -i MODULE.pp",
            f"{theirs:.1f} s",
            f"{times:.2f}x as long",
            f"within {LIMIT}x",
        )
    ]


if __name__ == "__main__":
    with TemporaryDirectory(prefix="sepolicyd-bench-") as name:
        print(figures(Path(name))[0].row())
