"""A base policy of another machine for the guest: `make test-vm POLICY=DIR`.

The guest keeps Debian's programs and gets DIR's policy store, headers and labels. It is changed over as an administrator
would do it: the store is unpacked and rebuilt, the policy loaded, every file labelled by its file_contexts, and the guest
rebooted.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import tempfile
from pathlib import Path
from typing import Optional

from sepolicyd.module.store import Store
from tests.policies import base
from tests.vm.bench import AUDIT_LOG, Context, listed, unique
from tests.vm.errors import CannotRun
from tests.vm.image import BasePolicy, cache_directory
from tests.vm.machine import Machine

PARTS = ("etc/selinux", "var/lib/selinux", "usr/share/selinux")
# The old store goes first: it may have the name of the new one. semodule makes the labels of the guest's own homes. The new
# policy is loaded before the files are labelled because setfiles asks the kernel whether a label exists.
CHANGE_OVER = """set -e
setenforce 0
rm -rf /etc/selinux/{kind} /var/lib/selinux/{kind} /usr/share/selinux/devel
tar -C / -xzf /root/base-policy.tar.gz --no-same-owner
rm /root/base-policy.tar.gz
printf 'SELINUX=enforcing\\nSELINUXTYPE={kind}\\n' > /etc/selinux/config
semodule -n -B
load_policy
"""
RELABEL = "setfiles -F -e /proc -e /sys -e /dev -e /run /etc/selinux/{kind}/contexts/files/file_contexts /"
# What was denied while two policies met says nothing about either.
FORGET = f"rm -f {AUDIT_LOG}.*; : > {AUDIT_LOG}"


def load(root: Path) -> BasePolicy:
    """Return a directory as the guest's base policy, checked unless a guest has booted with the same bytes before.

    :raises CannotRun: in one sentence, why it cannot serve
    """
    label = re.sub(r"[^A-Za-z0-9_]+", "", root.name) or "root"
    policy = BasePolicy(label, Store(root).kind, archive(root), CHANGE_OVER + RELABEL)
    if not booted_before(policy):
        check(root)
    return policy


def booted_before(policy: BasePolicy) -> bool:
    """Tell whether there is a saved state of a guest with this policy."""
    return any(cache_directory().glob(f"image-*/state-{policy.name}-*-changed"))


def check(root: Path) -> None:
    """
    :raises CannotRun: in one sentence, why a directory cannot serve as the guest's base policy
    """
    with tempfile.TemporaryDirectory(prefix="sepolicyd-vm-") as place:
        reason = base.why_unusable(root, Path(place) / "store")
    if reason:
        raise CannotRun(reason)
    told = base.customisations(root)
    if told:
        print(told, flush=True)


def archive(root: Path) -> bytes:
    """The policy's directories as a gzipped tar; the same bytes for the same files."""

    def plain(info: tarfile.TarInfo) -> Optional[tarfile.TarInfo]:
        info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
        return info

    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for part in PARTS:
            if (root / part).is_dir():
                tar.add(root / part, part, filter=plain)
    return buffer.getvalue()


def change_over(machine: Machine, policy: BasePolicy, logs: Path) -> None:
    """Give a running guest this policy; it has been rebooted and enforces it afterwards.

    :raises Failed: a step failed
    """
    machine.put("/root/base-policy.tar.gz", policy.archive)
    machine.run(CHANGE_OVER.format(kind=policy.kind), timeout=900)
    machine.run(RELABEL.format(kind=policy.kind), timeout=900)
    machine.run(FORGET)
    machine.reboot()
    context = Context(machine, logs)
    context.mode("Enforcing")
    # auditd's own record of its start; the lines before it are of the shutdown, in which /run had the old policy's labels
    started = int(machine.run(f"grep -n type=DAEMON_START {AUDIT_LOG} | tail -n 1 | cut -d: -f1").out or 0)
    own = unique(context.denied(started))
    machine.run(FORGET)
    context.say(
        f"the guest booted with the policy {policy.name}; its own system was denied {len(own)} accesses: {listed(own, 40)}"
    )
