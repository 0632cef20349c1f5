"""Module source is a function of the set of rules, compiles for any log content, and contains exactly the rules."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sepolicyd.access import Access
from sepolicyd.errors import RefusedError, ToolError
from sepolicyd.module.build import build, workdir
from sepolicyd.module.source import (
    DONTAUDIT,
    RESERVED,
    FileContext,
    Provenance,
    Rule,
    TypeTransition,
    render,
    render_fc,
    render_te,
)
from sepolicyd.policy.delta import difference
from sepolicyd.policy.index import PolicyIndex
from tests.rollout.apply.world import make_store

A = Access.of
TYPES = ("svc_t", "other_t", "etc_t", "var_t", "svc_data_t")
PERMISSIONS = {
    "file": ("read", "write", "open", "map", "lock"),
    "dir": ("search", "open", "read"),
    "process": ("signal", "ptrace"),
}
WORDS = st.one_of(
    st.sampled_from([*sorted(RESERVED), *TYPES, "self", "a.b", "a-b", "a_", "x--y", "r1x", "ipv4", "1t", "", "*", "~"]),
    st.text(max_size=12),
    st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,10}", fullmatch=True),
)
HOSTILE = st.builds(Access, WORDS, WORDS, WORDS, WORDS)
KNOWN = st.one_of(
    *(
        st.builds(Access.of, st.sampled_from(TYPES[:2]), st.sampled_from(TYPES), st.just(tclass), st.sampled_from(permissions))
        for tclass, permissions in PERMISSIONS.items()
    )
)
TEXTS = st.text(max_size=300)


@given(st.lists(KNOWN, max_size=25), st.randoms(use_true_random=False))
def test_the_text_is_a_function_of_the_set_of_rules(accesses: list[Access], chance: random.Random) -> None:
    rules = [Rule(access, chance.choice(("allow", DONTAUDIT))) for access in accesses]
    shuffled = [*rules, *rules[:3]]
    chance.shuffle(shuffled)
    assert render("m", 1, rules) == render("m", 1, shuffled)


@given(st.lists(st.builds(Rule, KNOWN, st.just("allow"), st.builds(Provenance, TEXTS, TEXTS, st.floats(), TEXTS)), max_size=5))
def test_what_people_wrote_never_leaves_its_comment(rules: list[Rule]) -> None:
    bare = render("m", 1, [Rule(rule.access, rule.kind) for rule in rules]).te
    text = render("m", 1, rules).te
    assert text.isprintable() or set("".join(char for char in text if not char.isprintable())) <= {"\n", "\t"}
    assert [line for line in text.split("\n") if not line.strip().startswith("# ")] == [
        line for line in bare.split("\n") if not line.strip().startswith("# ")
    ]


@pytest.mark.toolchain
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(HOSTILE, max_size=8))
def test_checkmodule_takes_it_whatever_the_log_held(accesses: list[Access]) -> None:
    source = render_te("m", accesses)
    assert {rule.access for rule in source.rules} | {item.access for item in source.refused} == set(accesses)
    with workdir("test") as place:
        (place / "m.te").write_text(source.te, encoding="utf-8")
        argv = ["checkmodule", "-M", "-m", "-o", str(place / "m.mod"), str(place / "m.te")]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stderr, source.te)


@pytest.mark.toolchain
def test_each_reserved_word_is_one(tmp_path: Path) -> None:
    """Tried against checkmodule itself, so that the list neither lacks a word nor refuses a good name."""
    good = ["other", "notself", "path", "filename", "version", "low_high", "default", "conditional", "any", "ioctl", "number"]
    wrong = []
    for word in [*sorted(RESERVED), *good, *(word.capitalize() for word in sorted(RESERVED))]:
        (tmp_path / "m.te").write_text(
            f"module m 1.0;\nrequire {{ type {word}; class c {{ p }}; }}\nallow {word} {word}:c p;\n"
        )
        argv = ["checkmodule", "-M", "-m", "-o", str(tmp_path / "m.mod"), str(tmp_path / "m.te")]
        taken = subprocess.run(argv, capture_output=True, check=False).returncode == 0
        if taken == (word in RESERVED):
            wrong.append(word)
    assert not wrong


@pytest.mark.toolchain
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.frozensets(KNOWN, min_size=1, max_size=20))
def test_the_linked_policy_gains_what_was_decided_and_nothing_else(accesses: frozenset[Access]) -> None:
    with workdir("test") as place:
        store = make_store(place / "root")
        before = place / "before"
        before.write_bytes(store.policy().read_bytes())
        package = build(render("m", 1, map(Rule, accesses)), place)
        store.install([package], 360)
        gained = difference(before, store.policy()).gained
    assert gained == accesses


@pytest.mark.toolchain
def test_a_type_that_an_update_takes_away_takes_its_rules_with_it_and_no_more(tmp_path: Path) -> None:
    store = make_store(tmp_path / "root")
    extra = tmp_path / "extra.cil"
    extra.write_text("(type extra_t)")
    store.install([extra], 100)
    kept = A("svc_t", "etc_t", "file", "write")
    store.install([build(render_te("m", [kept, A("svc_t", "extra_t", "file", "read")]), tmp_path)], 360)
    store.install([], 100, remove=["extra"])
    policy = PolicyIndex.load(store.policy())
    assert policy.allowed(kept).allowed
    assert "extra_t" not in policy.types


def test_refused_with_reasons() -> None:
    cases = {
        A("class", "etc_t", "file", "read"): "class is a keyword of checkmodule's language",
        A("a.b", "etc_t", "file", "read"): "a.b belongs to a CIL block, which checkmodule cannot reference",
        A("svc_t", "etc_t", "file", "re\nad"): r"re\nad is not a valid identifier",
        Access("self", "etc_t", "file", "read"): "self is not a type",
        A("svc_t", "etc_t", "file", "read", ((1, 2),)): "permission read takes no ioctl numbers",
        A("init_t", "svc_t", "process", "security_bounded_transition"): (
            "security_bounded_transition is an error of the kernel's security server, not a permission"
        ),
        A("svc_t", "etc_t", "file", "ioctl", ((5, 2),)): "its ioctl numbers are not ranges within 0x0 to 0xffff",
    }
    source = render_te("m", [*cases, A("svc_t", "etc_t", "file", "read")])
    assert {item.access: item.reason for item in source.refused} == cases
    assert [rule.access for rule in source.rules] == [A("svc_t", "etc_t", "file", "read")]


def test_a_class_has_at_most_32_permissions() -> None:
    """checkmodule takes a 33rd, and its bit falls off: another permission would be allowed."""
    source = render_te("m", [A("svc_t", "etc_t", "file", f"p{number}") for number in range(33)])
    assert not source.rules
    assert "none has more than 32" in source.refused[0].reason


def test_numbers_of_ioctl() -> None:
    narrow = [
        A("svc_t", "etc_t", "file", "ioctl", ((0x5401, 0x5401),)),
        A("svc_t", "etc_t", "file", "ioctl", ((0x5402, 0x5410),)),
    ]
    text = render_te("m", narrow).te
    assert "allow svc_t etc_t:file { ioctl };" in text
    assert "allowxperm svc_t etc_t:file ioctl { 0x5401-0x5410 };" in text
    whole = render_te("m", [*narrow, A("svc_t", "etc_t", "file", "ioctl")]).te
    assert "ioctl { 0x0-0xffff };" in whole


def test_one_module_by_heart() -> None:
    made = Provenance("3", "alice", 1.0e9, "needed")
    source = render(
        "sepolicyd_svc",
        2,
        [
            Rule(A("svc_t", "etc_t", "file", "read"), provenance=made),
            Rule(A("svc_t", "etc_t", "file", "open"), provenance=made),
            Rule(A("svc_t", "svc_t", "process", "signal")),
            Rule(A("svc_t", "var_t", "file", "read"), DONTAUDIT),
        ],
        [FileContext("/srv/svc(/.*)?", "svc_data_t"), FileContext("/srv/svc/run", "svc_data_t", "-d")],
        [TypeTransition("svc_t", "var_t", "file", "svc_data_t")],
    )
    assert (
        source.te
        == """\
