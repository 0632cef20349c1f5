"""Run a module like ``python -m``, on a machine whose kernel is a directory: ``as_module MODULE ARGUMENT...``."""

from __future__ import annotations

import runpy
import sys

import tests.rollout.lease.without_kernel  # noqa: F401 what is written to selinuxfs is done to a directory

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
