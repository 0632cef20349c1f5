"""Verify a file that `sepolicyd report --bundle` has written, without sepolicyd (format: docs/bundle.md).

usage: python3 verify_bundle.py BUNDLE [--seal HASH] [--policy FILE]

Standard library only, Python 3.9 or later. Exit code 0: verified; 1: altered, or its parts disagree; 2: it cannot be read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

FORMAT, VERSION, START = "sepolicyd-bundle", 1, "0" * 64
NAME = re.compile(r"[a-z]+(/[A-Za-z0-9][A-Za-z0-9_.-]{0,80}){0,2}(\.[a-z]+)?\Z")
ERRORS = ("security_bounded_transition", "security_compute_sid", "security_validate_transition")
RULE_FIXES = ("", "allow", "interface", "dontaudit")
Access = tuple[str, str, str, str, tuple[tuple[int, int], ...]]  # source, target or "self", class, permission, ioctl numbers
Rule = tuple[Access, str]  # and "allow" or "dontaudit"


class Wrong(Exception):
    """The bundle is altered, or its parts disagree."""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def loads(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Wrong(f"{what} is not JSON") from error


def header(name: str, size: int) -> bytes:
    """The only header that a file of this name and size may have (ustar, mode 0644, no owner, time 0)."""
    fields = (name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0" * 2, b"%011o\0" % size, b"0" * 11 + b"\0")
    rest = b"0".ljust(101, b"\0") + b"ustar\x0000" + b"\0" * 64 + b"0000000\0" * 2 + b"\0" * 167
    return (block := b"".join(fields) + b" " * 8 + rest).replace(b" " * 8, b"%06o\0 " % sum(block), 1)


def members(data: bytes) -> dict[str, bytes]:
    """Every file of the archive in its order; any byte that its writer would not have written is an error."""
    found: dict[str, bytes] = {}
    place = 0
    while data[place : place + 1] not in (b"", b"\0"):
        block = data[place : place + 512]
        name = block[:100].rstrip(b"\0").decode("ascii", "replace")
        size = int(block[124:135], 8) if block[124:135].isdigit() else -1
        content = data[place + 512 : place + 512 + size]
        if name in found or not NAME.match(name) or size < 0 or block != header(name, size) or len(content) != size:
            raise Wrong(f"the archive is damaged or altered at byte {place}, file {name[:60]!r}")
        found[name] = content
        end = place + 512 + size
        place = end + -size % 512
        if data[end:place].strip(b"\0"):
            raise Wrong(f"there are bytes between the files, after {name}")
    if data[place:] != b"\0" * 1024:
        raise Wrong("the archive does not end where it should")
    return found


def check_chain(files: dict[str, bytes], seal: str) -> None:
    """Each line of chain.jsonl holds the hash of one file and of the line before; the seal holds the hash of all lines."""
    names, previous = list(files), START
    lines = files.get("chain.jsonl", b"").split(b"\n")
    if names[-2:] != ["chain.jsonl", "seal"] or len(lines) != len(names) - 1 or lines[-1]:
        raise Wrong(f"chain.jsonl and seal are not the last files, or have not a line for each of {len(names) - 2} files")
    for number, (name, line) in enumerate(zip(names, lines[:-1]), 1):
        value = {"number": number, "name": name, "size": len(files[name]), "sha256": sha(files[name]), "previous": previous}
        previous = value["hash"] = sha(canonical(value))
        if line != canonical(value):
            raise Wrong(f"{name} is not the file that line {number} of chain.jsonl describes")
    own = sha(files["chain.jsonl"])
    if files["seal"] != own.encode() + b"\n":
        raise Wrong("the seal is not that of chain.jsonl")
    if seal and seal != own:
        raise Wrong(f"the seal is {own}, not the one given: this is another bundle")


def check_record(name: str, data: bytes, head: Optional[bytes]) -> list[dict[str, Any]]:
    """The lines of history.jsonl or leases.jsonl: each holds the hash of the one before, the head that of the last."""
    lines, number, digest = [], 0, START
    for text in data.splitlines():
        line = loads(text, f"line {number + 1} of {name}")
        body = {key: value for key, value in line.items() if key != "hash"}
        if sha(canonical(body)) != line.get("hash") or line.get("number") != number + 1 or line.get("previous") != digest:
            raise Wrong(f"line {number + 1} of {name} was altered, or one before it is missing")
        number, digest = line["number"], line["hash"]
        lines.append(line)
    last = loads(head, f"the head of {name}") if head is not None else {"number": 0, "hash": START}
    if (last.get("number"), last.get("hash")) != (number, digest):
        raise Wrong(f"{name} does not end with the line that its head names")
    return lines


def access_of(value: Sequence[Any]) -> Access:
    return (value[0], value[1], value[2], value[3], tuple((low, high) for low, high in value[4]))


def spans(ranges: Iterable[tuple[int, int]]) -> str:
    return " ".join(f"{low:#x}" if low == high else f"{low:#x}-{high:#x}" for low, high in ranges)


def text_of(access: Access) -> str:
    return f"{access[0]} {access[1]}:{access[2]} {access[3]} {spans(access[4])}".rstrip()


def standing(rows: Iterable[dict[str, Any]], last: int) -> dict[Access, dict[str, Any]]:
    """The decision in force for each access after the decision with the number ``last``."""
    until = [row for row in rows if row["id"] <= last]
    undone = {row["undoes"] for row in until}
    decided: dict[Access, dict[str, Any]] = {}
    for row in until:
        if row["id"] not in undone and row["answer"] != "undo":
            decided.update((access_of(access), row) for access in row["accesses"])
    return {access: row for access, row in decided.items() if row["answer"] != "reset"}


def kind_of(row: dict[str, Any], access: Access) -> str:
    """allow, dontaudit, or "" where the decision makes no rule."""
    detail, fix = row["fix_detail"], row["fix_kind"]
    if access[3] in ERRORS or row["answer"] not in ("allow", "dontaudit"):
        return ""
    if row["answer"] == "dontaudit" or fix == "dontaudit":
        return "dontaudit"
    names = detail.get("only", [access[3]]) if fix in RULE_FIXES else detail.get("allow", ())
    return "allow" if access[3] in names else ""


def comment(row: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(row["at"], timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = f"decision {row['id']} by {row['by']} at {when}" + (f": {row['reason']}" if row["reason"] else "")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return shown if len(shown) <= 320 else shown[:317] + "..."


def numbers(accesses: Iterable[Access]) -> Iterator[tuple[str, str]]:
    """(permission, its ioctl numbers) of a group, where any are decided; without numbers a permission means all of them."""
    for name in sorted({access[3] for access in accesses if access[4]}):
        joined: list[tuple[int, int]] = []
        for low, high in sorted({span for access in accesses if access[3] == name for span in access[4] or ((0, 0xFFFF),)}):
            if joined and low <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
            else:
                joined.append((low, high))
        yield name, spans(joined)


def statements(source: str, target: str, tclass: str, kind: str, group: dict[Access, Optional[dict[str, Any]]]) -> list[str]:
    origins: dict[str, set[str]] = {}
    for access, row in group.items():
        if row is not None:
            origins.setdefault(comment(row), set()).add(access[3])
    lines = [f"# {' '.join(sorted(names))}: {text}" for text, names in sorted(origins.items())]
    lines.append(f"{kind} {source} {target}:{tclass} {{ {' '.join(sorted({access[3] for access in group}))} }};")
    return lines + [f"{kind}xperm {source} {target}:{tclass} {name} {{ {text} }};" for name, text in numbers(group)]


def render_te(name: str, version: int, rules: dict[Rule, Optional[dict[str, Any]]], moves: Sequence[Sequence[str]]) -> str:
    """The module's source, as sepolicyd.module.source writes it. Rules on foreign types stand in optional blocks."""
    own = {access[0] for access, _ in rules} | {move[0] for move in moves}
    groups: dict[tuple[str, str, str, str], dict[Access, Optional[dict[str, Any]]]] = {}
    classes: dict[str, set[str]] = {move[2]: set() for move in moves}
    for access, kind in rules:
        groups.setdefault((access[0], access[1], access[2], kind), {})[access] = rules[access, kind]
        classes.setdefault(access[2], set()).add(access[3])
    blocks: dict[tuple[str, ...], list[str]] = {}
    for key in sorted(groups):
        blocks.setdefault(tuple({key[1]} - own - {"self"}), []).extend(statements(*key, groups[key]))
    for move in moves:
        line = f"type_transition {move[0]} {move[1]}:{move[2]} {move[3]};"
        blocks.setdefault(tuple(sorted({move[1], move[3]} - own)), []).append(line)
    needs = [f"\ttype {one};" for one in sorted(own)]
    needs += [f"\tclass {one} {{ {' '.join(sorted(classes[one] or {'create'}))} }};" for one in sorted(classes)]
    parts = [f"# {name} {version}.0: made by sepolicyd out of decisions; an edit here is never read back.\n"]
    parts += [f"module {name} {version}.0;\n", "\n".join(["require {", *(needs or ["\trole object_r;"]), "}", ""])]
    for foreign in sorted(blocks):
        required = " ".join(f"type {one};" for one in foreign)
        inner = [f"\trequire {{ {required} }}", *(f"\t{line}" for line in blocks[foreign])]
        parts.append("\n".join([*(["optional {", *inner, "}"] if foreign else blocks[foreign]), ""]))
    return "\n".join(parts)


