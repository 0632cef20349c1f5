"""One libsemanage transaction of modules, booleans and port labels, with an optional check before it installs.

semodule handles modules only, and semanage does not support other roots, so that a change of both would need two transactions.
This module runs as a separate process (``python -m``, request as JSON on stdin, response as JSON on stdout), because the
bindings of python3-semanage have process-wide state, are not thread-safe, and hold the interpreter lock during a commit.

The check uses libsemanage's kernel policy verifier (semanage.conf(5), ``[verify kernel]``): a program that runs between linking
and installing, and whose failure aborts the transaction. Here it is a one-line shell script that writes to a pipe and waits on
another. The requesting process reads the linked policy, decides, and responds. If that process dies, the pipe closes, the
script fails, and the store is unchanged.

libsemanage reads semanage.conf once, when its handle is created, below the root set at that time. A private root contains a
copy with sepolicyd's verifier; the real root is set before libsemanage connects. The machine's file is not modified, and no
mount namespace is needed. Everything runs in the caller's SELinux domain, without a transition to semanage_t, which could not
execute the script or read sepolicyd's state.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from sepolicyd import process
from sepolicyd.errors import SepolicydError, ToolError, ToolMissingError
from sepolicyd.policy.selinux_config import store_directory

MODULE = "sepolicyd.module.transaction"
TIMEOUT_S = 900.0
CONF = "/etc/selinux/semanage.conf"
SCRIPT = "verify"
READY_FD, ANSWER_FD = 8, 9
READY, YES = b"linked", b"yes\n"
MISSING = 9
ENFORCE = Path("/sys/fs/selinux/enforce")
ANSWER = '{"booleans"'
PROTOCOLS = {"udp": 0, "tcp": 1, "dccp": 2, "sctp": 3}  # SEMANAGE_PROTO_*, semanage/port_record.h


@dataclass(frozen=True, order=True)
class PortLabel:
    """A local port label. An empty ``type`` removes the local label, so that the policy's own applies."""

    protocol: str
    number: int
    type: str


@dataclass(frozen=True, order=True)
class BooleanValue:
    """A boolean's persistent value. ``on`` is None to remove the local value."""

    name: str
    on: Optional[bool]


@dataclass(frozen=True)
class Before:
    """The local labels and values that a transaction replaced, needed for its undo."""

    ports: tuple[PortLabel, ...] = ()
    booleans: tuple[BooleanValue, ...] = ()


@dataclass(frozen=True)
class Check:
    """A check between linking and installing."""

    directory: Path
    """An existing private directory (0700) for the verifier and its configuration."""
    judge: Callable[[], None]
    """Called while the transaction waits. The linked policy is at :meth:`Store.linked_policy`; an exception aborts."""


def commit(
    root: Path,
    kind: str,
    *,
    packages: Sequence[Path] = (),
    remove: Sequence[str] = (),
    priority: int,
    ports: Iterable[PortLabel] = (),
    booleans: Iterable[BooleanValue] = (),
    dry: bool = False,
    check: Optional[Check] = None,
) -> Before:
    """Run one atomic transaction; for the root "/", the kernel loads the result.

    :param dry: only report the present labels and values
    :param check: check of the linked policy before it is installed
    :raises ToolError: nothing has been changed
    :raises ToolMissingError: no semanage bindings
    """
    request = {
        "root": str(root.absolute()),
        "kind": kind,
        "packages": [str(path.absolute()) for path in packages],
        "remove": list(remove),
        "priority": priority,
        "ports": [asdict(port) for port in ports],
        "booleans": [asdict(boolean) for boolean in booleans],
        "dry": dry,
    }
    argv, env = process.module_argv(MODULE), process.module_environment()
    if check is None:
        done = process.run(argv, stdin=json.dumps(request), env=env, timeout=TIMEOUT_S, ok=(0, MISSING), cwd=Path("/"))
    else:
        done = _commit_checked(argv, env, request, check)
    if done.returncode == MISSING:
        raise ToolMissingError(
            "the semanage bindings of Python are not installed",
            "install the package python3-semanage or policycoreutils-python-utils",
        )
    # libsemanage also prints messages to stdout, before or after
    answer = json.loads(next(line for line in done.stdout.splitlines() if line.startswith(ANSWER)))
    return Before(
        tuple(PortLabel(**item) for item in answer["ports"]), tuple(BooleanValue(**item) for item in answer["booleans"])
    )


