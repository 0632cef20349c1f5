"""One libsemanage transaction of modules, booleans and port labels: a request in (JSON on stdin), what was there before out.

semodule takes modules alone and semanage takes no other root, so that a change which needs both would be two changes. This
runs as a process of its own (``python -m``): the bindings of python3-semanage are C, process-wide and not for threads.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from sepolicyd import process
from sepolicyd.errors import ToolMissingError

TIMEOUT_S = 900.0
MISSING = 9
ENFORCE = Path("/sys/fs/selinux/enforce")
ANSWER = '{"booleans"'
PROTOCOLS = {"udp": 0, "tcp": 1, "dccp": 2, "sctp": 3}  # SEMANAGE_PROTO_*, semanage/port_record.h


@dataclass(frozen=True, order=True)
class PortLabel:
    """A local port label; ``type`` "" takes the local label away, so that the policy's own counts again."""

    protocol: str
    number: int
    type: str


@dataclass(frozen=True, order=True)
class BooleanValue:
    """A boolean's lasting value; ``on`` None takes the local value away."""

    name: str
    on: Optional[bool]


@dataclass(frozen=True)
class Before:
    """The local labels and values that a transaction replaced: what takes it back."""

    ports: tuple[PortLabel, ...] = ()
    booleans: tuple[BooleanValue, ...] = ()


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
) -> Before:
    """Do all of it or nothing; for "/" the kernel loads the result.

    :param dry: only tell what is there before
    :raises ToolError: nothing has been changed
    :raises ToolMissingError: no semanage bindings
    """
    request = {
        "root": str(root),
        "kind": kind,
        "packages": [str(path) for path in packages],
        "remove": list(remove),
        "priority": priority,
        "ports": [asdict(port) for port in ports],
        "booleans": [asdict(boolean) for boolean in booleans],
        "dry": dry,
    }
    argv = process.module_argv("sepolicyd.module.transaction")
    env = process.module_environment()
    done = process.run(argv, stdin=json.dumps(request), env=env, timeout=TIMEOUT_S, ok=(0, MISSING), cwd=Path("/"))
    if done.returncode == MISSING:
        raise ToolMissingError(
            "the semanage bindings of Python are not installed",
            "install the package python3-semanage or policycoreutils-python-utils",
        )
    # libsemanage writes notes of its own to stdout, before or after
    answer = json.loads(next(line for line in done.stdout.splitlines() if line.startswith(ANSWER)))
    return Before(
        tuple(PortLabel(**item) for item in answer["ports"]), tuple(BooleanValue(**item) for item in answer["booleans"])
    )


class _Handle:
    """The few libsemanage calls that are needed; every negative return code is an error (semanage/handle.h)."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        import semanage  # python3-semanage; only this process imports it

        self.lib = semanage
        self.live = request["root"] == "/"
        self.running = self.live and ENFORCE.exists()  # running values exist only where SELinux runs
        if not self.live:
            semanage.semanage_set_root(request["root"])
        self.handle = semanage.semanage_handle_create()
        if not self.live:
            semanage.semanage_select_store(self.handle, request["kind"], semanage.SEMANAGE_CON_DIRECT)
            semanage.semanage_set_reload(self.handle, 0)  # the default is to load where SELinux runs
        self.check(semanage.semanage_connect(self.handle), "connect to the store")
        self.check(semanage.semanage_set_default_priority(self.handle, request["priority"]), "set the priority")

    def check(self, code: Any, what: str) -> Any:
        number, value = (code[0], code[1]) if isinstance(code, (list, tuple)) else (code, None)
        if number < 0:
            raise OSError(f"libsemanage could not {what}")
        return value

    def port(self, label: Mapping[str, Any], *, dry: bool) -> str:
        """Set one local port label; the type it had before."""
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
        """Set one lasting value; the one it had before, None where it had none."""
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
            if self.running:  # the kernel keeps its running value over a load: give it the policy's own
                lib.semanage_bool_set_active(sh, key, self.check(lib.semanage_bool_query(sh, key), "read a boolean"))
            return before
        made = self.check(lib.semanage_bool_create(sh), "make a boolean")
        self.check(lib.semanage_bool_set_name(sh, made, name), "name a boolean")
        lib.semanage_bool_set_value(made, int(value["on"]))
        self.check(lib.semanage_bool_modify_local(sh, key, made), f"set the boolean {name}")
        if self.running:
            lib.semanage_bool_set_active(sh, key, made)  # the running value too, as setsebool -P does
        return before

    def modules(self, request: Mapping[str, Any]) -> None:
        for name in request["remove"]:
            self.check(self.lib.semanage_module_remove(self.handle, name), f"remove the module {name}")
        for path in request["packages"]:
            self.check(self.lib.semanage_module_install_file(self.handle, path), f"take the module {path}")


def main() -> None:
    """:raises SystemExit: 1 when nothing was changed, 9 without bindings"""
    request = json.loads(sys.stdin.read())
    os.umask(0o077)
    try:
        handle = _Handle(request)
    except ImportError:
        raise SystemExit(MISSING) from None
    dry = bool(request["dry"])
    if not dry:
        handle.check(handle.lib.semanage_begin_transaction(handle.handle), "begin: the store is locked or not writable")
        handle.modules(request)
    ports = [{**label, "type": handle.port(label, dry=dry)} for label in request["ports"]]
    booleans = [{**value, "on": handle.boolean(value, dry=dry)} for value in request["booleans"]]
    if not dry:
        handle.check(handle.lib.semanage_commit(handle.handle), "commit")
    sys.stdout.write("\n" + json.dumps({"booleans": booleans, "ports": ports}) + "\n")


if __name__ == "__main__":
    try:
        main()
    except OSError as failure:
        raise SystemExit(str(failure)) from None
