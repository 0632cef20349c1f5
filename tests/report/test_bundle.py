"""A bundle is deterministic, and its verifier detects every modification."""

from __future__ import annotations

import ast
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.access import Access
from sepolicyd.module.source import FileContext, Provenance, Rule, TypeTransition, render
from sepolicyd.report.archive import CHAIN, SEAL, canonical, content_hash, pack
from sepolicyd.report.bundle import Bundle, make_bundle
from sepolicyd.rollout.apply.rollback import rollback
from sepolicyd.rollout.clock import Moment
from sepolicyd.rollout.lease.lease_records import LeaseBook, LeaseEvent
from sepolicyd.rules.fixes.detail import CreatedLabel, NewLabels, OnlyPermissions, OwnType, PathLabel
from sepolicyd.rules.fixes.fix import FixKind
from sepolicyd.state.decisions import AnswerKind
from tests.paths import ROOT
from tests.report.test_collect import decide, load, observe, session_of
from tests.rollout.apply.world import EXECMEM, OPEN, PORT, READ, WRITE, World, world
from tools import verify_bundle
from tools.verify_bundle import Wrong, verify

pytestmark = pytest.mark.toolchain
NOW = 1.7e9 + 86400
TAMPERINGS = 1000
VAR = Access.of("svc_t", "var_t", "dir", "add_name")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two versions, leases, every kind of decision that changes the module's text, and some that do not."""
    made = world(tmp_path_factory.mktemp("bundle"))
    decide(made, AnswerKind.ALLOW, READ, OPEN, reason="needed \u202e; see \u201c12\u201d\nnext line " + "long " * 80)
    decide(made, AnswerKind.ALLOW, PORT, by="b\x1bob")
    decide(made, AnswerKind.ALLOW, Access.of("svc_t", "missing_t", "file", "read"), reason="not in this policy")
    load(made)
    decide(made, AnswerKind.DENY, EXECMEM, reason="no")
    decide(made, AnswerKind.DONTAUDIT, Access.of("svc_t", "etc_t", "file", "write"), reason="noise")
    only = Access.of("svc_t", "other_t", "process", "signal")
    decide(made, AnswerKind.ALLOW, only, Access.of("svc_t", "other_t", "process", "ptrace"), fix_kind=FixKind.ALLOW,
           fix_detail=OnlyPermissions(("signal",)))  # fmt: skip
    labels = NewLabels((), (PathLabel("/srv/svc(/.*)?", "svc_data_t", "-d"), PathLabel("/srv/x", "svc_data_t")))
    own = OwnType(labels, (CreatedLabel("svc_t", "var_t", "file", "svc_data_t"),), ("add_name",))
    decide(made, AnswerKind.ALLOW, VAR, fix_kind=FixKind.OWN_TYPE, fix_detail=own)
    decide(made, AnswerKind.ALLOW, WRITE)
    decide(made, AnswerKind.RESET, WRITE)
    undo = session_of(made).decisions()
    decide(made, AnswerKind.DENY, READ, by="eve")
    undo.undo_last("eve", 1.7e9)
    undo.close()
    load(made)
    observe(made, [READ, EXECMEM])
    book = LeaseBook(made.settings.rollout_dir)
    book.record(LeaseEvent.OPENED, Moment(1.7e9, 5.0, "boot"), id="a", profile="svc", domains=["svc_t"], deadline_wall=1.7e9)
    return made


@pytest.fixture(scope="module")
def bundle(here: World) -> Bundle:
    return make_bundle(session_of(here), NOW, details=True)


@pytest.fixture(scope="module")
def files(bundle: Bundle) -> dict[str, bytes]:
    return verify_bundle.members(bundle.data)


def content(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name not in (CHAIN, SEAL)}


