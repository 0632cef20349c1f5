"""SELinux labels of files, read from the extended attribute security.selinux (xattr(7))."""

from __future__ import annotations

import os
from typing import Union

LABEL = "security.selinux"
StrPath = Union[str, "os.PathLike[str]"]


def read_context(path: StrPath, *, follow_symlinks: bool = False) -> str:
    """Return the whole context of a file; "" if it has none or cannot be read."""
    try:
        return os.getxattr(path, LABEL, follow_symlinks=follow_symlinks).rstrip(b"\0").decode("utf-8", "replace")
    except OSError:
        return ""
