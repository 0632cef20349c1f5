"""The `evidence` command: export this host's evidence as a file, and merge the files of many hosts for one review."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Optional

import click

from sepolicyd.cli import terminal
from sepolicyd.cli.options import json_option, profile_option, state_options
from sepolicyd.cli.session import open_session
from sepolicyd.errors import Exit
from sepolicyd.fleet.merge import MergedEvidence
from sepolicyd.fleet.next_host import MIN_HOSTS, NextHost, alone_by_host, next_host
from sepolicyd.fleet.transfer import MergeResult, export_of, merge_directory, one_group, store_merge, write_export


@click.group("evidence")
def evidence_command() -> None:
    """Export this host's evidence, and merge the evidence of many hosts.

    \b
    Example:
      sepolicyd evidence export hub1.json --key /etc/ssh/ssh_host_ed25519_key
    """


@evidence_command.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--host", default="", metavar="NAME", help="Name of this host [default: its node name].")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Sign with this private SSH key.")
@click.option("--details", is_flag=True, help="Keep paths, commands, contexts and raw records; they name users.")
@profile_option
@state_options
def export_command(
    file: Path, host: str, key: Optional[Path], details: bool, profile_name: Optional[str], **paths: Optional[Path]
) -> None:
    """Write this host's evidence to FILE.

    \b
    Example:
      sepolicyd evidence export hub1.json --key /etc/ssh/ssh_host_ed25519_key
    """
    session = open_session(profile_name, **paths)
    export = export_of(session, host or os.uname().nodename, time.time(), details=details)
    write_export(export, file, key)
    signed = "signed" if key is not None else "not signed"
    accesses = terminal.plural(len({access for access, _ in export.evidence}), "access", "accesses")
    terminal.print_err(f"{terminal.escape(str(file))}: {accesses} of {export.host}, {signed}; {export.policy}")


@evidence_command.command("merge")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="DIR", help="Store the merge there, for review with --state DIR."
)
@click.option(
    "--allowed-signers", type=click.Path(path_type=Path), metavar="FILE",
    help="Take only exports that a listed key of their host has signed (ssh-keygen(1)).",
)  # fmt: skip
@click.option("--policy", "wanted", default="", metavar="HASH", help="Merge the hosts of this base policy.")
@json_option
def merge_command(directory: Path, into: Optional[Path], allowed_signers: Optional[Path], wanted: str, as_json: bool) -> int:
    """Merge the exports in DIRECTORY for one review.

    An access reported by only one host becomes a candidate of its own. Hosts with another base policy are kept apart.

    \b
    Example:
      sepolicyd evidence merge exports/ --allowed-signers hosts.keys --into merged
    """
    result = merge_directory(directory, allowed_signers)
    for refused in result.refused:
        terminal.print_err(f"left out: {terminal.escape(refused.file)}: {terminal.escape(refused.text)}")
    merged = one_group(result, wanted)
    estimate = next_host(merged.counts.values(), alone_by_host(merged.hosts, merged.claimed_by.values()))
    if into is not None:
        store_merge(merged, into.absolute())
    if as_json:
        terminal.print_json(_document(result, merged, estimate))
    else:
        terminal.print_out("\n".join(_lines(result, merged, estimate, into)))
    return int(Exit.FINDINGS if result.refused else Exit.DONE)


def _document(result: MergeResult, merged: MergedEvidence, estimate: Optional[NextHost]) -> dict[str, Any]:
    return {
        "profile": merged.profile,
        "policy": merged.policy.to_values(),
        "hosts": list(merged.hosts),
        "signed": result.signed,
        "accesses": [
            {"access": str(access), "hosts": count, "host": merged.claimed_by.get(access)}
            for access, count in sorted(merged.counts.items())
        ],
        "next_host": None if estimate is None else {
            "expected": round(estimate.expected, 2), "upper": estimate.upper, "confidence": round(estimate.confidence, 3),
            "unseen": round(estimate.unseen.unseen, 1),
        },
        "taints": list(merged.taints),
        "refused": [{"file": one.file, "reason": one.refusal.value, "text": one.text} for one in result.refused],
        "other_groups": [
            {"profile": group.profile, "base_modules": group.policy.base_modules, "hosts": list(group.hosts)}
            for group in result.groups if group is not merged
        ],
    }  # fmt: skip


def _lines(result: MergeResult, merged: MergedEvidence, estimate: Optional[NextHost], into: Optional[Path]) -> list[str]:
    hosts = len(merged.hosts)
    lines = [
        f"{terminal.plural(hosts, 'host')} of profile {merged.profile}, {merged.policy}",
        f"{terminal.plural(len(merged.counts), 'access', 'accesses')}, {len(merged.claimed_by)} of them on one host alone:",
    ]
    lines += [f"  {access}  ({host})" for access, host in sorted(merged.claimed_by.items())[:20]]
    if len(merged.claimed_by) > 20:
        lines.append(f"  and {len(merged.claimed_by) - 20} more")
    if estimate is None:
        lines.append(f"an estimate for the next host needs at least {MIN_HOSTS} hosts")
    else:
        lines.append(
            f"the next host is expected to add {estimate.expected:.1f} new accesses, and at most {estimate.upper} with"
            f" {estimate.confidence:.0%} confidence; about {estimate.unseen.unseen:.0f} are still unseen in total (Chao2)"
        )
    if not result.signed:
        lines.append("signatures were not checked, so the origin of the files is unproven (see --allowed-signers)")
    lines += [f"hosts with another base policy, not merged: {', '.join(g.hosts)}" for g in result.groups if g is not merged]
    lines += [f"tainted: {terminal.escape(text)}" for text in merged.taints]
    if into is not None:
        lines.append(f"review with: sepolicyd review --profile {merged.profile} --state {terminal.escape(str(into))}")
    return lines