def check_module(about: dict[str, Any], files: dict[str, bytes], rows: list[dict[str, Any]], left_out: list[str]) -> None:
    """Rebuild the text of the installed version from the decisions, byte for byte."""
    number, place = about["installed"], f"versions/{about['installed']}"
    version = loads(files[f"{place}/version.json"], f"{place}/version.json")
    kept = {(access_of(one[1:]), one[0]) for one in version["rules"]}
    if not kept <= {(access, kind_of(row, access)) for row in rows for access in map(access_of, row["accesses"])}:
        raise Wrong(f"version {number} holds a rule that no decision has ever asked for")
    # a rollback may have written a part of an earlier version anew, without the decisions in comments
    rules: dict[Rule, Optional[dict[str, Any]]] = dict.fromkeys(kept)
    contexts: Iterable[tuple[str, ...]] = map(tuple, version["contexts"])
    moves: Iterable[tuple[str, ...]] = map(tuple, version["transitions"])
    if about["origin"] == "apply":
        decided = standing(rows, about["decisions"])
        rules = {(access, kind_of(row, access)): row for access, row in decided.items() if kind_of(row, access)}
        rules = {rule: row for rule, row in rules.items() if text_of(rule[0]) not in left_out}
        details = [r["fix_detail"] for r in decided.values() if r["answer"] == "allow" and r["fix_kind"] not in RULE_FIXES]
        contexts = ((c["pattern"], c["type"], c.get("kind", "")) for d in details for c in d.get("contexts", ()))
        moves = ((m["source"], m["target"], m["class"], m["type"]) for d in details for m in d.get("transitions", ()))
    if set(rules) != kept:
        raise Wrong(f"version {number} does not hold the rules that the decisions ask for")
    if render_te(about["module"], number, rules, sorted(set(moves))).encode() != files[f"{place}/module.te"]:
        raise Wrong(f"the text of version {number} does not follow from the decisions")
    end = ":s0\n" if about["mls"] else "\n"
    fc = "".join(f"{p}{chr(9) + k if k else ''}\tsystem_u:object_r:{t}{end}" for p, t, k in sorted(set(contexts)))
    if fc.encode() != files[f"{place}/module.fc"]:
        raise Wrong(f"the file contexts of version {number} do not follow from the decisions")
    if version["modules"].get(about["module"]) != sha(files[f"{place}/module.pp"]):
        raise Wrong(f"the package of version {number} is not the one that was loaded")


