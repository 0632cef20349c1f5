"""The codes of doctor's findings (D-) and of tainted evidence (T-), each with what it means and where that is from."""

from __future__ import annotations

CODES: dict[str, tuple[str, str]] = {
    "D-AUDITD": ("Without auditd the kernel's messages reach no audit log.", "auditd(8)"),
    "D-AUDITOFF": ("Auditing is off in the kernel, so that denials are not logged in full.", "auditctl(8), -e"),
    "D-BACKLOG": ("The queue between kernel and auditd is filling; when it is full, events are lost.", "auditctl(8), -b"),
    "D-CONFIG": ("What the kernel enforces now does not survive a reboot.", "selinux_config(5)"),
    "D-DAEMON": ("Nothing collects evidence; the log keeps it until it is rotated away.", "systemd/sepolicyd.service"),
    "D-DISABLED": ("The kernel runs without SELinux: no denials, nothing to enforce.", "selinux(8)"),
    "D-DISK": (
        "semodule builds the next store beside the present one, so it needs room.",
        "semodule(8)",
    ),
    "D-DOMAIN": (
        "The service's own types are not in the loaded policy: it runs in another domain.",
        "sepolicyd init",
    ),
    "D-DONTAUDIT": ("dontaudit rules stay switched off in the store until it is rebuilt.", "semodule(8), -D"),
    "D-EXPAND": ("libsemanage skips neverallow and hierarchy checks when it links.", "semanage.conf(5), expand-check"),
    "D-FOREIGN": (
        "A domain is permissive by another hand, without an end, over reboots too.",
        "semanage-permissive(8)",
    ),
    "D-JOURNAL": ("A command died in the middle; the next one finishes or undoes what it had begun.", "rollout/journal.py"),
    "D-LABEL": ("Files without a label count as unlabeled_t, and rules learnt from them fit nothing else.", "restorecon(8)"),
    "D-LOCK": ("Only one program may change the policy store at a time.", "semanage.trans.LOCK"),
    "D-LOG": ("The configured audit log is not there.", "auditd.conf(5), log_file"),
    "D-LOGGROUP": ("The daemon is not root; it reads the log as a member of auditd's log_group.", "auditd.conf(5), log_group"),
    "D-LOST": ("The kernel dropped events, so that an access that is needed may never have been logged.", "auditctl(8), -s"),
    "D-NEVERAUDIT": ("A neveraudit type that is permissive logs nothing at all (policy version 35).", "kernel, ss/policydb.c"),
    "D-OVERDUE": (
        "A lease is past its deadline; each minute it is tried again, the journal says why it fails.",
        "rollout/endlease.py",
    ),
    "D-PERMISSIVE": ("The whole machine is permissive, without a deadline.", "setenforce(8)"),
    "D-PYTHON": ("Python 3.9 is the oldest that this runs on.", "README"),
    "D-RATE": ("The kernel drops audit events above this rate.", "auditctl(8), -r"),
    "D-SECUREMODE": (
        "secure_mode_policyload forbids loading a policy, setenforce and booleans until the next boot, to root too.",
        "refpolicy, kernel/selinux.te",
    ),
    "D-SERVICE": (
        "The service's process is not confined: nothing is denied to it.",
        "systemd.exec(5), SELinuxContext=",
    ),
    "D-SETOOLS": (
        "The policy is read with the distribution's setools; the Python index has another of that name.",
        "README",
    ),
    "D-STATE": ("The units that end leases look at the default directory only.", "systemd/sepolicyd-lease.service"),
    "D-STORE": ("There is no module store to put a module into.", "semodule(8)"),
    "D-TASK": (
        "Processes under this rule have no audit context: denials come without path and program.",
        "auditctl(8)",
    ),
    "D-TIMER": ("What ends a lease without us is not in place, so that none is opened.", "systemd/"),
    "D-TOOL": ("A program that the rollout runs is not installed.", "README"),
    "D-TRIAL": (
        "A module that nobody confirmed is loaded still, and something that only a person can mend keeps it there.",
        "rollout/endtrial.py",
    ),
    "D-UNASKED": ("Something could not be looked at, so that nothing is said about it.", "rollout/doctor_facts.py"),
    "D-UNCONFINED": (
        "The policy lets this domain do everything: there is nothing to learn.",
        "refpolicy, unconfined.if",
    ),
    "D-UNDO": (
        "An undo file is damaged, so every lease module is removed and the machine enforces.",
        "rollout/endlease.py",
    ),
    "D-USER": ("The daemon has no user of its own yet.", "sysusers.d(5)"),
    "T-CLAIM": ("The only witness of this access is the confined service itself.", "kernel, AUDIT_USER_AVC"),
    "T-GLOBAL": (
        "While the whole machine is permissive, others do what they normally cannot.",
        "setenforce(8)",
    ),
    "T-LOST": ("Events were lost or limited while this was learnt; repeat the exercise.", "auditctl(8), -s"),
    "T-POLICY": ("Another policy was loaded while this was learnt.", "MAC_POLICY_LOAD"),
    "T-SWITCH": ("Enforcing was switched while this was learnt.", "MAC_STATUS"),
}
