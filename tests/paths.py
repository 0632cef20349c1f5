"""Paths of the checkout, its policies and the captured logs."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
POLICIES = ROOT / "policies"
HEADERS = Path("/usr/share/selinux/devel")
