"""Entry point that timers armed by version 0.1.0 name (``python -m sepolicyd.rollout.endlease``). Kept for one release."""

from __future__ import annotations

import sys

from sepolicyd.rollout.lease.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
