"""The one-shot command as a process on a machine without SELinux, with selinuxfs replaced by a directory."""

from __future__ import annotations

import struct
import sys
from typing import Optional

from sepolicyd.kernel.selinuxfs import STATUS, SelinuxFs
from sepolicyd.rollout.lease import __main__, agreement, end


def write(self: SelinuxFs, name: str, data: bytes) -> None:
    """What the kernel does with a write to one of its files."""
    if name != "load":
        (self.mount / name).write_bytes(data)
        return
    sequence, loads = struct.unpack_from("=4xI4xI", (self.mount / "status").read_bytes())
    for file, content in (("policy", data), ("status", STATUS.pack(1, sequence + 2, 1, loads + 1, 0))):
        (self.mount / "new").write_bytes(content)
        (self.mount / "new").replace(self.mount / file)


def main(arguments: Optional[list[str]] = None) -> int:
    """Run the one-shot."""
    return __main__.main(arguments)


SelinuxFs._write = write  # type: ignore[method-assign]
end.PAUSES_S = agreement.PAUSES_S = (0.0, 0.1, 0.2)  # type: ignore[attr-defined]

if __name__ == "__main__":
    sys.exit(main())
