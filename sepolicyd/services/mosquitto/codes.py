"""Codes of `init` for problems specific to mosquitto."""

from __future__ import annotations

from sepolicyd.problems import ProblemCode


class MosquittoCode(ProblemCode):
    """Obstacles and notes before a broker is confined."""

    ROOT = (
        "I-root",
        "The broker keeps root after its start, which the module does not expect.",
        "mosquitto.conf(5), user",
    )
    SOCKET = (
        "I-socket",
        "A listener is a Unix socket in a shared directory, so its label depends on the process that creates it.",
        "mosquitto.conf(5), listener",
    )
    WRITTEN = (
        "I-written",
        "The broker rewrites a file in its configuration directory, which the module does not allow.",
        "mosquitto.conf(5), plugin_opt_*",
    )
