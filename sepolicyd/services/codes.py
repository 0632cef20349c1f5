"""Codes of the problems that `init` reports about a service, each with its meaning and a reference."""

from __future__ import annotations

from sepolicyd.problems import ProblemCode


class SetupCode(ProblemCode):
    """A problem that prevents or affects the confinement of a service."""

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
        "The service is installed in a directory of users' files, so its code would not be protected.",
        "refpolicy, userdom",
    )
    KEY = (
        "I-key",
        "Other programs may use the TLS key, and could not read it with the service's label.",
        "file_contexts(5)",
    )
    LINK = (
        "I-link",
        "A link in a relabelled tree would extend the label to a file elsewhere.",
        "setxattr(2), restorecon(8)",
    )
    LABEL = (
        "I-label",
        "A local file context takes precedence over the planned label of a path.",
        "semanage-fcontext(8)",
    )
    MOUNT = ("I-mount", "The file system has no labels of its own: every file on it has the same type.", "mount(8), context=")
    NOPORT = ("I-noport", "The port that the service listens on could not be found.", "semanage-port(8)")
    OFF = ("I-off", "SELinux does not run on this machine, so nothing is enforced yet.", "selinux(8)")
    OUTPUT = (
        "I-output",
        "systemd is not allowed to open the type planned for the unit's log, so the log keeps its label.",
        "systemd.exec(5), StandardOutput=",
    )
    PATH = (
        "I-path",
        "A path has the label of another module.",
        "file_contexts(5)",
    )
    POLICY = ("I-policy", "The store already contains a module of that name or with the service's types.", "semodule(8)")
    PORT = ("I-port", "A port has a label that must not be replaced.", "semanage-port(8)")
    PYTHON = (
        "I-python",
        "The unit starts an interpreter, so the program's label does not cause a domain transition.",
        "systemd.exec(5)",
    )
    RUNNING = (
        "I-running",
        "The service was started before its policy was loaded, and still runs in its old domain.",
        "systemctl(1), restart",
    )
    SANDBOX = (
        "I-sandbox",
        "systemd may not mount over the type that a path of the unit's sandbox would get, so the path keeps its label.",
        "systemd.exec(5), Sandboxing",
    )
    SHARED = (
        "I-shared",
        "A path is shared with other programs, so it cannot have a label of the service's own.",
        "file_contexts(5)",
    )
    TAKEN = (
        "I-taken",
        "A port is relabelled from a rarely used type; the old label is restored on removal.",
        "semanage-port(8)",
    )
    TRUST = (
        "I-trust",
        "A user other than root can change a file that `init` reads or relabels.",
        "path_resolution(7), restorecon(8)",
    )
    UNIT = (
        "I-unit",
        "No unit starts the service's program; started from a shell, it keeps the shell's domain.",
        "systemd.service(5)",
    )
    UNLABELLED = (
        "I-unlabelled",
        "The program file of a running process lacks the label that causes the domain transition.",
        "restorecon(8)",
    )
    USER = (
        "I-user",
        "The service does not run as root, so it may need a helper to start processes of users.",
        "systemd.exec(5), User=",
    )
    WEB = ("I-web", "The port is shared by web servers, and keeps its label.", "semanage-port(8)")
    WRAPPER = (
        "I-wrapper",
        "The unit starts a wrapper program first; the transition depends on the wrapper's domain.",
        "systemd.service(5)",
    )
