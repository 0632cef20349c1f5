"""Codes of what `init` finds that only a mosquitto broker has."""

from __future__ import annotations

from sepolicyd.problems import ProblemCode


class MosquittoCode(ProblemCode):
    """What stands against confining a broker, or must be known before."""

    ROOT = (
        "I-root",
        "The broker keeps root after its start, which the module does not expect.",
        "mosquitto.conf(5), user",
    )
    SOCKET = (
        "I-socket",
        "A listener is a Unix socket in a directory that others share, where its label depends on who creates it.",
        "mosquitto.conf(5), listener",
    )
    WRITTEN = (
        "I-written",
        "The broker writes a file among its configuration, which the module does not let it change.",
        "mosquitto.conf(5), plugin_opt_*",
    )