def key_of(access: str, aliases: dict[str, str]) -> tuple[str, ...]:
    return tuple(aliases.get(word, word) for word in access.replace(":", " ").split()[:4])


def check_difference(about: dict[str, Any], files: dict[str, bytes], history: list[dict[str, Any]], claimed: list[str]) -> None:
    """Recompute from the history what the installed version gains, and check each version's gains against its rules."""
    gains: dict[int, set[str]] = {0: set()}
    installed, package = 0, None
    for one in (one for one in history if one["module"] == about["module"] and one["what"] != "confirm"):
        installed, details = one["version"], one["details"]
        package = details.get("module")
        held = loads(files[f"versions/{installed}/version.json"], f"version {installed}")["rules"] if installed else []
        keys = {key_of(text_of(access_of(rule[1:])), about["aliases"]) for rule in held if rule[0] == "allow"}
        if one["what"] == "apply":
            gains[installed] = (gains.get(details["previous"], set()) - set(details["lost"])) | set(details["gained"])
        elif installed not in gains:
            gains[installed] = {text for text in set().union(*gains.values()) if key_of(text, about["aliases"]) in keys}
        if not {key_of(text, about["aliases"]) for text in gains[installed]} <= keys:
            raise Wrong(f"version {installed} has gained what none of its rules gives")
    if installed != about["installed"]:
        raise Wrong(f"the history ends with version {installed}, the bundle says {about['installed']}")
    if sorted(gains[installed]) != claimed:
        raise Wrong("difference.json is not the difference that the history records")
    if package and package != sha(files[f"versions/{installed}/module.pp"]):
        raise Wrong(f"the package of version {installed} is not the one that the history names")


