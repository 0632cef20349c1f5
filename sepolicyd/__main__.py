"""Entry point of `python -m sepolicyd`."""

from __future__ import annotations

import sys


def main() -> int:
    if sys.argv[1:] in (["--help"], ["-h"]):
        from sepolicyd.cli.help_page import print_help

        return print_help()
    from sepolicyd.cli.main import run_cli

    return run_cli(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
