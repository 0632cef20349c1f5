"""Regenerate policies/jupyterhub/generated/jupyterhub.te: ``python -m tests.policies.jupyterhub.regenerate``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from sepolicyd.module.base_module import expand
from tests.paths import HEADERS, POLICIES

if __name__ == "__main__":
    policy = POLICIES / "jupyterhub"
    with TemporaryDirectory() as place:
        text = expand((policy / "jupyterhub.te").read_text(encoding="utf-8"), "jupyterhub", Path(place), headers=HEADERS)
    (policy / "generated/jupyterhub.te").write_text(text, encoding="utf-8")
