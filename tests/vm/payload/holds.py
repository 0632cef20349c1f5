"""Print the allow rules of the loaded policy for queries on stdin: "source target class permissions" per line, "-" for any.

The policy is read once; sesearch would read it for each question. Answers: the question, a tab, the rule.
"""

import sys

import setools

policy = setools.SELinuxPolicy("/sys/fs/selinux/policy")
for line in sys.stdin:
    source, target, tclass, permissions = line.split()
    wanted = {"source": source, "tclass": [tclass], "ruletype": ["allow"]}
    if target != "-":
        wanted["target"] = target
    if permissions != "-":
        wanted["perms"] = permissions.split(",")
    for rule in setools.TERuleQuery(policy, **wanted).results():
        print(line.strip(), rule, sep="\t")
