"""Run audit2why on a policy in a separate process, since its state is global."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

WORKER = """
import json, sys
import selinux.audit2why as a2w
a2w.init(sys.argv[1])
names = {value: name for name, value in vars(a2w).items() if name.isupper() and isinstance(value, int)}
said = []
for scontext, tcontext, tclass, permission in json.load(sys.stdin):
    try:
        said.append(names.get(a2w.analyze(scontext, tcontext, tclass, [permission])[0], "?"))
    except (RuntimeError, TypeError, ValueError) as error:
        said.append(f"! {error}")
print(json.dumps(said))
"""
Asked = tuple[str, str, str, str]


def audit2why(policy: Path, questions: Sequence[Asked]) -> dict[Asked, str]:
    """ALLOW, TERULE, BOOLEAN, CONSTRAINT, RBAC, BOUNDS, DONTAUDIT, BADSCON and so on, or "! ..." where it fails."""
    argv = ["/usr/bin/python3", "-c", WORKER, str(policy)]
    done = subprocess.run(argv, input=json.dumps(list(questions)), capture_output=True, text=True, check=True)
    return dict(zip(questions, json.loads(done.stdout)))


SWITCHED = """
import json, sys
import setools
policy, name = setools.SELinuxPolicy(sys.argv[1]), sys.argv[2]
states = {str(one): one.state for one in policy.bools()}
states[name] = not states[name]
query = setools.TERuleQuery(policy, ruletype=["allow"], boolean=[name])
found = set()
for rule in query.results():
    mine = {str(one): states[str(one)] for one in rule.conditional.booleans}
    if rule.conditional.evaluate(**mine) != rule.conditional_block:
        continue
    for one in rule.expand():
        for permission in one.perms:
            found.add((str(one.source), str(one.target), str(one.tclass), str(permission)))
print(json.dumps(sorted(found)))
"""


def under_boolean(policy: Path, name: str) -> list[Asked]:
    """Every (source, target, class, permission) of the allow rules that hold with a boolean the other way round, by setools."""
    done = subprocess.run(["/usr/bin/python3", "-c", SWITCHED, str(policy), name], capture_output=True, text=True, check=True)
    return [tuple(row) for row in json.loads(done.stdout)]