# sepolicyd_svc 2.0: made by sepolicyd out of decisions; an edit here is never read back.

module sepolicyd_svc 2.0;

require {
	type svc_t;
	class file { open read };
	class process { signal };
}

allow svc_t self:process { signal };

optional {
	require { type etc_t; }
	# open read: decision 3 by alice at 2001-09-09T01:46:40Z: needed
	allow svc_t etc_t:file { open read };
}

optional {
	require { type svc_data_t; type var_t; }
	type_transition svc_t var_t:file svc_data_t;
}

optional {
	require { type var_t; }
	dontaudit svc_t var_t:file { read };
}
"""
    )
    assert source.fc == "/srv/svc(/.*)?\tsystem_u:object_r:svc_data_t:s0\n/srv/svc/run\t-d\tsystem_u:object_r:svc_data_t:s0\n"


@pytest.mark.parametrize("name", ["", "class", "a b", "a;b", "../x", "a.b", "1x", "x" * 200])
def test_a_name_that_no_module_can_have(name: str) -> None:
    with pytest.raises(RefusedError):
        render_te(name, [])


@pytest.mark.parametrize(
    "context",
    [
        FileContext("/a b", "t"),
        FileContext("/a\n/b", "t"),
        FileContext("a", "t"),
        FileContext("/a", "t", "-x"),
        FileContext("/a", "t;"),
    ],
)
def test_a_file_context_that_could_leave_its_line(context: FileContext) -> None:
    with pytest.raises(RefusedError):
        render_fc([context])


@pytest.mark.toolchain
def test_a_failed_compiler_is_told_with_a_command_to_repeat(tmp_path: Path) -> None:
    source = render_te("m", [])
    broken = type(source)(**{**source.__dict__, "te": "module m 1.0;\nrequire { type a; }\nallow a b:c d;\n"})
    with pytest.raises(ToolError) as caught:
        build(broken, tmp_path)
    assert caught.value.command.startswith("checkmodule -M -m -o ")
    assert "unknown type b" in str(caught.value)


def test_what_killed_processes_left_is_swept_after_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = [
        "sepolicyd-plan-999999999-abc",
        "sepolicyd-plan-999999998-new",
        f"sepolicyd-plan-{os.getpid()}-x",
        "sepolicyd-notes",
    ]
    for name in names:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / names[1])
    with workdir():
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_no_room_for_a_private_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ToolError, match="no private directory"), workdir():
        pass
