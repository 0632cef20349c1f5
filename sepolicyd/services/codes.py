"""Codes of what `init` finds about a service and its files, each with its meaning and where that is documented."""

from __future__ import annotations

from sepolicyd.problems import ProblemCode


class SetupCode(ProblemCode):
    """What stands against confining a service, or must be known before."""

    COMPUTED = (
        "I-computed",
        "A setting is computed when the service starts, so its value is not known here.",
        "the service's configuration",
    )
    CONFIG = (
        "I-config",
        "No configuration file was found, so the defaults of the service are assumed.",
        "the service's configuration",
    )
    HOME = (
        "I-home",
        "The service is installed where users' files lie, so its code would not be protected.",
        "refpolicy, userdom",
    )
    KEY = (
        "I-key",
        "A TLS key may serve other programs, which could not read it under the service's label.",
        "file_contexts(5)",
    )
    LINK = (
        "I-link",
        "A link below a relabelled path: its label would reach a file elsewhere.",
        "setxattr(2), restorecon(8)",
    )
    LABEL = (
        "I-label",
        "A path would not get the label that the plan gives it: a local file context wins.",
        "semanage-fcontext(8)",
    )
    MOUNT = ("I-mount", "The file system has no labels of its own: every file on it has the same type.", "mount(8), context=")
    NOPORT = ("I-noport", "The port that the service listens on could not be found.", "semanage-port(8)")
    OFF = ("I-off", "SELinux does not run on this machine, so nothing is enforced yet.", "selinux(8)")
    OUTPUT = (
        "I-output",
        "systemd may not open the type that the unit's log would get, so the log keeps its label.",
        "systemd.exec(5), StandardOutput=",
    )
    PATH = (
        "I-path",
        "A path has the label of another module.",
        "file_contexts(5)",
    )
    POLICY = ("I-policy", "A module of that name or of the service's types is in the store already.", "semodule(8)")
    PORT = ("I-port", "A port has a label that must not be taken over.", "semanage-port(8)")
    PYTHON = (
        "I-python",
        "The unit starts an interpreter, so no domain transition can follow the program's label.",
        "systemd.exec(5)",
    )
    RUNNING = (
        "I-running",
        "The service was started before its policy was loaded, and runs in its old domain.",
        "systemctl(1), restart",
    )
    SHARED = (
        "I-shared",
        "A path is shared with other programs, so it cannot have a label of the service's own.",
        "file_contexts(5)",
    )
    TAKEN = (
        "I-taken",
        "A port is taken over from a type that hardly any service uses, and given back on removal.",
        "semanage-port(8)",
    )
    TRUST = (
        "I-trust",
        "Another user than root can change a file that init obeys or relabels.",
        "path_resolution(7), restorecon(8)",
    )
    UNIT = (
        "I-unit",
        "No unit starts the service's program; from a shell it keeps that shell's domain.",
        "systemd.service(5)",
    )
    UNLABELLED = (
        "I-unlabelled",
        "The program of a running process does not have the label that starts its domain.",
        "restorecon(8)",
    )
    USER = (
        "I-user",
        "The service does not run as root, so it may need a helper to start users' processes.",
        "systemd.exec(5), User=",
    )
    WEB = ("I-web", "The port is one that web servers share, and keeps its label.", "semanage-port(8)")
    WRAPPER = (
        "I-wrapper",
        "The unit starts another program first; the transition depends on that program's domain.",
        "systemd.service(5)",
    )
