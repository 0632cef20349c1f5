"""Round trip: bytes chosen by a process are read back unchanged and cause no other access.

The events are written by kernel.py from the sources of the kernel, libselinux and systemd.
"""

from __future__ import annotations

import shlex

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sepolicyd.audit.model import Denial
from sepolicyd.audit.parse.fields import bytes_of, text
from tests.audit.parse import kernel
from tests.audit.parse.kernel import record
from tests.audit.parse.three_ways import every_way, whole

OWN = ("jupyterhub_user_t", "user_home_t", "file", "read")
SYNTAX = st.sampled_from(
    [b'"', b"'", b" ", b"=", b"{", b"}", b"\n", b"\r", b"\x1d", b"avc:", b"scontext=", b"type=AVC msg=audit(1.2:3): ", b"\\x5c",
     b"\\xff", b"\xff", b"&nbsp;", b"#012", b"41", b"msg='", b"exe=", b"(null)", b"?"]
)  # fmt: skip
BYTES = st.one_of(st.binary(max_size=60), st.lists(SYNTAX, max_size=12).map(b"".join), SYNTAX)
NAME = BYTES.map(lambda value: value.replace(b"\0", b""))
ARGUMENTS = st.lists(NAME, min_size=1, max_size=6)
COMMON = settings(max_examples=150, deadline=None)


def only(log: bytes) -> Denial:
    (seen,) = whole(log).sightings
    return seen.denial


@COMMON
@given(BYTES)
@example(b"\\x5cxff")
@example(b"\\\xff")
def test_text_of_bytes_can_be_undone(value: bytes) -> None:
    assert bytes_of(text(value)) == value


@COMMON
@given(comm=NAME, path=NAME, name=NAME)
def test_an_avc(comm: bytes, path: bytes, name: bytes) -> None:
    log = record(b"AVC", kernel.avc(comm=comm, path=b"/" + path, name=b"x" + name))
    assert every_way(log) == {OWN: 1}
    denial = only(log)
    assert bytes_of(denial.comm) == comm[:15]
    assert bytes_of(denial.path) == b"/" + path
    assert bytes_of(denial.name) == b"x" + name


@COMMON
@given(exe=NAME, comm=NAME, key=NAME, cwd=NAME, name=NAME)
def test_the_records_of_an_event(exe: bytes, comm: bytes, key: bytes, cwd: bytes, name: bytes) -> None:
    name = name.replace(b"/", b"_")
    log = (
        record(b"AVC", kernel.avc(comm=comm, name=b"x" + name))
        + record(b"SYSCALL", kernel.syscall(comm=comm, exe=b"/" + exe, key=key))
        + record(b"CWD", b"cwd=" + kernel.untrusted(b"/" + cwd))
        + record(b"PATH", b"item=0 name=" + kernel.untrusted(b"x" + name) + b" inode=77 dev=fe:01 nametype=NORMAL")
    )
    assert every_way(log) == {OWN: 1}
    denial = only(log)
    assert bytes_of(denial.exe) == b"/" + exe
    assert (denial.ppid, denial.pid, denial.uid) == (7000, 7001, "1001")
    assert bytes_of(denial.path) == (b"/" + cwd).rstrip(b"/") + b"/x" + name


@COMMON
@given(ARGUMENTS)
@example([b"a" * 2000 + b"\xc3\xa4" * 900, b"z"])
@example([b"A" * 5000])
def test_the_arguments_of_a_program(argv: list[bytes]) -> None:
    log = record(b"AVC", kernel.avc()) + record(b"EXECVE", kernel.execve(argv))
    assert every_way(log) == {OWN: 1}
    command = dict(only(log).extra).get("command", "")
    assert [bytes_of(argument) for argument in shlex.split(command)] == argv


@COMMON
@given(ARGUMENTS)
def test_the_title_of_a_process(argv: list[bytes]) -> None:
    argv = [b"x" + argument for argument in argv]
    log = record(b"AVC", kernel.avc()) + record(b"PROCTITLE", kernel.proctitle(argv))
    assert every_way(log) == {OWN: 1}
    if len(b"\0".join(argv)) <= 128 and len(argv) > 1:
        assert [bytes_of(argument) for argument in shlex.split(only(log).proctitle)] == argv


@COMMON
@given(argv=ARGUMENTS, function=st.sampled_from([b"", b"bus_unit_method_start_generic"]), enriched=st.booleans())
def test_a_command_line_of_systemd(argv: list[bytes], function: bytes, enriched: bool) -> None:
    log = record(b"USER_AVC", kernel.systemd(argv, path=b"/lib/x.service", function=function, enriched=enriched))
    found = every_way(log)
    joined = b" ".join(argv)
    message = joined.replace(b"\n", b" ")
    if any(word in joined for word in (b"\x1d", b"scontext=", b"tcontext=", b"tclass=")):
        assert found == {}
        return
    assert found == {("jupyterhub_user_t", "init_t", "system", "status"): 1}
    assert bytes_of(only(log).proctitle) == message
    assert only(log).path == "/lib/x.service"


@COMMON
@given(st.text("abcdefghijklmnopqrstuvwxyzABCXYZ_0123456789", min_size=1, max_size=255))
def test_a_member_of_dbus(member: str) -> None:
    log = record(b"USER_AVC", kernel.dbus(member.encode()))
    assert every_way(log) == {("jupyterhub_user_t", "systemd_logind_t", "dbus", "send_msg"): 1}
    assert dict(only(log).extra)["member"] == member