def _commit_checked(argv: Sequence[str], env: Mapping[str, str], request: dict[str, Any], check: Check) -> process.Completed:
    """Run the transaction and respond to its verifier.

    :raises SepolicydError: the exception of ``check.judge``; nothing has been changed
    """
    ready, ready_write = os.pipe()
    answer_read, answer = os.pipe()
    still_open = [ready, ready_write, answer_read, answer]
    refusal: list[SepolicydError] = []

    def close(*descriptors: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
            still_open.remove(descriptor)

    def attend() -> None:
        close(ready_write, answer_read)  # only the transaction and its verifier hold them now, so their end causes EOF here
        try:
            if os.read(ready, len(READY)) == READY:
                check.judge()
                os.write(answer, YES)
        except BrokenPipeError:
            pass  # the transaction was killed
        except SepolicydError as error:
            refusal.append(error)
        finally:
            close(answer, ready)

    request["check"] = {"ready": ready_write, "answer": answer_read, "directory": str(check.directory)}
    try:
        return process.run_attended(
            argv, attend, pass_fds=(ready_write, answer_read), stdin=json.dumps(request), env=env, timeout=TIMEOUT_S,
            ok=(0, MISSING), cwd=Path("/"),
        )  # fmt: skip
    except ToolError:
        if refusal:
            raise refusal[0] from None
        raise
    finally:
        close(*still_open)


class _Handle:
    """The libsemanage calls in use. Every negative return code is an error (semanage/handle.h)."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        import semanage  # python3-semanage; only this process imports it

        self.lib = semanage
        self.live = request["root"] == "/"
        self.running = self.live and ENFORCE.exists()  # current values exist only if SELinux is enabled
        root = "" if self.live else request["root"]
        self.sandbox = store_directory(Path(request["root"]), request["kind"]) / "tmp"
        if "check" in request:
            semanage.semanage_set_root(_private_root(root, **request["check"]))
            self.handle = semanage.semanage_handle_create()  # reads semanage.conf; the paths follow from the root below
            semanage.semanage_set_root(root)
        else:
            if root:
                semanage.semanage_set_root(root)
            self.handle = semanage.semanage_handle_create()
        if not self.live:
            semanage.semanage_select_store(self.handle, request["kind"], semanage.SEMANAGE_CON_DIRECT)
            semanage.semanage_set_reload(self.handle, 0)  # by default, it loads the policy if SELinux is enabled
        self.check(semanage.semanage_connect(self.handle), "connect to the store")
        self.check(semanage.semanage_set_default_priority(self.handle, request["priority"]), "set the priority")

    def check(self, code: Any, what: str) -> Any:
        number, value = (code[0], code[1]) if isinstance(code, (list, tuple)) else (code, None)
        if number < 0:
            raise OSError(f"libsemanage could not {what}")
        return value

    def port(self, label: Mapping[str, Any], *, dry: bool) -> str:
        """Set one local port label, and return the previous type."""
        lib, sh, number = self.lib, self.handle, label["number"]
        key = self.check(lib.semanage_port_key_create(sh, number, number, PROTOCOLS[label["protocol"]]), "make a port key")
        exists = self.check(lib.semanage_port_exists_local(sh, key), "look for a port")
        before = ""
        if exists:
            old = self.check(lib.semanage_port_query_local(sh, key), "read a port")
            before = lib.semanage_context_get_type(lib.semanage_port_get_con(old))
        if dry:
            return str(before)
        if not label["type"]:
            self.check(lib.semanage_port_del_local(sh, key) if exists else 0, "take a port label away")
            return str(before)
        made = self.check(lib.semanage_port_create(sh), "make a port")
        context = self.check(lib.semanage_context_create(sh), "make a context")
        for setter, value in (("user", "system_u"), ("role", "object_r"), ("type", label["type"]), ("mls", "s0")):
            if setter != "mls" or lib.semanage_mls_enabled(sh):
                self.check(getattr(lib, f"semanage_context_set_{setter}")(sh, context, value), "fill a context")
        lib.semanage_port_set_proto(made, PROTOCOLS[label["protocol"]])
        lib.semanage_port_set_range(made, number, number)
        self.check(lib.semanage_port_set_con(sh, made, context), "label a port")
        self.check(lib.semanage_port_modify_local(sh, key, made), f"label port {number}")
        return str(before)

    def boolean(self, value: Mapping[str, Any], *, dry: bool) -> Optional[bool]:
        """Set one persistent value, and return the previous one, None for none."""
        lib, sh, name = self.lib, self.handle, value["name"]
        key = self.check(lib.semanage_bool_key_create(sh, name), "make a boolean key")
        exists = self.check(lib.semanage_bool_exists_local(sh, key), "look for a boolean")
        before = None
        if exists:
            before = bool(lib.semanage_bool_get_value(self.check(lib.semanage_bool_query_local(sh, key), "read a boolean")))
        if dry:
            return before
        if value["on"] is None:
            self.check(lib.semanage_bool_del_local(sh, key) if exists else 0, "take a boolean's value away")
            if self.running:  # the kernel keeps its current value over a load: set it to the policy's default
                lib.semanage_bool_set_active(sh, key, self.check(lib.semanage_bool_query(sh, key), "read a boolean"))
            return before
        made = self.check(lib.semanage_bool_create(sh), "make a boolean")
        self.check(lib.semanage_bool_set_name(sh, made, name), "name a boolean")
        lib.semanage_bool_set_value(made, int(value["on"]))
        self.check(lib.semanage_bool_modify_local(sh, key, made), f"set the boolean {name}")
        if self.running:
            lib.semanage_bool_set_active(sh, key, made)  # also the current value, like setsebool -P
        return before

    def act(self, what: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a modifying function of libsemanage."""
        try:
            self.check(function(*arguments), what)
        except OSError:  # the bindings raise OSError for a negative code, with a meaningless errno
            raise OSError(f"libsemanage could not {what}") from None

    def discard(self) -> None:
        """Remove the sandbox of a failed transaction under the store's lock, then release the lock.

        A failed commit has already released the lock, and libsemanage keeps the sandbox until the next transaction.
        """
        with suppress(OSError):
            self.lib.semanage_begin_transaction(self.handle)
            shutil.rmtree(self.sandbox, ignore_errors=True)
        with suppress(OSError):
            self.lib.semanage_disconnect(self.handle)

    def modules(self, request: Mapping[str, Any]) -> None:
        for name in request["remove"]:
            self.act(f"remove the module {name}", self.lib.semanage_module_remove, self.handle, name)
        for path in request["packages"]:
            self.act(f"take the module {path}", self.lib.semanage_module_install_file, self.handle, path)


def _private_root(root: str, *, directory: str, ready: int, answer: int) -> str:
    """Create a root that contains only semanage.conf and the verifier, and return its path."""
    # dash(1) redirects only to single-digit descriptors; the two may overlap
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (ready, answer)]
    for fd, number in zip(high, (READY_FD, ANSWER_FD)):
        os.dup2(fd, number, inheritable=True)
    for fd in {ready, answer} - {READY_FD, ANSWER_FD}:
        os.close(fd)
    place = Path(directory) / "etc/selinux"
    place.mkdir(parents=True)
    # like semanage_conf_path(): below the root, otherwise this machine's
    found = next((path for path in (Path(f"{root}{CONF}"), Path(CONF)) if path.exists()), None)
    text = "" if found is None else found.read_text(encoding="utf-8", errors="surrogateescape")
    text += f"\n[verify kernel]\npath = /bin/sh\nargs = {SCRIPT}\n[end]\n"
    (place / "semanage.conf").write_text(text, encoding="utf-8", errors="surrogateescape")
    Path(directory, SCRIPT).write_text(
        f'printf {READY.decode()} >&{READY_FD} && read -r answer <&{ANSWER_FD} && [ "$answer" = yes ]\n', encoding="ascii"
    )
    os.chdir(directory)  # relative path to the script, since semanage.conf would split a path at blanks
    return directory


def main() -> None:
    """Run the transaction of the request on stdin.

    :raises SystemExit: 1 if nothing was changed, 9 without the bindings
    """
    request = json.loads(sys.stdin.read())
    os.umask(0o077)
    try:
        handle = _Handle(request)
    except ImportError:
        raise SystemExit(MISSING) from None
    try:
        answer = _transact(handle, request)
    except OSError:
        handle.discard()
        raise
    handle.lib.semanage_disconnect(handle.handle)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


def _transact(handle: _Handle, request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the transaction, and return the previous labels and values."""
    dry, lib = bool(request["dry"]), handle.lib
    if not dry:
        handle.act("begin: the store is locked or not writable", lib.semanage_begin_transaction, handle.handle)
        handle.modules(request)
    ports = [{**label, "type": handle.port(label, dry=dry)} for label in request["ports"]]
    booleans = [{**value, "on": handle.boolean(value, dry=dry)} for value in request["booleans"]]
    if not dry:
        handle.act("commit the transaction", lib.semanage_commit, handle.handle)
    return {"booleans": booleans, "ports": ports}


if __name__ == "__main__":
    try:
        main()
    except OSError as failure:
        raise SystemExit(str(failure)) from None