def test_it_verifies_and_holds_the_records(bundle: Bundle, files: dict[str, bytes], here: World) -> None:
    assert verify(bundle.data, bundle.seal)[0] == files
    place = here.settings.rollout_dir
    assert files["history.jsonl"] == (place / "history.jsonl").read_bytes()
    kept = place / "versions/sepolicyd_svc/2/sepolicyd_svc.te"
    assert files["versions/2/module.te"] == kept.read_bytes()
    assert b"missing_t" not in files["versions/2/module.te"]
    assert b"type_transition svc_t var_t:file svc_data_t;" in files["versions/2/module.te"]
    assert files["versions/2/module.fc"].count(b"\n") == 2
    difference = json.loads(files["difference.json"])
    assert difference["left_out"] == ["svc_t missing_t:file read"]
    assert set(difference["gained"]) == {str(READ), str(OPEN), str(PORT), str(VAR), "svc_t other_t:process signal"}


def test_the_same_records_give_the_same_bytes(here: World, bundle: Bundle) -> None:
    assert make_bundle(session_of(here), NOW, details=True).data == bundle.data


def test_tar_reads_it(bundle: Bundle, files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar"
    path.write_bytes(bundle.data)
    listed = subprocess.run(["tar", "-tf", str(path)], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == list(files)
    assert not listed.stderr
    subprocess.run(["tar", "-xf", str(path), "-C", str(tmp_path), "versions/2/module.te"], check=True)
    assert (tmp_path / "versions/2/module.te").read_bytes() == files["versions/2/module.te"]


# -- tampering -------------------------------------------------------------------------------------------------------------


def flip(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


def delete(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.choice((1, 2, 17, 512, 1024)) :]


def insert(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    place = chance.randrange(len(data) + 1)
    return data[:place] + chance.randbytes(chance.choice((1, 3, 512))) + data[place:]


def swap_blocks(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    blocks = [data[place : place + 512] for place in range(0, len(data), 512)]
    one, two = chance.sample(range(len(blocks)), 2)
    blocks[one], blocks[two] = blocks[two], blocks[one]
    return b"".join(blocks)


def drop_file(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    gone = chance.choice(list(files))
    return repack({name: text for name, text in files.items() if name != gone})


def add_file(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    items = list(files.items())
    items.insert(chance.randrange(len(items) + 1), (f"base/extra{chance.randrange(99)}.te", b"allow a b:c d;\n"))
    return repack(dict(items))


def swap_files(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    names = list(files)
    one, two = chance.sample(names, 2)
    if chance.random() < 0.5:  # their contents, or their places
        return repack({**files, one: files[two], two: files[one]})
    places = {one: two, two: one}
    return repack({places.get(name, name): files[places.get(name, name)] for name in names})


def edit_line(files: dict[str, bytes], chance: random.Random) -> dict[str, bytes]:
    """A file with a line changed, dropped, doubled or moved."""
    name = chance.choice([name for name, text in files.items() if text.count(b"\n") > 1 and name not in (CHAIN, SEAL)])
    lines = files[name].splitlines(keepends=True)
    place = chance.randrange(len(lines))
    how = chance.randrange(4)
    if how == 0:
        words = lines[place]
        spot = chance.randrange(len(words))
        lines[place] = words[:spot] + bytes([chance.randrange(32, 127)]) + words[spot + 1 :]
    elif how == 1:
        del lines[place]
    elif how == 2:
        lines.insert(place, lines[place])
    else:
        lines.insert(chance.randrange(len(lines)), lines.pop(place))
    return {**files, name: b"".join(lines)}


def edit(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    return repack(edit_line(files, chance))


def rehash_file(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    """An edit, and the hash of the file in its line of the chain; or also the hash of that line."""
    made = edit_line(files, chance)
    lines = [json.loads(line) for line in made[CHAIN].splitlines()]
    for line in lines:
        if hashlib.sha256(made[line["name"]]).hexdigest() != line["sha256"]:
            line.update(sha256=hashlib.sha256(made[line["name"]]).hexdigest(), size=len(made[line["name"]]))
            if chance.random() < 0.5:
                del line["hash"]
                line["hash"] = hashlib.sha256(canonical(line)).hexdigest()
    return repack({**made, CHAIN: b"".join(canonical(line) + b"\n" for line in lines)})


def rehash_chain(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    """An edit, and the whole chain computed anew; the seal is the old one."""
    fresh = verify_bundle.members(pack(content(edit_line(files, chance)))[0])
    return repack({**fresh, SEAL: files[SEAL]})


def rehash_chain_and_seal(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    """An edit, and chain and seal computed anew; bundle.json has the hash of the old files."""
    return pack(content(edit_line(files, chance)))[0]


def rehash_content(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    """An edit, and the hash of all files in bundle.json computed anew; the chain is the old one."""
    try:
        return repack({**rehashed(content(edit_line(files, chance))), CHAIN: files[CHAIN], SEAL: files[SEAL]})
    except ValueError:  # the edit was in bundle.json, which is no JSON any more
        return data


def rehash_seal(data: bytes, files: dict[str, bytes], chance: random.Random) -> bytes:
    """An edit, and a new seal over the old chain."""
    made = edit_line(files, chance)
    return repack({**made, SEAL: hashlib.sha256(made["bundle.json"]).hexdigest().encode() + b"\n"})


def repack(files: dict[str, bytes]) -> bytes:
    """An archive of exactly these files, with headers that are right."""
    return b"".join(
        verify_bundle.header(name, len(text)) + text + bytes(-len(text) % 512) for name, text in files.items()
    ) + bytes(1024)


Tampering = Callable[[bytes, dict[str, bytes], random.Random], bytes]
ALL: tuple[Tampering, ...] = (
    flip, delete, insert, swap_blocks, drop_file, add_file, swap_files, edit, rehash_file, rehash_chain,
    rehash_chain_and_seal, rehash_content, rehash_seal,
)  # fmt: skip


def refused(data: bytes, seal: str = "") -> bool:
    try:
        verify(data, seal)
    except (Wrong, NotImplementedError, LookupError, TypeError, ValueError, AttributeError):
        return True
    return False


def test_a_thousand_tamperings_are_found(bundle: Bundle, files: dict[str, bytes]) -> None:
    chance = random.Random(17)
    missed, done, wanted = [], 0, TAMPERINGS
    while done < wanted:
        how = ALL[done % len(ALL)]
        altered = how(bundle.data, files, chance)
        if altered == bundle.data:
            done += 1  # two equal blocks, or a byte replaced by itself: take the next kind, and one more at the end
            wanted += 1
            continue
        done += 1
        if not refused(altered):
            missed.append((done, how.__name__))
    assert missed == []


def test_with_the_seal_even_a_bundle_with_new_hashes_is_found(bundle: Bundle, files: dict[str, bytes]) -> None:
    chance = random.Random(18)
    for _ in range(100):
        made = content(edit_line(files, chance))
        if made != content(files):
            assert refused(pack(made)[0])  # bundle.json still has the hash of the old files
            with suppress(ValueError):
                assert refused(pack(rehashed(made))[0], bundle.seal)


def resealed(files: dict[str, bytes], **changed: bytes) -> bytes:
    """Every hash above the changed files computed anew."""
    return pack(rehashed({**content(files), **changed}))[0]


def rehashed(files: dict[str, bytes]) -> dict[str, bytes]:
    """With the hash of all files in bundle.json computed anew."""
    about = json.loads(files["bundle.json"])
    about["content"] = content_hash({name: data for name, data in files.items() if name != "bundle.json"})
    return {**files, "bundle.json": canonical(about) + b"\n"}


def rows_with(files: dict[str, bytes], place: int, **changed: Any) -> bytes:
    rows = [json.loads(line) for line in files["decisions.jsonl"].splitlines()]
    rows[place].update(changed)
    return b"".join(canonical(row) + b"\n" for row in rows)


@pytest.mark.parametrize(
    "changed", [{"reason": "another"}, {"by": "mallory"}, {"at": 1.7e9 + 60}, {"answer": "deny"}, {"undoes": 2}, {"id": 99}]
)
def test_another_decision_gives_another_text(files: dict[str, bytes], changed: dict[str, Any]) -> None:
    """Even with all hashes computed anew the text of the module and the decisions disagree."""
    assert refused(resealed(files, **{"decisions.jsonl": rows_with(files, 0, **changed)}))


def test_parts_that_disagree_are_found_with_all_hashes_computed_anew(files: dict[str, bytes]) -> None:
    text = files["versions/2/module.te"].replace(b"svc_data_t:file { open read }", b"svc_data_t:file { open read write }")
    assert text != files["versions/2/module.te"]
    version = json.loads(files["versions/2/version.json"])
    version["rules"].append(["allow", *WRITE.group, "write", []])
    difference = json.loads(files["difference.json"])
    attempts: list[dict[str, bytes]] = [
        {"versions/2/module.te": text},
        {"versions/2/version.json": canonical(version)},
        {"versions/2/module.te": text, "versions/2/version.json": canonical(version)},
        {"difference.json": canonical({**difference, "gained": difference["gained"][1:]})},
        {"difference.json": canonical({**difference, "left_out": []})},
        {"versions/2/module.fc": files["versions/2/module.fc"].replace(b"/srv", b"/etc")},
        {"versions/2/module.pp": files["versions/2/module.pp"] + b"\0"},
        {"history.jsonl": files["history.jsonl"].replace(b"alice", b"mally")},
        {"history.jsonl": b"".join(files["history.jsonl"].splitlines(keepends=True)[:-1])},
        {"leases.jsonl": b""},
    ]
    for attempt in attempts:
        assert refused(resealed(files, **attempt)), list(attempt)


def test_an_altered_history_is_said_when_the_bundle_is_written(tmp_path: Path) -> None:
    made = world(tmp_path)
    decide(made, AnswerKind.ALLOW, READ)
    load(made)
    path = made.settings.rollout_dir / "history.jsonl"
    path.write_text(path.read_text().replace('"alice"', '"mally"'))
    bundle = make_bundle(session_of(made), NOW, details=False)
    assert not bundle.sound
    assert refused(bundle.data)


def test_another_version_is_said(files: dict[str, bytes], tmp_path: Path) -> None:
    about = json.loads(files["bundle.json"])
    path = tmp_path / "bundle"
    path.write_bytes(resealed(files, **{"bundle.json": canonical({**about, "version": 2})}))
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tools/verify_bundle.py"), str(path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "version 2, and this program verifies version 1" in ran.stderr


def test_a_policy_that_has_changed_since_is_said(tmp_path: Path) -> None:
    made = world(tmp_path)
    decide(made, AnswerKind.ALLOW, READ)
    load(made)
    before = make_bundle(session_of(made), NOW, details=False)
    assert not [note for note in before.notes if "has changed since" in note]
    assert verify(before.data, policy=made.policy())[1] == list(before.notes)
    path = tmp_path / "other.cil"
    path.write_text("(type stranger_t)\n(roletype object_r stranger_t)\n")
    made.store.install([path], 400)
    assert "has changed since" in verify(before.data, policy=made.policy())[1][-1]
    after = make_bundle(session_of(made), NOW, details=False)
    assert "has changed since" in verify(after.data)[1][-1]


def test_a_rollback_to_a_part_verifies(tmp_path: Path) -> None:
    from sepolicyd.rollout.apply.desired_policy import desired_policy

    made = world(tmp_path)
    decide(made, AnswerKind.ALLOW, READ, WRITE)
    load(made)
    decide(made, AnswerKind.ALLOW, PORT)
    load(made)
    decide(made, AnswerKind.DENY, WRITE)
    store = session_of(made).decisions()
    rollback(made.settings, "svc", by="ada", to=1, still=desired_policy(store.decided()))
    store.close()
    bundle = make_bundle(session_of(made), NOW, details=False)
    found, _ = verify(bundle.data)
    assert json.loads(found["difference.json"])["gained"] == [str(READ)]
    rollback(made.settings, "svc", by="ada", to=0)
    empty, _ = verify(make_bundle(session_of(made), NOW, details=False).data)
    assert json.loads(empty["difference.json"])["gained"] == []


def test_a_text_that_the_decisions_do_not_give_is_said_and_does_not_verify(tmp_path: Path) -> None:
    made = world(tmp_path)
    decide(made, AnswerKind.ALLOW, READ)
    load(made)
    path = made.settings.rollout_dir / "versions/sepolicyd_svc/1/sepolicyd_svc.te"
    path.write_text(path.read_text() + "# by an earlier sepolicyd\n")
    bundle = make_bundle(session_of(made), NOW, details=False)
    assert not bundle.sound
    assert [note for note in bundle.notes if "does not follow from the decisions" in note]
    with pytest.raises(Wrong, match="does not follow from the decisions"):
        verify(bundle.data)


def test_a_rollout_that_has_not_begun_verifies(tmp_path: Path) -> None:
    made = world(tmp_path)
    bundle = make_bundle(session_of(made), NOW, details=False)
    assert verify(bundle.data)[1] == list(bundle.notes)


@pytest.mark.parametrize("seed", range(150))
def test_the_verifier_writes_the_module_as_sepolicyd_does(seed: int) -> None:
    """Random rules, transitions and ioctl numbers: the two programs share no code."""
    chance = random.Random(seed)
    types = ["a_t", "b_t", "c_t", "self", "d-e_t"]
    rules = {}
    for number in range(chance.randrange(30)):
        permission = chance.choice(["read", "ioctl", "nlmsg", "open"])
        ranges = tuple(sorted({(low, low + chance.randrange(3)) for low in chance.choices(range(40), k=chance.randrange(4))}))
        source = chance.choice(types[:3])
        target = chance.choice([one for one in types if one != source])
        access = Access(
            source, target, chance.choice(["file", "dir"]), permission, ranges if permission in ("ioctl", "nlmsg") else ()
        )
        reason = "".join(chance.choices('ab \u202e\u00e9\n\\"', k=chance.choice((0, 5, 400))))
        origin = Provenance(str(number), "ada", 1.7e9 + number, reason) if chance.random() < 0.8 else None
        rules[access, chance.choice(["allow", "dontaudit"])] = origin
    moves = [
        TypeTransition("a_t", chance.choice(types[:3]), "file", chance.choice(types[:3])) for _ in range(chance.randrange(3))
    ]
    made = render("mod_x", 3, [Rule(access, kind, origin) for (access, kind), origin in rules.items()], (), moves)
    rows = {
        ((a.source, a.target, a.tclass, a.permission, a.xperms), kind):
            None if one is None else {"id": int(one.decision), "by": one.by, "at": one.at, "reason": one.reason}
        for (a, kind), one in rules.items()
    }  # fmt: skip
    assert not made.refused
    moved = sorted({(move.source, move.target, move.tclass, move.type) for move in moves})
    assert verify_bundle.render_te("mod_x", 3, rows, moved) == made.te


def test_the_verifier_is_short_and_needs_nothing_but_python() -> None:
    source = (ROOT / "tools/verify_bundle.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 300
    tree = ast.parse(source, feature_version=(3, 9))
    names = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= set(sys.stdlib_module_names)


def test_it_runs_without_this_checkout(bundle: Bundle, tmp_path: Path) -> None:
    path, program = tmp_path / "bundle", tmp_path / "verify.py"
    program.write_bytes((ROOT / "tools/verify_bundle.py").read_bytes())

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        argv = ["/usr/bin/python3", "-I", "-S", str(program), str(path), *more]
        return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)

    path.write_bytes(bundle.data)
    ran = run("--seal", bundle.seal)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert bundle.seal in ran.stdout
    assert run("--seal", "0" * 64).returncode == 1
    path.write_bytes(bundle.data.replace(b"alice", b"mally"))
    ran = run()
    assert ran.returncode == 1
    assert "NOT VERIFIED" in ran.stdout


def test_file_contexts_without_levels(tmp_path: Path) -> None:
    made = render("m", 1, [], [FileContext("/a", "a_t", "--")], mls=False)
    assert made.fc == "/a\t--\tsystem_u:object_r:a_t\n"


def test_evidence_is_anonymous_unless_asked(here: World) -> None:
    def evidence(*, details: bool) -> dict[str, Any]:
        return dict(
            json.loads(verify_bundle.members(make_bundle(session_of(here), NOW, details=details).data)["evidence.json"])
        )

    plain, full = evidence(details=False), evidence(details=True)
    assert [one["evidence"].get("times") for one in plain["accesses"]] == [None, None]
    assert all(one["evidence"]["times"] for one in full["accesses"])
