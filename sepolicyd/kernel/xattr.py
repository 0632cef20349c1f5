"""SELinux labels of files, as the kernel keeps them in the extended attribute security.selinux (xattr(7))."""

from __future__ import annotations

import os

LABEL = "security.selinux"


def read_context(path: str) -> str:
    """The whole context of a file, symbolic links not followed; "" if it has none or cannot be read."""
    try:
        return os.getxattr(path, LABEL, follow_symlinks=False).rstrip(b"\0").decode("utf-8", "replace")
    except OSError:
        return ""
