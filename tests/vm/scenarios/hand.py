"""The counterpart of `paper`: the published procedure by hand, with grep, audit2allow -M, semodule and setenforce.

First as published, with the policy's dontaudit rules in place; then once more with `semodule -DB`, which the procedure does
not know. Whether the class works at the end of each is a figure here, not an assertion: the assertion is that the procedure
could be carried out.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress

from tests.vm import twin
from tests.vm.bench import Context, Scenario, unique
from tests.vm.errors import Failed
from tests.vm.scenarios.steps import configure
from tests.vm.twin import Administrator

# A domain to learn for: an unconfined service is denied next to nothing. One domain for everything, no rule at all.
DOMAIN_TE = """policy_module(handhub, 1.0)
type handhub_t;
type handhub_exec_t;
init_daemon_domain(handhub_t, handhub_exec_t)
type handhub_etc_t;
files_config_file(handhub_etc_t)
type handhub_var_lib_t;
files_type(handhub_var_lib_t)
"""
DOMAIN_FC = """/opt/jupyterhub/bin/jupyterhub -- gen_context(system_u:object_r:handhub_exec_t,s0)
/etc/jupyterhub(/.*)? gen_context(system_u:object_r:handhub_etc_t,s0)
/var/lib/jupyterhub(/.*)? gen_context(system_u:object_r:handhub_var_lib_t,s0)
"""
ALLOW = re.compile(r"^allow (\w+) (\w+):(\w+) (?:\{ ([^}]*)\}|(\w+));", re.M)
PATIENCE_S = 200.0


def opened(te: str) -> tuple[int, int]:
    """Allow rules and permissions in a module's text."""
    rules = [(match[3] or match[4]).split() for match in ALLOW.findall(te)]
    return len(rules), sum(len(permissions) for permissions in rules)


def learn(context: Context, admin: Administrator, name: str, mark: int, *students: str) -> tuple[int, int]:
    """setenforce 0, a lesson, audit2allow -M, semodule -i, setenforce 1; rules and permissions of the module."""
    admin.types("setenforce 0")
    open_since = time.monotonic()
    admin.types("systemctl restart jupyterhub")
    context.hub_up()
    context.lesson(*students)
    grep = f"{context.log_so_far()} | tail -n +{mark + 1} | grep denied | grep handhub_t"
    admin.types(f"cd /root && {grep} | audit2allow -M {name}", timeout=120)
    admin.types(f"cd /root && semodule -i {name}.pp")
    admin.types("setenforce 1")
    admin.account.open_seconds += time.monotonic() - open_since
    return opened(context.run(f"cat /root/{name}.te").out)


def under_enforcing(context: Context, admin: Administrator) -> tuple[bool, int]:
    """The class again, enforcing: does it work, and how many new denials."""
    context.mode("Enforcing")
    mark = context.mark()
    admin.types("systemctl restart jupyterhub")
    reports = []
    with suppress(Failed):  # a hub that does not come up is the figure looked for, too
        context.hub_up()
        reports = context.lesson("bob", must=False, patience=PATIENCE_S)
    context.run("systemctl stop jupyterhub", check=False)
    new = {access for access in unique(context.denied(mark)) if "handhub_t" in access[:2]}
    return bool(reports) and all(report.ok for report in reports), len(new)


def play(context: Context) -> None:
    context.mode("Enforcing")
    configure(context)
    before = twin.policy(context, "policy.before")
    admin = Administrator(context)
    context.machine.put("/root/handhub.te", DOMAIN_TE.encode())
    context.machine.put("/root/handhub.fc", DOMAIN_FC.encode())
    admin.types("cd /root && make -f /usr/share/selinux/devel/Makefile handhub.pp && semodule -i handhub.pp")
    admin.types("restorecon -RF /opt/jupyterhub/bin /etc/jupyterhub /var/lib/jupyterhub")
    mark = context.mark()
    rules, permissions = learn(context, admin, "jh-module", mark, "alice", "bob")
    works, new = under_enforcing(context, admin)
    context.note(f"by hand, as published: {rules} rules, {permissions} permissions, class works: {works}, new denials: {new}")
    rounds = 1
    if not works:
        rounds += 1
        again = context.mark()
        admin.types("semodule -DB")
        more_rules, more_permissions = learn(context, admin, "jh-module2", again, "alice")
        admin.types("semodule -B")
        works, new = under_enforcing(context, admin)
        context.note(
            f"by hand, once more with semodule -DB: {more_rules} more rules, {more_permissions} more permissions, "
            f"class works: {works}, new denials: {new}"
        )
        rules, permissions = rules + more_rules, permissions + more_permissions
    figures = context.figures
    figures.denials = len({access for access in unique(context.denied(mark)) if "handhub_t" in access[:2]})
    figures.rounds, figures.rules, figures.new_denials = rounds, rules, new
    account = admin.account
    account.rounds, account.rules, account.works, account.new_denials = rounds, rules, works, new
    twin.opens(account, before, twin.policy(context, "policy.after"), ["handhub_t"], "handhub_t")
    twin.keep(context, account)
    context.note(f"by hand: {permissions} permissions in {rules} rules, one domain for hub and students")


SCENARIO = Scenario(
    "hand", "slim", "the published procedure by hand: grep, audit2allow -M, semodule, setenforce", play, "booted"
)
