"""Read text like `analyze`: dialects first, then the scan."""

from __future__ import annotations

import io
from pathlib import Path

from sepolicyd.audit.dialects.preprocess import Front
from sepolicyd.audit.scan.scan_files import ScanResult, scan_files, scan_stream


def read_text(text: bytes) -> ScanResult:
    return scan_stream(io.BytesIO(text), front=Front())


def read_file(path: Path) -> ScanResult:
    return scan_files([path], front=Front())
