"""Summarize a candidate in one sentence."""

from __future__ import annotations

from sepolicyd.rules.fixes.candidate_facts import Question

VERBS = {
    "name_bind": "bind the port",
    "name_connect": "connect to the port",
    "send_msg": "send a D-Bus message to",
    "connectto": "connect to",
    "execute_no_trans": "execute in its own domain",
    "entrypoint": "be entered through",
    "transition": "start a process as",
    "dyntransition": "become",
    "execmem": "execute writable memory",
    "add_name": "add entries",
    "remove_name": "remove entries",
    "nlmsg_read": "ask",
}
OBJECTS = {
    "file": "file", "dir": "directory", "lnk_file": "link", "sock_file": "socket", "fifo_file": "pipe", "chr_file": "device",
    "blk_file": "disk", "process": "process", "capability": "capability", "capability2": "capability",
    "tcp_socket": "TCP socket", "udp_socket": "UDP socket", "dbus": "D-Bus peer", "fd": "descriptor",
    "filesystem": "file system",
}  # fmt: skip
MAX_PERMISSIONS = 5


def sentence(question: Question) -> str:
    """Return a sentence such as "The hub (jupyterhub) asked to read /etc/shadow, a file labelled shadow_t; it was denied."."""
    seen = question.seen
    who = " and the ".join(seen.roles) or question.source
    comms = ", ".join(seen.comms[:3])
    return f"The {who}{f' ({comms})' if comms else ''} asked to {_what(question)}; {_outcome(question)}."


def _what(question: Question) -> str:
    permissions = sorted(question.permissions)
    shown = ", ".join(VERBS.get(name, name.replace("_", " ")) for name in permissions[:MAX_PERMISSIONS])
    if len(permissions) > MAX_PERMISSIONS:
        shown += f" and {len(permissions) - MAX_PERMISSIONS} more"
    kind = OBJECTS.get(question.tclass, question.tclass)
    if question.tclass.startswith("cap"):
        return f"use the {'capabilities' if len(permissions) > 1 else 'capability'} {', '.join(permissions)}"
    if question.candidate.target == "self":
        return f"{shown} (its own {kind})"
    if question.numbers:
        numbers = ", ".join(map(str, question.numbers[:4])) + (", ..." if len(question.numbers) > 4 else "")
        return f"{shown} {numbers}, labelled {question.target}"
    places = question.seen.paths or question.seen.names
    if places:
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        return f"{shown} {places[0]}{more}, a {kind} labelled {question.target}"
    return f"{shown} a {kind} labelled {question.target}"


def _outcome(question: Question) -> str:
    seen = question.seen
    if not seen.enforced:
        return "it was allowed only because of permissive mode"
    return "it was denied" if seen.enforced == seen.count else "it was denied, and allowed only in permissive mode"