def verify(data: bytes, seal: str = "", policy: Optional[bytes] = None) -> tuple[dict[str, bytes], list[str]]:
    """Check everything; return the files and remarks. :raises Wrong: the first thing that is wrong"""
    files = members(data)
    about = loads(files.get("bundle.json", b""), "bundle.json")
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise Wrong("it is no bundle of sepolicyd")
    if about.get("version") != VERSION:
        raise NotImplementedError(
            f"it is a bundle of version {about.get('version')!r}, and this program verifies version {VERSION}"
        )
    check_chain(files, seal)
    if about.get("content") != sha(canonical({name: sha(files[name]) for name in list(files)[1:-2]})):
        raise Wrong("bundle.json was written for other files")
    history = check_record("history.jsonl", files["history.jsonl"], files.get("history.head"))
    check_record("leases.jsonl", files["leases.jsonl"], files.get("leases.head"))
    rows = [loads(line, "decisions.jsonl") for line in files["decisions.jsonl"].splitlines()]
    claimed = loads(files["difference.json"], "difference.json")
    if about["installed"]:
        check_module(about, files, rows, claimed["left_out"])
    check_difference(about, files, history, claimed["gained"])
    remarks = list(about["notes"])
    if policy is not None and about["policy"]["linked"] and sha(policy) != about["policy"]["linked"]:
        remarks.append("the policy that was given is not the one that was loaded: it has changed since")
    return files, remarks


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description="Verify a bundle of `sepolicyd report --bundle`.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seal", default="", help="the seal that was printed when the bundle was written")
    parser.add_argument("--policy", type=Path, help="the store's policy.kern, to see whether it has changed since")
    given = parser.parse_args(arguments)
    try:
        files, remarks = verify(given.bundle.read_bytes(), given.seal, given.policy and given.policy.read_bytes())
    except (OSError, NotImplementedError) as error:
        print(f"{given.bundle}: {error}", file=sys.stderr)
        return 2
    except (Wrong, LookupError, TypeError, ValueError, AttributeError) as error:
        print(f"{given.bundle}: NOT VERIFIED: {error if isinstance(error, Wrong) else f'{type(error).__name__}: {error}'}")
        return 1
    print(f"{given.bundle}: verified, {len(files)} files, seal {files['seal'].decode().strip()}")
    print("".join(f"note: {ascii(text)[1:-1]}\n" for text in remarks), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
