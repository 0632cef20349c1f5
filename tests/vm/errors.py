"""The failures of a bench run, each with its exit code."""

from __future__ import annotations


class BenchError(Exception):
    exit_code = 1


class Failed(BenchError):
    """An assertion of a scenario did not hold. Never tried again."""

    exit_code = 1


class CannotRun(BenchError):
    """This machine cannot run the bench at all: no qemu, no disk, no package source, a kernel without SELinux."""

    exit_code = 4


class Lost(BenchError):
    """The guest hung or died; says nothing about the project. Started once more."""

    exit_code = 5
