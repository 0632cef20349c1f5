"""Codes of the doctor's findings, each with its meaning and where that is documented."""

from __future__ import annotations

from sepolicyd.problems import ProblemCode


class DoctorCode(ProblemCode):
    """What spoils a rollout on this machine."""

    AUDITD = ("D-AUDITD", "Without auditd the kernel's messages reach no audit log.", "auditd(8)")
    AUDITOFF = ("D-AUDITOFF", "Auditing is off in the kernel, so that denials are not logged in full.", "auditctl(8), -e")
    BACKLOG = (
        "D-BACKLOG",
        "The queue between kernel and auditd is filling; when it is full, events are lost.",
        "auditctl(8), -b",
    )
    BOOTDIFF = (
        "D-BOOTDIFF",
        "The policy file of the next boot is not the one that the store built; the next semodule replaces it.",
        "semodule(8), -B",
    )
    BOOTPOLICY = (
        "D-BOOTPOLICY",
        "A type is permissive in the kernel or at the next boot, and not in the store: an interrupted semodule or a restore.",
        "semodule(8), -B",
    )
    CONFIG = (
        "D-CONFIG",
        "The configured mode differs from the running one: what the kernel enforces now does not survive a reboot.",
        "selinux_config(5)",
    )
    DAEMON = (
        "D-DAEMON",
        "Nothing collects evidence. The audit log keeps the denials until it is rotated away.",
        "systemd/sepolicyd.service",
    )
    DISABLED = ("D-DISABLED", "The kernel runs without SELinux: nothing is denied, nothing can be enforced.", "selinux(8)")
    DISK = ("D-DISK", "semodule builds the next store beside the present one, so it needs free space.", "semodule(8)")
    DOMAIN = (
        "D-DOMAIN",
        "The service's own types are not in the loaded policy, so it runs in another domain.",
        "sepolicyd init",
    )
    DONTAUDIT = ("D-DONTAUDIT", "dontaudit rules stay switched off in the store until it is rebuilt.", "semodule(8), -D")
    EXPAND = ("D-EXPAND", "libsemanage skips neverallow and hierarchy checks when it links.", "semanage.conf(5), expand-check")
    FOREIGN = (
        "D-FOREIGN",
        "A type is permissive without a lease: no deadline ends that, and it survives reboots.",
        "semanage-permissive(8)",
    )
    JOURNAL = (
        "D-JOURNAL",
        "A command was interrupted; the next one completes or undoes what it had begun.",
        "sepolicyd/rollout/apply/journal.py",
    )
    LABEL = (
        "D-LABEL",
        "Files without a label count as unlabeled_t, and rules learnt from them match nothing else.",
        "restorecon(8)",
    )
    LOCK = ("D-LOCK", "Only one program may change the policy store at a time.", "semanage.trans.LOCK")
    LOG = ("D-LOG", "The configured audit log is not there.", "auditd.conf(5), log_file")
    LOGGROUP = (
        "D-LOGGROUP",
        "The daemon is not root; it reads the log as a member of auditd's log_group.",
        "auditd.conf(5), log_group",
    )
    LOST = ("D-LOST", "The kernel dropped events, so an access that is needed may never have been logged.", "auditctl(8), -s")
    NEVERAUDIT = (
        "D-NEVERAUDIT",
        "A neveraudit type logs nothing, not even while it is permissive (policy version 35).",
        "kernel, ss/policydb.c",
    )
    OVERDUE = (
        "D-OVERDUE",
        "A lease is past its deadline. Ending it is tried again each minute; the journal says why it fails.",
        "sepolicyd/rollout/lease/end.py",
    )
    PERMISSIVE = ("D-PERMISSIVE", "The whole machine is permissive, without a deadline.", "setenforce(8)")
    PYTHON = ("D-PYTHON", "Python 3.9 is the oldest that this runs on.", "README")
    RATE = ("D-RATE", "The kernel drops audit events above this rate.", "auditctl(8), -r")
    SECUREMODE = (
        "D-SECUREMODE",
        "secure_mode_policyload forbids even root to load a policy, switch enforcing or set booleans until the next boot.",
        "refpolicy, kernel/selinux.te",
    )
    SERVICE = (
        "D-SERVICE",
        "The service's process is not confined: nothing is denied to it.",
        "systemd.exec(5), SELinuxContext=",
    )
    SETOOLS = (
        "D-SETOOLS",
        "The policy is read with the distribution's setools; the package of that name on the Python index is another one.",
        "README",
    )
    STATE = ("D-STATE", "The units that end leases look at the default directory only.", "systemd/sepolicyd-lease.service")
    STORE = ("D-STORE", "There is no module store to put a module into.", "semodule(8)")
    TASK = (
        "D-TASK",
        "Processes under this rule have no audit context: their denials have no path and no program.",
        "auditctl(8)",
    )
    TIMER = (
        "D-TIMER",
        "The units that end leases without a running sepolicyd are not in place, so no lease is opened.",
        "systemd/",
    )
    TOOL = ("D-TOOL", "A program that the rollout runs is not installed.", "README")
    TRIAL = (
        "D-TRIAL",
        "A module on trial was not confirmed, and could not be taken back without a person.",
        "sepolicyd/rollout/apply/end_trial.py",
    )
    UNASKED = (
        "D-UNASKED",
        "Something could not be examined, so nothing is reported about it.",
        "sepolicyd/rollout/doctor/gather.py",
    )
    UNCONFINED = (
        "D-UNCONFINED",
        "The policy allows this domain everything: there is nothing to learn.",
        "refpolicy, unconfined.if",
    )
    UNDO = (
        "D-UNDO",
        "A lease record is damaged, so every lease module is removed and the machine enforces.",
        "sepolicyd/rollout/lease/end.py",
    )
    USER = ("D-USER", "The daemon has no user of its own yet.", "sysusers.d(5)")
