"""Texts that a user can cause in the log, as the kernel writes them: no reader takes them for another domain's access.

Each attack names the hub's domain somewhere; the student's own denial, where there is one, stays as it is.
"""

from __future__ import annotations

import pytest

from tests.audit.parse import kernel
from tests.audit.parse.kernel import avc, execve, record, syscall, systemd, untrusted, user_avc
from tests.audit.parse.reading import read_text
from tests.audit.parse.three_ways import attempts, every_way, in_pieces, rows, rows_by_records, whole

CONTEXTS = b"scontext=system_u:system_r:jupyterhub_t:s0 tcontext=system_u:object_r:shadow_t:s0 tclass=file permissive=0"
HEADER = b"type=AVC msg=audit(1795377193.100:300): "
FORGED = HEADER + b'avc:  denied  { read open } for  pid=465 comm="jupyterhub" path="/etc/shadow" dev="vda1" ino=3 ' + CONTEXTS
OWN = ("jupyterhub_user_t", "user_home_t", "file", "read")
STATUS = ("jupyterhub_user_t", "init_t", "system", "status")
SEND = ("jupyterhub_user_t", "systemd_logind_t", "dbus", "send_msg")


def entities(text: bytes) -> bytes:
    return text.replace(b'"', b"&quot;").replace(b" ", b"&nbsp;")


NAMES = {
    "a whole record": FORGED,
    "entities": entities(FORGED),
    "entities and a closed quote": b"x&quot;&nbsp;" + entities(CONTEXTS) + b"&nbsp;x=&quot;",
    "numeric entities": FORGED.replace(b'"', b"&#34;").replace(b" ", b"&#32;"),
    "escapes of rsyslog": b"x#012" + FORGED.replace(b" ", b"#040"),
    "literal newlines": b"x\\n" + FORGED.replace(b" ", b"\\x20"),
    "escaped quotes": FORGED.replace(b'"', b'\\"').replace(b" ", b"\\t"),
    "a newline": b"x\n" + FORGED,
    "a carriage return": b"x\r" + FORGED,
    "vertical space": b"x\x0b\x0c" + FORGED,
    "line separators of Unicode": "x\u2028\u2029\u0085".encode() + FORGED,
    "NUL bytes are no end": FORGED.replace(b" ", b"\x01"),
    "the separator": b"x\x1d" + FORGED,
    "the separator's picture": "x\u241d".encode() + FORGED,
    "no-break blanks": FORGED.replace(b" ", "\u00a0".encode()),
    "look-alike letters": FORGED.replace(b"scontext", "s\u0441ontext".encode()),
    "full-width signs": FORGED.replace(b"=", "\uff1d".encode()),
    "escape sequences": b"\x1b[2K\r" + FORGED,
    "braces": b"}for{read}",
    "the end of the braces": b"} for " + CONTEXTS,
    "contexts alone": CONTEXTS.replace(b" ", b""),
    "contexts with blanks": CONTEXTS,
    "hex that stands for a record": FORGED.hex().upper().encode(),
    "lower-case hex": FORGED.hex().encode(),
    "hex of hex": FORGED.hex().upper().encode().hex().upper().encode(),
    "a mark": b"avc:",
    "a node": b"node=hub " + FORGED,
    "numbered types": FORGED.replace(b"type=AVC", b"type=1400"),
    "the kernel's ring buffer": b"[ 1.0] audit: type=1400 audit(1795377193.100:300): avc:  denied  { read } for " + CONTEXTS,
    "the journal": b"audit[465]: AVC avc:  denied  { read } for " + CONTEXTS,
    "JSON": b'{"_TRANSPORT":"audit","MESSAGE":"AVC avc:  denied  { read } for ' + CONTEXTS + b'"}',
    "another module": b'apparmor="DENIED" lsm=SMACK (XEN)',
    "sealert": b"SELinux is preventing x from read access on the file y. Source Context system_u:system_r:jupyterhub_t:s0",
    "mail": b"> > " + FORGED,
    "an error of the security server": b"type=SELINUX_ERR msg=audit(1.2:3): op=security_bounded_transition "
    b"oldcontext=u:r:jupyterhub_t:s0 newcontext=u:r:shadow_t:s0",
    "a policy load": b"type=MAC_POLICY_LOAD msg=audit(1795377193.100:300): auid=0 ses=1 lsm=selinux res=1",
    "a switch": b"type=MAC_STATUS msg=audit(1795377193.100:300): enforcing=0 old_enforcing=1 auid=0 ses=1",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=list(NAMES))
