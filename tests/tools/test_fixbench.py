"""The benchmark of maintainers' fixes: reading of rows, and counting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from sepolicyd.access import Access
from tools.fixbench.answers import Answer, Proposal
from tools.fixbench.rows import Row, load, sample
from tools.fixbench.score import Score, Share, Terms, score

READ = Access.of("a_t", "b_t", "file", "read")
OPEN = Access.of("a_t", "b_t", "file", "open")
OTHER_READ = Access.of("a_t", "c_t", "file", "read")
UNKNOWN = Access.of("a_t", "new_t", "file", "read")


def row(identity: str = "0a", *kinds: str, interfaces: tuple[str, ...] = (), gives: bool = True) -> Row:
    return Row(identity, "", frozenset({READ, OPEN}), frozenset(), frozenset(kinds or ("give",)), interfaces, True, gives)


def figures(one: Row, answer: Answer, known: bool = True) -> Score:
    terms = Terms(lambda accesses: accesses & {OTHER_READ}, lambda access: access != UNKNOWN, lambda _: known)
    return score([one], {one.id: answer}, terms)


def test_a_row_is_read_with_the_kinds_of_its_fix(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    fixes = [
        {"kind": "interface", "name": "x_read", "covers": True, "opens": [["a_t", "b_t", "file", ["read", "map"]]]},
        {"kind": "interface", "name": "x_new", "covers": True, "new_interface": True},
        {"kind": "fcontext", "text": "/srv/x -- x_t"},
    ]
    asked = [["a_t", "b_t", "file", ["read", "#"]], ["a_t", "a_t", "process", ["fork"]]]
    item = {"id": "0b", "records": ["one", "two"], "accesses": asked, "fix": fixes, "single": True, "covers_all": True}
    file.write_text(json.dumps({**item, "relabels": False}) + "\n")
    (found,) = load(file)
    assert found.accesses == {READ, Access("a_t", "self", "process", "fork")}
    assert found.opened == {READ, Access.of("a_t", "b_t", "file", "map")}
    assert (found.kinds, found.interfaces, found.gives, found.half) == (frozenset(("give", "label")), ("x_read",), False, 1)
    assert (found.patterns, found.ruled) == (frozenset(("/srv/x",)), True)


def test_a_sample_is_spread_over_the_file() -> None:
    rows = [row(f"{number:02x}") for number in range(100)]
    assert [int(one.id, 16) for one in sample(rows, 10)] == list(range(0, 100, 10))
    assert len(sample(rows, 0)) == 100


def test_only_what_a_maintainer_gave_outright_is_a_false_alarm() -> None:
    answer = Answer(((Proposal("give", frozenset({READ})),),), flagged=frozenset({OPEN}), judged=frozenset({READ, OPEN}))
    assert figures(row(), answer).false_alarms == Share(1, 2)
    assert figures(row("0a", "label", gives=False), answer).false_alarms == Share(0, 0)
    refused = replace(answer, refused=frozenset({OPEN}))
    assert (figures(row(), answer).refused, figures(row(), refused).refused) == (Share(0, 2), Share(1, 2))


def test_a_tool_without_an_opinion_has_no_share_of_false_alarms() -> None:
    answer = Answer(((Proposal("give", frozenset({READ})),),), warns=False, judged=frozenset({READ, OPEN}))
    assert str(figures(row(), answer).false_alarms) == str(figures(row(), answer).refused) == "-"


def test_a_label_beside_a_rule_that_covers_is_counted_apart() -> None:
    answer = Answer(((Proposal("label"),),))
    ruled = replace(row("0a", "label", "give", gives=False), ruled=True)
    assert (figures(ruled, answer).kind_first, figures(ruled, answer).needed_first) == (Share(1, 1), Share(0, 0))
    assert figures(replace(ruled, ruled=False), answer).needed_three == Share(1, 1)


def test_what_no_tool_should_open_is_no_part_of_what_is_covered() -> None:
    asked = frozenset({READ, UNKNOWN, OTHER_READ})
    answer = Answer(((Proposal("give", asked),),))
    assert figures(replace(row(), accesses=asked), answer).covered == Share(1, 1)


def test_the_kind_counts_first_or_among_three() -> None:
    third = Answer(((Proposal("give"), Proposal("dontaudit"), Proposal("label")),))
    found = figures(row("0a", "label", gives=False), third)
    assert (found.kind_first, found.kind_three) == (Share(0, 1), Share(1, 1))
    fourth = Answer(((Proposal("give"), Proposal("give"), Proposal("give"), Proposal("label")),))
    assert figures(row("0a", "label", gives=False), fourth).kind_three == Share(0, 1)


def test_coverage_surplus_and_refusals_are_those_of_first_proposals() -> None:
    answer = Answer(((Proposal("give", frozenset({READ, OTHER_READ})), Proposal("give", frozenset({OPEN}))),))
    found = figures(row(), answer)
    assert (found.covered, found.surplus, found.refuse_list) == (Share(1, 2), 1, 1)


def test_interfaces_are_counted_where_the_headers_have_them() -> None:
    answer = Answer(((Proposal("give"), Proposal("give", interface="y"), Proposal("give", interface="x")),))
    named = row(interfaces=("x",))
    found = figures(named, answer)
    assert (found.interface_first, found.interface_three) == (Share(0, 1), Share(1, 1))
    assert figures(named, answer, known=False).interface_three == Share(0, 0)
