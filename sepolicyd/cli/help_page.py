"""Names of the commands with their modules and short helps, and the help page of the whole program.

click takes two thirds of the time of ``sepolicyd --help``, so that this page is made without it; tests/cli/test_help_page.py
compares it with click's.
"""

from __future__ import annotations

import os
import sys
import textwrap

MAX_WIDTH = 110
MIN_WIDTH = 50
DEFAULT_COLUMNS = 80
INDENT = "  "
OPTIONS = (("--version", "Show the version and exit."), ("-h, --help", "Show this message and exit."))

ABOUT = """\
Bring a service under SELinux and end in enforcing.

The daemon collects the denials of one service while it is used. You review them as a few candidates. Approved
accesses are compiled into a module, proved against the policy that it changes, and loaded. A lease makes the
service's domain permissive until a deadline, at which enforcing returns automatically.

\b
Example:
  sepolicyd analyze /var/log/audit/audit.log
"""

# Name -> (module, short help). A module is imported only when its command runs, so that a command does not load setools,
# sqlite or yaml for another; tests/test_docs.py checks that each text equals the command's own.
COMMANDS: dict[str, tuple[str, str]] = {
    "analyze": ("analyze", "Turn audit logs into candidate rules, once, without any state."),
    "apply": ("apply", "Build, prove, load and verify a module of all decisions in force."),
    "approve": ("decide", "Allow what a candidate asks, exactly as shown."),
    "confirm": ("apply", "Keep a module that was applied with --confirm-within."),
    "demo": ("demo", "Replay a captured rollout into a policy store of its own."),
    "deny": ("decide", "Decide that what a candidate asks stays denied."),
    "doctor": ("doctor", "Check the machine for problems that would impair a rollout, and show the fix for each."),
    "dontaudit": ("decide", "Deny what a candidate asks, and stop logging it."),
    "enforce": ("learn", "End the lease now and go back to enforcing."),
    "evidence": ("evidence", "Export this host's evidence, and merge the evidence of many hosts."),
    "explain": ("explain", "Explain what a code means and where it comes from."),
    "history": ("history", "Show decisions, applies, rollbacks and leases, and verify that record."),
    "init": ("init", "Give a service a domain of its own: types, labels and ports."),
    "learn": ("learn", "Make a domain permissive until a deadline, and collect what it needs."),
    "list": ("candidates", "List the candidates that wait for a decision."),
    "metrics": ("metrics", "Print the state of the rollout for Prometheus, or write it to a file."),
    "preview": ("apply", "Show what apply would change, and change nothing."),
    "report": ("report", "Write a report on a service's rollout."),
    "reset": ("decide", "Withdraw a decision; the candidate is pending again."),
    "review": ("review", "Answer the pending candidates one after another."),
    "rollback": ("apply", "Return to the module's previous version."),
    "run": ("run", "Follow the audit log and collect evidence (the daemon)."),
    "show": ("candidates", "Show one candidate with its evidence, fixes and findings."),
    "status": ("status", "Show the rollout on one screen."),
}


def help_page(columns: int) -> str:
    """Return the help page, wrapped to the width of the terminal."""
    width = max(min(columns, MAX_WIDTH) - 2, MIN_WIDTH)
    parts = ["Usage: sepolicyd [OPTIONS] COMMAND [ARGS]...\n\n"]
    for paragraph in ABOUT.strip().split("\n\n"):
        lines = paragraph.split("\n")
        kept = lines[0] == "\b"  # click's mark of lines that stay as they are
        text = textwrap.indent("\n".join(lines[1:]), INDENT) if kept else _filled(" ".join(lines), width, INDENT)
        parts.append(text + "\n\n")
    parts += ["Options:\n", *_definitions(OPTIONS, width), "\nCommands:\n"]
    parts += _definitions(tuple((name, text) for name, (_, text) in sorted(COMMANDS.items())), width)
    return "".join(parts)


def _definitions(rows: tuple[tuple[str, str], ...], width: int) -> list[str]:
    """Return the rows as two columns, with the second column wrapped."""
    first = max(len(name) for name, _ in rows) + 2
    found = []
    for name, text in rows:
        lines = _filled(text, max(width - first - 2, 10), "").split("\n")
        found.append(f"{INDENT}{name:{first}}{lines[0]}\n")
        found += [f"{INDENT}{'':{first}}{line}\n" for line in lines[1:]]
    return found


def _filled(text: str, width: int, indent: str) -> str:
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, replace_whitespace=False)


def terminal_columns() -> int:
    """Return the width of the terminal, as shutil.get_terminal_size finds it."""
    text = os.environ.get("COLUMNS", "")
    columns = int(text) if text.isdecimal() and len(text) < 6 else 0
    if columns <= 0:
        try:
            columns = os.get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ is not None else 0
        except (AttributeError, ValueError, OSError):
            columns = 0
    return columns or DEFAULT_COLUMNS


def print_help() -> int:
    """Print the page; return the exit code."""
    try:
        sys.stdout.write(help_page(terminal_columns()))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
