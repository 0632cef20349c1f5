"""Run audit2allow, audit2allow -R and audit2why on the rows through their library (sepolgen), in a separate process."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sepolicyd.access import Access
from tools.fixbench.answers import Answer, Proposal
from tools.fixbench.ours import Judge
from tools.fixbench.rows import Row

NAMES = ("audit2allow", "audit2allow -R", "audit2why")
WORKER = r"""
import io, json, sys
import selinux.audit2why as audit2why
from sepolgen import audit, interfaces, objectmodel, policygen, refpolicy, defaults
policy, info = sys.argv[1:]
audit2why.init(policy)
ifs, perm_maps = interfaces.InterfaceSet(), objectmodel.PermMappings()
ifs.from_file(open(info)); perm_maps.from_file(open(defaults.perm_map()))
names = {value: name for name, value in vars(audit2why).items() if name.isupper() and isinstance(value, int)}
def generate(avs, reference):
    made = policygen.PolicyGenerator()
    if reference:
        made.set_gen_refpol(ifs, perm_maps)
    made.add_access(avs)
    return made.get_module()
found = {}
for identity, log in json.load(sys.stdin):
    try:
        parser = audit.AuditParser(); parser.parse_string(log)
        avs = parser.to_access()
        why = [[m.scontext.type, m.tcontext.type, m.tclass, list(m.accesses), names.get(m.type, "?"),
                [list(map(str, one)) if isinstance(one, (list, tuple)) else str(one) for one in (m.data or [])]]
               for m in parser.avc_msgs if m.denial]
        plain = [[r.src_types and sorted(r.src_types)[0], sorted(r.tgt_types)[0], sorted(r.obj_classes)[0], sorted(r.perms)]
                 for r in generate(avs, False).avrules()]
        module = generate(avs, True)
        rules = [[sorted(r.src_types)[0], sorted(r.tgt_types)[0], sorted(r.obj_classes)[0], sorted(r.perms)]
                 for r in module.avrules()]
        calls = [[c.ifname, [str(a) for a in c.args]] for c in module.interface_calls()]
        found[identity] = {"why": why, "plain": plain, "rules": rules, "calls": calls}
    except Exception as error:
        found[identity] = {"error": repr(error)}
json.dump(found, sys.stdout)
"""


def run(judge: Judge, policy: Path, include: Path, rows: Sequence[Row], cache: Path) -> dict[str, dict[str, Answer]]:
    """Tool -> row id -> answer."""
    raw = _raw(policy, include, rows, cache)
    found: dict[str, dict[str, Answer]] = {name: {} for name in NAMES}
    for row in rows:
        said = raw.get(row.id, {})
        if "error" in said:
            said = {}
        judged = frozenset(access for group in said.get("plain", ()) for access in _accesses(group))
        found["audit2allow"][row.id] = Answer(_plain(said), warns=False, judged=judged)
        found["audit2allow -R"][row.id] = Answer(_reference(judge, said), warns=False, judged=judged)
        found["audit2why"][row.id] = Answer(_why(said), warns=False, judged=judged)
    return found


def _plain(said: dict[str, Any]) -> tuple[tuple[Proposal, ...], ...]:
    """Return a rule per group; a boolean that a comment names comes first, because the comment says that it allows it."""
    booleans = {(one[0], one[1], one[2]) for one in said.get("why", ()) if one[4] == "BOOLEAN"}
    questions = []
    for group in said.get("plain", ()):
        opens = frozenset(_accesses(group))
        target = group[0] if group[1] == "self" else group[1]
        first = [Proposal("boolean", opens)] if (group[0], target, group[2]) in booleans else []
        questions.append((*first, Proposal("give", opens)))
    return tuple(questions)


def _reference(judge: Judge, said: dict[str, Any]) -> tuple[tuple[Proposal, ...], ...]:
    questions = [(Proposal("give", frozenset(_accesses(group))),) for group in said.get("rules", ())]
    for name, arguments in said.get("calls", ()):
        opens = judge.interface_opens(name, arguments[0]) if arguments else None
        kind = (
            "dontaudit" if "_dontaudit_" in name else "transition" if "_domtrans" in name or name.endswith("_run") else "give"
        )
        questions.append((Proposal(kind, opens or frozenset(), name),))
    return tuple(questions)


def _why(said: dict[str, Any]) -> tuple[tuple[Proposal, ...], ...]:
    """audit2why names causes: a missing rule, a boolean, a constraint. It opens nothing."""
    words = {"TERULE": "give", "BOOLEAN": "boolean", "ALLOW": "give"}
    return tuple((Proposal(words.get(one[4], one[4].lower())),) for one in said.get("why", ()))


def _accesses(group: Sequence[Any]) -> list[Access]:
    source, target, tclass, permissions = group
    return [Access.of(source, source if target == "self" else target, tclass, permission) for permission in permissions]


def _raw(policy: Path, include: Path, rows: Sequence[Row], cache: Path) -> dict[str, Any]:
    key = hashlib.sha256(f"{policy} {policy.stat().st_size} {WORKER} {[row.id for row in rows]}".encode()).hexdigest()[:16]
    kept = cache / f"baselines-{key}.json"
    if not kept.is_file():
        info = _interface_info(policy, include, cache)
        argv = ["/usr/bin/python3", "-W", "ignore", "-c", WORKER, str(policy), str(info)]
        questions = json.dumps([(row.id, row.log) for row in rows])
        done = subprocess.run(argv, input=questions, capture_output=True, text=True, check=True)
        kept.write_text(done.stdout)
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def _interface_info(policy: Path, include: Path, cache: Path) -> Path:
    key = hashlib.sha256(f"{policy} {include} {policy.stat().st_size}".encode()).hexdigest()[:16]
    info = cache / f"interface-info-{key}"
    if not info.is_file():
        argv = ["sepolgen-ifgen", "-p", str(policy), "-i", str(include), "-o", str(info)]
        subprocess.run(argv, capture_output=True, text=True, check=True)
    return info
