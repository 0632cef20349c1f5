"""Entry point of `python -m sepolicyd`."""

from __future__ import annotations

import sys


def main() -> int:
    from sepolicyd.cli.main import run_cli

    return run_cli(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