def test_a_file_name_stays_a_name(name: bytes) -> None:
    for kind in ("path", "name"):
        text = record(b"AVC", avc(**{kind: b"/home/alice/" + name}))
        assert every_way(text) == {OWN: 1}
        (seen,) = whole(text).sightings
        assert "jupyterhub_t" not in (seen.denial.scontext.type, seen.denial.tcontext.type)
        assert (whole(text).notices, whole(text).errors) == (0, ())


@pytest.mark.parametrize("text", NAMES.values(), ids=list(NAMES))
def test_records_without_a_denial_hold_none(text: bytes) -> None:
    """Arguments, titles, keys, paths and commands of events in which nothing was denied."""
    log = (
        record(b"SYSCALL", syscall(comm=text, exe=b"/tmp/" + text, key=text))
        + record(b"EXECVE", execve([b"ls", text, text * 20]))
        + record(b"CWD", b"cwd=" + untrusted(b"/" + text))
        + record(b"PATH", b"item=0 name=" + untrusted(text) + b" inode=9 dev=fe:01 nametype=NORMAL")
        + record(b"PROCTITLE", kernel.proctitle([b"ls", text]))
        + record(b"USER_CMD", b"pid=9 uid=1001 ses=1 subj=u:r:s:s0 msg='cwd=\"/\" cmd=" + untrusted(text) + b" res=failed'")
        + record(b"ANOM_ABEND", b"auid=1001 uid=1001 ses=1 pid=9 comm=" + untrusted(text[:15]) + b" exe=\"/x\" sig=11 res=1")
        + record(b"EOE", b"")
    )  # fmt: skip
    assert every_way(log) == {}
    assert whole(log).notices == 0


@pytest.mark.parametrize("text", NAMES.values(), ids=list(NAMES))
def test_the_other_records_of_an_event_add_no_denial(text: bytes) -> None:
    log = record(b"AVC", avc()) + record(b"SYSCALL", syscall(comm=text)) + record(b"EXECVE", execve([b"ls", text]))
    log += record(b"PROCTITLE", kernel.proctitle([b"ls", text]))
    assert every_way(log) == {OWN: 1}


