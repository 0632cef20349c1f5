"""Run external commands; the only user of subprocess. A failure raises ToolError with a command line to paste."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from sepolicyd.errors import ToolError, ToolMissingError

# cron and some login shells leave sbin out of PATH; the SELinux tools live there.
SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_TIMEOUT_S = 600.0
_TREE = Path(__file__).resolve().parent.parent
# the source tree that this package runs from, None if it is installed
SOURCE_TREE: Optional[Path] = _TREE if (_TREE / "pyproject.toml").exists() else None
STOP_S = 30.0

PACKAGES = {
    "checkmodule": "checkpolicy",
    "semodule": "policycoreutils",
    "semodule_package": "semodule-utils (Debian) or policycoreutils (Fedora, RHEL)",
    "restorecon": "policycoreutils",
    "setfiles": "policycoreutils",
    "semanage": "policycoreutils-python-utils",
    "systemd-run": "systemd",
    "systemctl": "systemd",
    "auditctl": "auditd (Debian) or audit (Fedora, RHEL)",
    "secilc": "secilc",
    "ssh-keygen": "openssh-client (Debian) or openssh (Fedora, RHEL)",
}


def module_argv(module: str) -> list[str]:
    """Return the argv that runs a module of this package with this interpreter.

    ``-I`` keeps the working directory and the environment from adding modules. A source tree is found by PYTHONPATH instead
    (see :func:`module_environment`), which ``-I`` would ignore.
    """
    return [sys.executable, *(["-I"] if SOURCE_TREE is None else []), "-m", module]


def module_environment() -> dict[str, str]:
    """Return the environment variables that :func:`module_argv` needs; empty for an installed package."""
    return {} if SOURCE_TREE is None else {"PYTHONPATH": str(SOURCE_TREE)}


@dataclass(frozen=True)
class Completed:
    """The result of a command; undecodable bytes of the output are replaced."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def command(self) -> str:
        return shlex.join(self.argv)


def which(tool: str) -> Optional[str]:
    """Return the absolute path of a tool in SEPOLICYD_PATH (for tests) or the system's directories, None if not found."""
    return shutil.which(tool, path=os.environ.get("SEPOLICYD_PATH", SEARCH_PATH))


def run(
    argv: Sequence[str],
    *,
    timeout: float = DEFAULT_TIMEOUT_S,
    ok: Sequence[int] = (0,),
    cwd: Optional[Path] = None,
    stdin: str = "",
    env: Optional[Mapping[str, str]] = None,
) -> Completed:
    """Run one command until it ends.

    :param timeout: seconds, after which the command is killed and ToolError raised
    :param ok: return codes that count as success
    :raises ToolMissingError: the tool is not installed
    :raises ToolError: another return code, a signal, or the timeout

    Output goes through pipes, never to a file or tty of the caller: under SELinux semodule's domain may not write those,
    and the kernel then replaces the descriptor by /dev/null and the error text is lost (security/selinux/hooks.c,
    flush_unauthorized_files).
    """
    words, path = _program(argv)
    try:
        done = subprocess.run(
            (path, *words[1:]),
            input=stdin.encode(),
            capture_output=True,
            timeout=timeout,
            check=False,
            cwd=cwd,
            env=_environment(env),
        )
    except subprocess.TimeoutExpired:
        raise _too_long(words, timeout) from None
    except OSError as error:
        raise _not_started(words, error) from error
    return _checked(words, done.returncode, done.stdout, done.stderr, ok)


def run_attended(
    argv: Sequence[str],
    attend: Callable[[], None],
    *,
    pass_fds: Sequence[int],
    timeout: float = DEFAULT_TIMEOUT_S,
    ok: Sequence[int] = (0,),
    cwd: Optional[Path] = None,
    stdin: str = "",
    env: Optional[Mapping[str, str]] = None,
) -> Completed:
    """Run one command as :func:`run` does, and answer it over descriptors of its own while it runs.

    :param attend: called once in this thread as soon as the command has started; another thread drains the output, so that
        the command never blocks on a full pipe. What it raises is raised again when the command has ended.
    :param pass_fds: descriptors that the command inherits; ``attend`` closes this process's copies
    :raises ToolMissingError: the tool is not installed
    :raises ToolError: as for :func:`run`
    """
    from concurrent.futures import ThreadPoolExecutor  # here: it takes 10 ms, and few commands need it

    words, path = _program(argv)
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(
            (path, *words[1:]), stdin=pipe, stdout=pipe, stderr=pipe, cwd=cwd, env=_environment(env), pass_fds=pass_fds
        )
    except OSError as error:
        raise _not_started(words, error) from error
    with child, ThreadPoolExecutor(max_workers=1) as pool:
        output = pool.submit(child.communicate, stdin.encode(), timeout)
        attend()
        try:
            stdout, stderr = output.result()
        except subprocess.TimeoutExpired:
            child.kill()
            raise _too_long(words, timeout) from None
    return _checked(words, child.returncode, stdout, stderr, ok)


def _program(argv: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the words of a command and the path of its program.

    :raises ToolMissingError: the program is not installed
    """
    words = tuple(os.fspath(word) for word in argv)
    path = which(words[0]) if "/" not in words[0] else words[0]
    if path is None or not os.access(path, os.X_OK):
        package = PACKAGES.get(Path(words[0]).name)
        hint = f"install the package {package}" if package else ""
        raise ToolMissingError(f"{words[0]} is not installed", hint, command=shlex.join(words))
    return words, path


def _checked(words: tuple[str, ...], returncode: int, stdout: bytes, stderr: bytes, ok: Sequence[int]) -> Completed:
    completed = Completed(words, returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))
    if returncode in ok:
        return completed
    ended = f"was killed by signal {-returncode}" if returncode < 0 else f"failed with exit code {returncode}"
    output = (completed.stderr.strip() or completed.stdout.strip())[-2000:]
    raise ToolError(
        f"{words[0]} {ended}: {output or 'it printed nothing'}",
        f"run: {completed.command}",
        command=completed.command,
        stderr=completed.stderr,
    )


def _too_long(words: tuple[str, ...], timeout: float) -> ToolError:
    command = shlex.join(words)
    return ToolError(f"{words[0]} had not finished after {timeout:.0f} s", f"run: {command}", command=command)


def _not_started(words: tuple[str, ...], error: OSError) -> ToolError:
    command = shlex.join(words)
    return ToolError(f"{words[0]} could not be started: {error.strerror}", f"run: {command}", command=command)


@contextmanager
def background(
    argv: Sequence[str], *, output: Path, env: Optional[Mapping[str, str]] = None
) -> Iterator[Callable[[], Optional[int]]]:
    """Run a command in the background and end it with SIGTERM. Yields a function that returns its exit code, None while
    it runs.

    :param output: file that receives stdout and stderr
    """
    with output.open("wb") as file:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=_environment(env))
        try:
            yield child.poll
        finally:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _environment(more: Optional[Mapping[str, str]]) -> dict[str, str]:
    return {"PATH": os.environ.get("SEPOLICYD_PATH", SEARCH_PATH), "LC_ALL": "C.UTF-8", "HOME": "/root", **(more or {})}
