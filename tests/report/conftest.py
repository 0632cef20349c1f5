"""Fixtures of the command line for the tests of reports."""

from tests.cli.conftest import log, sepolicyd  # noqa: F401
