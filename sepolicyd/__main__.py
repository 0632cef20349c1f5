"""The command line's way in: argv goes to click, every ending becomes an exit code."""

from __future__ import annotations

import sys


def main() -> int:
    from sepolicyd.cli.main import run_cli

    return run_cli(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
