"""Build the package (.pp) of a base module with the file contexts of an installation, with or without policy headers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from sepolicyd import process
from sepolicyd.errors import InputError, ToolError, ToolMissingError
from sepolicyd.module.build import build
from sepolicyd.module.source import FileContext, SourceText, render_fc
from sepolicyd.profiles import Profile

LIMITS = "limits.cil"
GENERATED = "generated"  # POLICY/generated/NAME.te: the source expanded with the reference policy's headers
MAKE_TIMEOUT_S = 300.0
GEN_CONTEXT = re.compile(r"^(/\S*)\s+(?:(-[-bcdlps])\s+)?gen_context\(\w+:object_r:(\w+)(?:,\s*\w+)?\)\s*$", re.MULTILINE)
MODULE = re.compile(r"^policy_module\(\s*(\w+)\s*,\s*([0-9.]+)\s*\)", re.MULTILINE)
NOISE = re.compile(r"^\s*(#.*)?$")
TUNABLE = re.compile(r"^gen_tunable\(\s*(\w+)\s*,", re.MULTILINE)


def contexts_of(fc: str) -> tuple[FileContext, ...]:
    """Parse the file contexts of a .fc written with gen_context()."""
    return tuple(FileContext(pattern, type_name, kind) for pattern, kind, type_name in GEN_CONTEXT.findall(fc))


def render_gen_fc(contexts: Iterable[FileContext]) -> str:
    """Return a sorted .fc for the policy headers, whose m4 macros decide whether a context has a level."""
    lines = []
    for item in sorted(set(contexts)):
        kind = f"\t{item.kind}" if item.kind else ""
        lines.append(f"{item.pattern}{kind}\tgen_context(system_u:object_r:{item.type},s0)")
    return "\n".join(lines) + "\n" if lines else ""


def headers_here(headers: Path) -> Optional[Path]:
    """Return the Makefile of the policy headers, None if they are not installed."""
    makefile = headers / "Makefile"
    return makefile if makefile.is_file() else None


def build_base(profile: Profile, contexts: Iterable[FileContext], workdir: Path, *, headers: Path, mls: bool = True) -> Path:
    """Build the base module as a package in ``workdir``.

    With policy headers, the .te is expanded for the installed base policy. Without them, the text in generated/ is used,
    which was expanded with the reference policy's headers.

    :raises ToolError: a compiler rejected the source
    :raises ToolMissingError: there are neither headers nor an expanded text
    """
    te = _read(profile.file(".te"))
    name, version = module_of(te, profile.file(".te"))
    # checked again before they are written to source: patterns come from paths of this machine
    render_fc(contexts, mls=mls)
    if headers_here(headers):
        return _with_headers(profile, name, te, render_gen_fc(contexts), workdir, headers)
    expanded = profile.directory / GENERATED / f"{name}.te"
    if not expanded.is_file():
        hint = "install selinux-policy-dev (Debian) or selinux-policy-devel (Fedora, RHEL)"
        raise ToolMissingError(f"the policy headers that {profile.file('.te')} is written with are not installed", hint)
    return build(SourceText(name, version, _read(expanded), render_fc(contexts, mls=mls), (), ()), workdir, mls=mls)


def limits_of(profile: Profile, name: str, workdir: Path) -> Optional[Path]:
    """Write the CIL module with the constraints on the profile's domains, which the .te of a module cannot contain.

    :param name: name of the base module; the module with constraints is NAME_limits
    :returns: the file in ``workdir``, None for a profile without limits.cil
    """
    source = profile.directory / LIMITS
    if not source.is_file():
        return None
    place = workdir / f"{limits_name(name)}.cil"
    place.write_text(_read(source), encoding="utf-8")
    return place


def limits_name(module: str) -> str:
    """Return the name of the module with constraints for a base module."""
    return f"{module}_limits"


def module_of(te: str, path: Path) -> tuple[str, str]:
    """Return name and version of a module's source.

    :raises InputError: the source has no policy_module() line
    """
    match = MODULE.search(te)
    if match is None:
        raise InputError(f"{path} has no policy_module() line", "add policy_module(NAME, 1.0.0) as the first line")
    return match.group(1), match.group(2)


def booleans_of(te: str) -> tuple[str, ...]:
    """Return the names of the booleans that a module's source declares."""
    return tuple(TUNABLE.findall(te))


def expand(te: str, name: str, workdir: Path, *, headers: Path) -> str:
    """Return the .te with all interfaces expanded by the headers' Makefile, without blank lines and comments.

    :raises ToolError: m4 or checkmodule rejected the source
    """
    (workdir / f"{name}.te").write_text(te, encoding="utf-8")
    for suffix in (".fc", ".if"):
        (workdir / f"{name}{suffix}").touch()
    run_make(headers, f"tmp/{name}.mod", workdir)
    lines = (workdir / "tmp" / f"{name}.tmp").read_text(encoding="utf-8").splitlines()
    return "\n".join(line.rstrip() for line in lines if not NOISE.match(line)) + "\n"


def _with_headers(profile: Profile, name: str, te: str, fc: str, workdir: Path, headers: Path) -> Path:
    (workdir / f"{name}.te").write_text(te, encoding="utf-8")
    (workdir / f"{name}.fc").write_text(fc, encoding="utf-8")
    interface = profile.file(".if")
    (workdir / f"{name}.if").write_text(_read(interface) if interface.is_file() else "", encoding="utf-8")
    run_make(headers, f"{name}.pp", workdir)
    return workdir / f"{name}.pp"


def run_make(headers: Path, target: str, workdir: Path) -> None:
    """Run the headers' Makefile for one target; the headers may be in another directory than where they were installed."""
    argv = ["make", "-s", "-f", str(headers / "Makefile"), f"HEADERDIR={headers / 'include'}", target]
    done = process.run(argv, cwd=workdir, timeout=MAKE_TIMEOUT_S, ok=(0, 1, 2))
    output = f"{done.stdout}\n{done.stderr}".strip()
    # an interface that the headers lack stays in the text, and checkmodule stops there
    if done.returncode or not (workdir / target).is_file():
        raise ToolError(f"the policy headers failed to build {target}: {output[-1500:]}", f"run: {done.command}", stderr=output)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "correct its mode or its text") from None
