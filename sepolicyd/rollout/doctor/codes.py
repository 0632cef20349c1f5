"""Codes of the problems that `doctor` reports, each with its meaning and a reference."""

from __future__ import annotations

from sepolicyd.problems import ProblemCode


class DoctorCode(ProblemCode):
    """A condition of this machine that impairs a rollout."""

    AUDITD = ("D-AUDITD", "Without auditd, denials are not written to the audit log.", "auditd(8)")
    AUDITOFF = ("D-AUDITOFF", "Auditing is off in the kernel, so denials are logged incompletely.", "auditctl(8), -e")
    BACKLOG = (
        "D-BACKLOG",
        "The queue between kernel and auditd is filling up; when it is full, events are lost.",
        "auditctl(8), -b",
    )
    BOOTDIFF = (
        "D-BOOTDIFF",
        "The boot policy is not the one that the store built; the next semodule run replaces it.",
        "semodule(8), -B",
    )
    BOOTPOLICY = (
        "D-BOOTPOLICY",
        "A type is permissive in the kernel or the boot policy, but not in the store (interrupted semodule, or a restore).",
        "semodule(8), -B",
    )
    CONFIG = (
        "D-CONFIG",
        "The configured mode is not enforcing, so the machine will not enforce after a reboot.",
        "selinux_config(5)",
    )
    DAEMON = (
        "D-DAEMON",
        "The daemon does not collect evidence. Denials stay in the audit log until rotation deletes them.",
        "systemd/sepolicyd.service",
    )
    DISABLED = (
        "D-DISABLED",
        "The kernel runs without SELinux: no access is denied, and no policy can be enforced.",
        "selinux(8)",
    )
    DISK = ("D-DISK", "semodule builds a new store next to the present one, so it needs free space.", "semodule(8)")
    DOMAIN = (
        "D-DOMAIN",
        "The service's own types are missing from the loaded policy, so it runs in another domain.",
        "sepolicyd init",
    )
    DONTAUDIT = ("D-DONTAUDIT", "dontaudit rules stay switched off in the store until it is rebuilt.", "semodule(8), -D")
    EXPAND = ("D-EXPAND", "libsemanage skips neverallow and hierarchy checks when it links.", "semanage.conf(5), expand-check")
    FOREIGN = (
        "D-FOREIGN",
        "A type is permissive without a lease: there is no deadline, and it stays permissive after a reboot.",
        "semanage-permissive(8)",
    )
    JOURNAL = (
        "D-JOURNAL",
        "A command was interrupted; the next command completes it or rolls it back.",
        "sepolicyd/rollout/apply/journal.py",
    )
    LABEL = (
        "D-LABEL",
        "Files without a label count as unlabeled_t, so rules learned from them do not apply to labelled files.",
        "restorecon(8)",
    )
    LOCK = ("D-LOCK", "Only one program may change the policy store at a time.", "semanage.trans.LOCK")
    LOG = ("D-LOG", "The configured audit log does not exist.", "auditd.conf(5), log_file")
    LOGGROUP = (
        "D-LOGGROUP",
        "The daemon does not run as root; it reads the log as a member of auditd's log_group.",
        "auditd.conf(5), log_group",
    )
    LOST = ("D-LOST", "The kernel dropped events, so a denial may be missing from the log.", "auditctl(8), -s")
    NEVERAUDIT = (
        "D-NEVERAUDIT",
        "A neveraudit type logs nothing, even while it is permissive (policy version 35).",
        "kernel, ss/policydb.c",
    )
    OVERDUE = (
        "D-OVERDUE",
        "A lease is past its deadline. Ending it is retried each minute; the journal holds the reason of the failure.",
        "sepolicyd/rollout/lease/end.py",
    )
    PERMISSIVE = ("D-PERMISSIVE", "The whole machine is permissive, without a deadline.", "setenforce(8)")
    PYTHON = ("D-PYTHON", "sepolicyd needs Python 3.9 or later.", "README")
    RATE = ("D-RATE", "The kernel drops audit events above this rate.", "auditctl(8), -r")
    SECUREMODE = (
        "D-SECUREMODE",
        "With secure_mode_policyload on, even root cannot load a policy, change the mode or set booleans until a reboot.",
        "refpolicy, kernel/selinux.te",
    )
    SERVICE = (
        "D-SERVICE",
        "The service's process runs in an unconfined domain, so none of its accesses is denied.",
        "systemd.exec(5), SELinuxContext=",
    )
    SETOOLS = (
        "D-SETOOLS",
        "The policy is read with the distribution's setools; the package of that name on PyPI is unrelated.",
        "README",
    )
    STATE = (
        "D-STATE",
        "The units that end leases examine the default state directory only.",
        "systemd/sepolicyd-lease.service",
    )
    STORE = ("D-STORE", "Without a module store, no module can be installed.", "semodule(8)")
    TASK = (
        "D-TASK",
        "Processes started under this rule have no audit context, so their denials lack path and program.",
        "auditctl(8)",
    )
    TIMER = (
        "D-TIMER",
        "The units that end leases without a running sepolicyd are missing, so no lease can be opened.",
        "systemd/",
    )
    TOOL = ("D-TOOL", "A program that the rollout runs is not installed.", "README")
    TRIAL = (
        "D-TRIAL",
        "A module on trial was not confirmed, and could not be rolled back automatically.",
        "sepolicyd/rollout/apply/end_trial.py",
    )
    UNASKED = (
        "D-UNASKED",
        "A fact could not be examined, so the checks that need it were skipped.",
        "sepolicyd/rollout/doctor/gather.py",
    )
    UNCONFINED = (
        "D-UNCONFINED",
        "The domain is unconfined, so there is nothing to learn.",
        "refpolicy, unconfined.if",
    )
    UNDO = (
        "D-UNDO",
        "A lease record is damaged, so every lease module is removed and the machine enforces.",
        "sepolicyd/rollout/lease/end.py",
    )
    USER = ("D-USER", "The daemon's user does not exist yet.", "sysusers.d(5)")
