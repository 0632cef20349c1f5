"""The expected failures: each says what happened, to which object, and what to do now; the CLI maps each to an exit code."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FINDINGS = 1  # findings, or refused
    USAGE = 2
    TOOL_FAILED = 3


class SepolicydError(Exception):
    """Base of all expected failures. ``what`` is one sentence with the object in it, ``hint`` says what to do now."""

    exit_code = Exit.TOOL_FAILED

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


class RefusedError(SepolicydError):
    """Something that we will not do: nothing has been changed."""

    exit_code = Exit.FINDINGS


class UsageError(SepolicydError):
    """The call, its arguments or a configuration file are wrong: nothing has been started."""

    exit_code = Exit.USAGE


class InputError(UsageError):
    """A file that was named cannot be read or is not what it should be."""


class ToolError(SepolicydError):
    """A foreign tool failed or a system call did. ``command`` can be pasted into a shell, ``stderr`` is what it said."""

    def __init__(self, what: str, hint: str = "", *, command: str = "", stderr: str = "") -> None:
        super().__init__(what, hint)
        self.command = command
        self.stderr = stderr


class ToolMissingError(ToolError):
    """A foreign tool is not installed; the hint names its package."""


class StateError(SepolicydError):
    """A state database or journal cannot be read or written."""
