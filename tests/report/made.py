"""Handmade reports, with harmless text or with every text replaced by a hostile one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sepolicyd.access import Access
from sepolicyd.report.model import (
    Change,
    DomainReach,
    Edge,
    Grant,
    GrantState,
    LeaseRecord,
    ObjectKind,
    Pending,
    Report,
)
from sepolicyd.rollout.learning.chao2 import chao2
from sepolicyd.rollout.learning.readiness import CurvePoint, Readiness
from sepolicyd.rollout.stage import Rollout, StageReport
from sepolicyd.state.decisions import AnswerKind, Decision

NOW = 1.79e9
Text = Callable[[str], str]


def made(text: Text = lambda word: word, **changes: Any) -> Report:
    """A report with something in every section; each text goes through ``text``."""
    t = text
    answer = Decision(AnswerKind.ALLOW, (Access("a_t", "b_t", "file", "read"),), t("ada"), NOW - 5e4, t("needed"), id=3)
    grant = Grant(t("svc_t"), t("data_t"), t("file"), (t("open"), t("read")), answer, "", GrantState.LOADED, 1)
    waiting = Grant(t("svc_t"), t("log_t"), t("file"), (t("append"),), answer, t("file label"), GrantState.WAITING)
    withdrawn = Grant(t("svc_t"), t("tmp_t"), t("dir"), (t("search"),), None, "", GrantState.WITHDRAWN, 2)
    gained = (Access(t("svc_t"), t("data_t"), t("file"), t("read")), Access(t("svc_t"), "self", "process", "execmem"))
    lease = LeaseRecord(
        t("id1"), (t("svc_t"),), False, True, t("ada"), t("first look"), NOW - 9e4, NOW - 8.2e4, NOW - 8.5e4, t("deadline"),
        1, 2, ((t("log in"), NOW - 8.9e4), (t("stop"), NOW - 8.7e4)),
    )  # fmt: skip
    running = LeaseRecord(t("id2"), (), True, False, t("bob"), "", NOW - 600, NOW + 600, None, "")
    kinds = dict.fromkeys(ObjectKind, 10)
    edges = (
        Edge(t("data_t"), (ObjectKind.FILES,), 2, False, t("file { open read }")),
        Edge(t("self"), (ObjectKind.PROCESSES,), 1, True, t("process execmem")),
    )
    rules = ((ObjectKind.FILES, (t("etc_t:file { read }"), t("lib_t:dir { search }"))),)
    values: dict[str, Any] = {
        "service": t("svc"), "description": t("a service"), "made": NOW, "host": t("hub1"), "sepolicyd": t("0.2.0"),
        "stage": StageReport(Rollout.LEARNING, t("a lease is open"), t("sepolicyd review")), "module": t("sepolicyd_svc"),
        "version": 2, "policy": t("/sys/fs/selinux/policy"), "policy_note": t("it has changed"),
        "grants": (grant, waiting, withdrawn), "refusals": (grant,), "silenced": (grant,),
        "pending": (Pending(t("svc_t"), t("x_t"), t("file"), (t("write"),), 3, NOW - 10),), "solved": 4,
        "changes": (Change("apply", t("ada"), NOW - 4e4, 2, 1, gained, gained, (t("port tcp 1"),), (t("note"),), t("ab12")),),
        "leases": (lease, running), "leases_note": t("only root can read it"),
        "reach": (DomainReach(t("svc_t"), kinds, {**kinds, ObjectKind.FILES: 12}, edges, rules),),
        "readiness": Readiness(
            chao2((1, 1, 2, 3, 3), 3),
            tuple(CurvePoint(t(name), 3, new) for name, new in (("log in", 3), ("stop", 1), ("end", 1))),
            (), (t("all done"),), (t("tainted"),),
        ),
        "seen": 5, "faults": (t("history.jsonl: line 1 was changed"),),
    }  # fmt: skip
    return Report(**{**values, **changes})


def large(rows: int, **changes: Any) -> Report:
    """A report of this many accesses, each of its own source, target and class."""
    answers = [
        Decision(AnswerKind.ALLOW, (), "somebody", NOW - number, f"reason {number} " + "long words " * 40, id=number)
        for number in range(rows)
    ]
    grants = tuple(
        Grant(f"domain{n % 3}_t", f"a_rather_long_type_name_{n}_t", "file", ("open", "read"), answer, "", GrantState.LOADED, 1)
        for n, answer in enumerate(answers)
    )
    gained = tuple(Access(one.source, one.target, "file", "read") for one in grants)
    edges = tuple(Edge(one.target, (ObjectKind.FILES,), 2, False, "file { open read }") for one in grants)
    kinds = dict.fromkeys(ObjectKind, rows)
    reach = tuple(DomainReach(f"domain{n}_t", kinds, kinds, edges[n::3], ()) for n in range(3))
    change = Change("apply", "ada", NOW, 1, 0, gained, (), (), ())
    return made(grants=grants, changes=(change,), reach=reach, version=1, **changes)
