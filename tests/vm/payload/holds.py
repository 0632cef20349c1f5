"""Print the allow rules of the loaded policy for queries on stdin: "source target class permissions" per line, "-" for any.

The policy is read once; sesearch would read it for each question. Answers: the question, a tab, the rule.
"""

import sys

import setools


def of_every_domain(rule):
    """Fedora's policy lets every domain map any file under a boolean that is off; without open there is nothing to map."""
    try:
        booleans = {str(boolean) for boolean in rule.conditional.booleans}
    except AttributeError:  # RuleNotConditional
        return False
    off = booleans == {"domain_can_mmap_files"} and not policy.lookup_boolean("domain_can_mmap_files").state
    return off and {str(permission) for permission in rule.perms} == {"map"}


policy = setools.SELinuxPolicy("/sys/fs/selinux/policy")
for line in sys.stdin:
    source, target, tclass, permissions = line.split()
    wanted = {"source": source, "tclass": [tclass], "ruletype": ["allow"]}
    if target != "-":
        wanted["target"] = target
    if permissions != "-":
        wanted["perms"] = permissions.split(",")
    for rule in setools.TERuleQuery(policy, **wanted).results():
        if of_every_domain(rule):
            continue
        print(line.strip(), rule, sep="\t")