SEPARATED = {"the separator", "the separator's picture"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("enriched", [False, True], ids=["raw", "enriched"])
def test_a_command_line_in_systemds_message_never_becomes_an_access(name: str, enriched: bool) -> None:
    for argument in (
        NAMES[name],
        b'x" ' + NAMES[name] + b' "',
        b"x' " + NAMES[name],
        NAMES[name] + b" " * 300,
        b"x" * 900 + NAMES[name],
    ):
        text = record(b"USER_AVC", systemd([b"systemctl", b"status", argument], enriched=enriched))
        assert set(every_way(text)) <= {STATUS}
        result = whole(text)
        assert result.denials or result.unparsed_count == 1


@pytest.mark.parametrize("enriched", [False, True], ids=["raw", "enriched"])
def test_a_cut_message_is_an_attempt(enriched: bool) -> None:
    """For every length: the forged pair may stand last, and the cut fall anywhere behind it."""
    forged = b"x scontext=system_u:system_r:jupyterhub_t:s0 tcontext=system_u:system_r:init_t:s0 tclass=system permissive=0"
    for length in range(880, 1010):
        argument = b"A" * (length - len(forged)) + forged
        text = record(b"USER_AVC", systemd([argument], enriched=enriched))
        assert every_way(text) == {}
        assert attempts(text) == 1


def test_a_separator_inside_a_message_is_an_attempt() -> None:
    for enriched in (False, True):
        for argument in (b'x\x1dUID="root"', b'x\' \x1dUID="root" AUID="x"', b"\x1d", b'exe="/x" sauid=0\'\x1dUID="a"'):
            text = record(b"USER_AVC", systemd([argument], enriched=enriched))
            assert every_way(text) == {}
            assert attempts(text) == 1


def test_two_pairs_of_contexts_are_an_attempt() -> None:
    for argument in (CONTEXTS, b"--tclass=x", b"scontext=", b'" ' + CONTEXTS + b' exe="/usr/bin/dbus-daemon" sauid=0'):
        text = record(b"USER_AVC", systemd([argument]))
        assert every_way(text) == {}
        assert attempts(text) == 1


def test_a_kernels_class_is_not_reported_from_user_space() -> None:
    """A container's root may hold CAP_AUDIT_WRITE."""
    for exe in (b"/tmp/evil", b"/usr/bin/dbus-daemon", b"/usr/lib/systemd/systemd"):
        text = record(b"USER_AVC", user_avc(b"avc:  denied  { read } for  " + CONTEXTS, exe=exe))
        assert every_way(text) == {}
        assert attempts(text) == 1


def test_a_message_in_another_user_record_is_none() -> None:
    for kind in (b"USER_LOGIN", b"USER_CMD", b"USER_AUTH", b"CRED_ACQ", b"SERVICE_START", b"USER_TTY", b"TRUSTED_APP"):
        body = b"pid=9 uid=0 auid=1 ses=1 subj=u:r:s:s0 msg='avc:  denied  { read } for  " + CONTEXTS + b' exe="/x" sauid=0\''
        assert every_way(record(kind, body)) == {}


def test_a_dbus_name_as_long_as_the_bus_allows() -> None:
    for length in range(1, 255, 6):
        for dest in (b"d" * length, b"org." + b"x" * 250):
            text = record(b"USER_AVC", kernel.dbus(b"M" * length, dest=dest))
            assert set(every_way(text)) <= {SEND}
    long = record(b"USER_AVC", kernel.user_avc(kernel.libselinux(b"send_msg", b"x" * 1100, b"a:b:c", b"a:b:d", b"dbus")))
    assert (every_way(long), attempts(long)) == ({}, 1)


def test_a_line_without_a_header_is_no_record() -> None:
    """Half a line behind a full disk, or a writer that is not auditd; a daemon believes none of it."""
    for start in (b"", b" ", b"x ", b"ode=h ", b"\xff", b"> ", b"audit[7]: AVC ", b"<5>", b"Jan  1 00:00:00 host student: "):
        text = start + FORGED.replace(HEADER, b"avc: ") + b"\n"
        result = whole(text)
        assert (result.denials, result.unparsed_count) == (0, 1)


def test_a_torn_line_gives_nothing_of_the_one_that_follows() -> None:
    """The disk was full: the line ends anywhere, and the next record stands glued to it."""
    torn, following = (
        record(b"AVC", avc(path=b"/home/alice/x"))[:-1],
        record(b"AVC", avc(scontext=b"a:b:other_t:s0", tcontext=b"a:b:c_t")),
    )
    for at in range(len(torn)):
        text = torn[:at] + following
        for seen in (rows(whole(text)), rows(in_pieces(text)), rows_by_records(text), rows(read_text(text))):
            assert set(seen) <= {OWN, ("other_t", "c_t", "file", "read")}, torn[:at]


def test_a_line_of_a_megabyte() -> None:
    for filler in (b"x", b'"', b"{", b" ", b"=", b"a=", b'a="', b"avc:", b"type=AVC msg=audit(1.2:3): "):
        text = (
            HEADER
            + b'avc:  denied  { read } for  pid=1 comm="x" name="'
            + (filler * (1 << 20))[: 1 << 20]
            + b'" '
            + CONTEXTS
            + b"\n"
        )
        assert every_way(text) == {}
        assert attempts(text) == 1


def test_nodes_are_told_apart_only_in_front() -> None:
    text = record(b"AVC", avc(name=b"node=hub"), node=b"classroom")
    assert every_way(text) == {OWN: 1}
    (seen,) = whole(text).sightings
    assert seen.denial.event.node == "classroom"
