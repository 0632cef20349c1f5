"""Exceptions for expected failures: what happened, to which object, and what to do; the CLI maps each to an exit code."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FINDINGS = 1  # findings, or refused
    USAGE = 2
    TOOL_FAILED = 3


class SepolicydError(Exception):
    """Base of all expected failures. ``what`` is a sentence that names the object, ``hint`` says what to do."""

    exit_code = Exit.TOOL_FAILED

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


class RefusedError(SepolicydError):
    """sepolicyd refuses to do what was asked. Nothing has been changed."""

    exit_code = Exit.FINDINGS


class UsageError(SepolicydError):
    """An argument or a configuration file is wrong. Nothing has been started."""

    exit_code = Exit.USAGE


class InputError(UsageError):
    """A named file cannot be read or has the wrong content."""


class ToolError(SepolicydError):
    """An external tool or a system call failed. ``command`` can be pasted into a shell; ``stderr`` is the tool's output."""

    def __init__(self, what: str, hint: str = "", *, command: str = "", stderr: str = "") -> None:
        super().__init__(what, hint)
        self.command = command
        self.stderr = stderr


class ToolMissingError(ToolError):
    """An external tool is not installed; the hint names its package."""


class StateError(SepolicydError):
    """A state database or journal cannot be read or written."""
