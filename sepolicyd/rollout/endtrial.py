"""The one-shot that systemd runs at the end of a trial: a version that nobody confirmed goes, the earlier one returns."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sepolicyd import settings as configuration
from sepolicyd.errors import SepolicydError
from sepolicyd.rollout.rollback import end_trial


def main() -> int:
    """Exit code 0: done or nothing to do; 3: not possible now, systemd tries again."""
    parser = argparse.ArgumentParser(description="End a trial of sepolicyd that is over.")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    config = given.config if given.config is not None and given.config.exists() else None
    try:
        settled = end_trial(configuration.load(config, state=given.state, root=given.root))
    except SepolicydError as error:
        sys.stderr.write(f"sepolicyd: {error}\n")
        return 3
    if settled is not None:
        sys.stderr.write(f"sepolicyd: {settled.text}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
