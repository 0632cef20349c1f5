"""Explanations: all constraint operators, roles, bounds and booleans; comparison with audit2why on real denials."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sepolicyd.access import Access
from sepolicyd.audit.model import Context
from sepolicyd.policy.constraints import ContextPart
from sepolicyd.policy.explain import RoleFailure, Why, explain, explainer
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.model import VerdictKind
from tests.policy.questions import LOGS, WORKER, denials
from tests.policy.stores import link, package
from tests.policy.toys import DISTRIBUTION, compile_cil, needs_debian_12, needs_distribution, needs_secilc, types

pytestmark = pytest.mark.toolchain


def why(policy_index: PolicyIndex, source: str, target: str, tclass: str, permission: str) -> Why:
    scontext, tcontext = Context.parse(source), Context.parse(target)
    assert scontext is not None
    assert tcontext is not None
    return explain(policy_index, Access.of(scontext.type, tcontext.type, tclass, permission), scontext, tcontext)


BASE = types("app_t", "data_t", "free_t") + "(typeattribute exempt)(typeattributeset exempt (free_t kernel_t))"


def constrained(folder: Path, expression: str, keyword: str = "mlsconstrain") -> PolicyIndex:
    return PolicyIndex.load(compile_cil(f"{BASE}({keyword} (file (read)) {expression})", folder / "policy"))


@needs_secilc
@pytest.mark.parametrize(
    ("expression", "source", "target", "passes"),
    [
        ("(eq l1 l2)", "s0", "s0", True),
        ("(eq l1 l2)", "s0", "s0:c1", False),
        ("(neq l1 l2)", "s0", "s0:c1", True),
        ("(dom l1 l2)", "s0:c0.c3", "s0:c1,c3", True),
        ("(dom l1 l2)", "s0:c1", "s0:c1,c3", False),
        ("(dom l1 l2)", "s1", "s0:c1", False),
        ("(domby l1 l2)", "s0:c1", "s1:c0.c2", True),
        ("(domby l1 l2)", "s1", "s0", False),
        ("(incomp l1 l2)", "s0:c1", "s0:c2", True),
        ("(incomp l1 l2)", "s0:c1", "s0:c1,c2", False),
        ("(incomp l1 l2)", "s1:c1", "s0:c2", True),
        ("(dom h1 h2)", "s0-s0:c1", "s0:c1", True),
        ("(dom h1 h2)", "s0:c1", "s0-s0:c9", None),
        ("(dom l1 h2)", "s0-s1:c0.c3", "s0-s0:c1", False),
        ("(dom h1 l2)", "s0-s0:c1", "s0:c1-s1:c0.c3", True),
        ("(dom l1 h1)", "s0-s0:c1", "s0", False),
        ("(domby l1 h1)", "s0-s0:c1", "s0", True),
        ("(eq l2 h2)", "s0", "s0-s0:c1", False),
        ("(eq l2 h2)", "s0", "s0:c1-s0:c1", True),
    ],
)
def test_levels(tmp_path: Path, expression: str, source: str, target: str, passes: bool | None) -> None:
    found = why(constrained(tmp_path, expression), f"u:r:app_t:{source}", f"u:r:data_t:{target}", "file", "read")
    if passes is None:
        assert "does not exist in this policy" in found.unjudged
        assert not found.would_help
    else:
        assert not found.unjudged
        assert (not found.constraints, found.would_help) == (passes, passes)


@needs_secilc
@pytest.mark.parametrize(
    ("expression", "source", "target", "passes"),
    [
        ("(eq u1 u2)", "u:r:app_t", "u:r:data_t", True),
        ("(eq u1 u2)", "u:r:app_t", "v:r:data_t", False),
        ("(neq u1 u2)", "u:r:app_t", "v:r:data_t", True),
        ("(eq u1 v)", "v:r:app_t", "u:r:data_t", True),
        ("(eq r1 r2)", "u:r:app_t", "u:q:data_t", False),
        ("(eq r2 (q object_r))", "u:r:app_t", "u:object_r:data_t", True),
        ("(neq r1 q)", "u:q:app_t", "u:r:data_t", False),
        ("(incomp r1 r2)", "u:r:app_t", "u:q:data_t", True),
        ("(dom r1 r2)", "u:r:app_t", "u:r:data_t", True),
        ("(eq t1 exempt)", "u:r:free_t", "u:r:data_t", True),
        ("(eq t1 exempt)", "u:r:app_t", "u:r:data_t", False),
        ("(neq t1 exempt)", "u:r:app_t", "u:r:data_t", True),
        ("(eq t1 t2)", "u:r:app_t", "u:r:data_t", False),
        ("(neq t1 t2)", "u:r:app_t", "u:r:data_t", True),
        ("(or (eq u1 u2) (eq t1 exempt))", "u:r:free_t", "v:r:data_t", True),
        ("(and (eq u1 u2) (not (eq t2 data_t)))", "u:r:app_t", "u:r:data_t", False),
        ("(not (and (eq u1 u2) (eq r1 q)))", "u:r:app_t", "u:r:data_t", True),
    ],
)
def test_users_roles_types(tmp_path: Path, expression: str, source: str, target: str, passes: bool) -> None:
    policy_index = constrained(tmp_path, expression, "constrain")
    found = why(policy_index, f"{source}:s0", f"{target}:s0", "file", "read")
    assert (not found.constraints) == passes
    assert why(
        policy_index, f"{source}:s0", f"{target}:s0", "file", "write"
    ).would_help  # another permission is not constrained
    if not passes:
        assert not found.would_help
        assert found.sentence.startswith("An allow rule alone is not enough: a constraint still denies")


@needs_secilc
def test_categories_are_named_in_the_sentence(tmp_path: Path) -> None:
    policy_index = constrained(tmp_path, "(or (dom h1 h2) (eq t1 exempt))")
    found = why(policy_index, "u:r:app_t:s0:c1", "u:r:data_t:s0:c3", "file", "read")
    assert "s0:c1 against s0:c3" in found.sentence
    assert "app_t is not in { free_t kernel_t }" in found.sentence


@needs_secilc
def test_transitions_need_roles(tmp_path: Path) -> None:
    body = types("app_t", "shell_t") + "(type other_t)(roletype q other_t)(allow app_t shell_t (process (transition)))"
    policy_index = PolicyIndex.load(compile_cil(body + "(roleallow q r)", tmp_path / "policy"))
    assert why(policy_index, "u:r:app_t:s0", "u:r:shell_t:s0", "process", "transition").allowed
    changed = why(policy_index, "u:r:app_t:s0", "u:q:shell_t:s0", "process", "transition")
    assert changed.te.allowed
    assert not changed.allowed
    assert changed.sentence == "A rule exists already, and role r may not change to role q."
    assert why(policy_index, "u:r:app_t:s0", "u:r:other_t:s0", "process", "transition").roles == (
        "role r is not authorized for type other_t"
    )
    assert not why(policy_index, "u:r:app_t:s0", "u:q:shell_t:s0", "process", "ptrace").roles


@needs_secilc
def test_bounds_and_numbers(tmp_path: Path) -> None:
    body = BASE + "(typebounds app_t free_t)(allow app_t data_t (file (read)))(allow free_t data_t (file (write ioctl)))"
    body += "(allow app_t data_t (file (ioctl)))(allowx free_t data_t (ioctl file (0x5401)))"
    policy_index = PolicyIndex.load(compile_cil(body, tmp_path / "policy"))
    bounded = explain(policy_index, Access("free_t", "data_t", "file", "write"))
    assert (bounded.te.kind, bounded.bounds, bounded.would_help) == (VerdictKind.BOUNDS, "app_t", False)
    assert explain(policy_index, Access("free_t", "data_t", "file", "read")).would_help
    assert not explain(policy_index, Access("free_t", "data_t", "file", "append")).would_help
    number = explain(policy_index, Access("free_t", "data_t", "file", "ioctl", ((0x5401, 0x5403),)))
    assert number.missing_numbers == ((0x5402, 0x5403),)
    assert "0x5402-0x5403 needs an allowxperm rule" in number.sentence


@needs_secilc
@pytest.mark.parametrize(
    ("expression", "source", "target", "part", "missing"),
    [
        ("(dom h1 h2)", "u:r:app_t:s0:c1", "u:r:data_t:s0:c0.c3", ContextPart.CATEGORIES, "c0,c2,c3"),
        ("(dom h1 h2)", "u:r:app_t:s0", "u:r:data_t:s1", ContextPart.SENSITIVITY, ""),
        ("(dom h1 h2)", "u:r:app_t:s0:c0", "u:r:data_t:s1:c0.c2", ContextPart.SENSITIVITY, "c1,c2"),
        ("(domby l1 l2)", "u:r:app_t:s0:c0.c3", "u:r:data_t:s0:c3", ContextPart.CATEGORIES, "c0.c2"),
        ("(eq l1 l2)", "u:r:app_t:s0:c0", "u:r:data_t:s0:c1", ContextPart.CATEGORIES, "c0,c1"),
        ("(eq u1 u2)", "u:r:app_t:s0", "v:r:data_t:s0", ContextPart.USER, ""),
        ("(eq u1 v)", "u:r:app_t:s0", "v:r:data_t:s0", ContextPart.USER, ""),
        ("(eq r1 r2)", "u:r:app_t:s0", "u:q:data_t:s0", ContextPart.ROLE, ""),
        ("(eq t1 exempt)", "u:r:app_t:s0", "u:r:data_t:s0", ContextPart.TYPE, ""),
    ],
)
def test_which_part_of_the_contexts_fails(
    tmp_path: Path, expression: str, source: str, target: str, part: ContextPart, missing: str
) -> None:
    found = why(constrained(tmp_path, expression), source, target, "file", "read")
    (denied,) = found.constraints
    (failure,) = denied.failures
    assert (failure.part, failure.missing, denied.parts, denied.certain) == (part, missing, frozenset((part,)), True)
    assert str(failure) == denied.reason
    assert found.hindered


@needs_secilc
@pytest.mark.parametrize(
    ("expression", "source", "target", "certain", "possible"),
    [
        # the level alone decides
        ("(dom h1 h2)", "u:r:nosuch_t:s0", "u:r:data_t:s0:c1", True, False),
        ("(dom h1 h2)", "u:r:app_t:s0", "u:r:nosuch_t:s0:c1", True, False),
        ("(dom h1 h2)", "u:r:nosuch_t:s0:c1", "u:r:other_t:s0:c1", False, False),
        # the user, the role
        ("(eq u1 u2)", "u:r:nosuch_t:s0", "v:r:data_t:s0", True, False),
        ("(eq r1 r2)", "u:r:nosuch_t:s0", "u:q:data_t:s0", True, False),
        # only a type that is exempt could pass
        ("(or (dom h1 h2) (eq t1 exempt))", "u:r:nosuch_t:s0", "u:r:data_t:s0:c1", False, True),
        ("(or (dom h1 h2) (eq t1 exempt))", "u:r:nosuch_t:s0:c1", "u:r:data_t:s0:c1", False, False),
        ("(or (eq u1 u2) (neq t1 exempt))", "u:r:nosuch_t:s0", "v:r:data_t:s0", False, True),
        ("(and (dom h1 h2) (neq t1 exempt))", "u:r:nosuch_t:s0", "u:r:data_t:s0:c1", True, False),
        ("(not (or (eq u1 u2) (eq t1 exempt)))", "u:r:nosuch_t:s0", "u:r:data_t:s0", True, False),
        # nothing but types is compared: nothing can be said
        ("(eq t1 exempt)", "u:r:nosuch_t:s0", "u:r:data_t:s0:c1", False, False),
        ("(or (eq t1 exempt) (eq t2 exempt))", "u:r:nosuch_t:s0", "u:r:data_t:s0:c1", False, False),
        # the known exempt type on the other side passes
        ("(or (dom h1 h2) (eq t2 exempt))", "u:r:nosuch_t:s0", "u:r:free_t:s0:c1", False, False),
    ],
)
def test_constraints_are_seen_for_types_that_the_policy_does_not_have(
    tmp_path: Path, expression: str, source: str, target: str, certain: bool, possible: bool
) -> None:
    found = why(constrained(tmp_path, expression), source, target, "file", "read")
    assert found.te.kind is VerdictKind.UNKNOWN
    assert (bool(found.constraints), bool(found.possible_constraints)) == (certain, possible)
    assert found.hindered is certain
    assert not found.allowed and not found.would_help
    assert ("constraint" in found.sentence) is (certain or possible)
    assert all(not denied.certain for denied in found.possible_constraints)


@needs_secilc
def test_a_level_that_cannot_be_read_leaves_users_and_roles(tmp_path: Path) -> None:
    policy_index = constrained(tmp_path, "(and (eq u1 u2) (dom h1 h2))")
    found = why(policy_index, "u:r:app_t:SystemLow", "v:r:data_t:s0", "file", "read")
    assert [denied.parts for denied in found.constraints] == [{ContextPart.USER}]
    assert "level" in found.unjudged
    found = why(policy_index, "u:r:app_t:SystemLow", "u:r:data_t:s0", "file", "read")
    assert not found.constraints and not found.possible_constraints
    assert "level" in found.unjudged


@needs_secilc
def test_the_roles_of_a_transition_as_data(tmp_path: Path) -> None:
    policy_index = PolicyIndex.load(compile_cil(BASE, tmp_path / "policy"))
    found = why(policy_index, "u:r:app_t:s0", "u:q:data_t:s0", "process", "transition")
    assert found.role_failure == RoleFailure("r", "q")
    found = why(policy_index, "u:q:app_t:s0", "u:q:data_t:s0", "process", "transition")
    assert found.role_failure == RoleFailure("q", "q", "data_t")
    assert found.roles == "role q is not authorized for type data_t"
    found = why(policy_index, "u:r:app_t:s0", "u:q:nosuch_t:s0", "process", "transition")
    assert found.role_failure == RoleFailure("r", "q")
    found = why(policy_index, "u:q:app_t:s0", "u:q:nosuch_t:s0", "process", "transition")
    assert found.role_failure is None


@needs_secilc
def test_booleans_alone_and_in_pairs_with_side_effects(tmp_path: Path) -> None:
    body = (
        BASE
        + """
(typeattribute many)(typeattributeset many (app_t free_t kernel_t))
(boolean wide false)(boolean narrow false)(boolean both false)(boolean kept true)
(booleanif wide (true (allow many data_t (file (read write))) (allow many data_t (dir (read)))))
(booleanif narrow (true (allow app_t data_t (file (read)))))
(booleanif (and narrow both) (true (allow app_t data_t (file (append)))))
(booleanif kept (false (allow app_t data_t (file (execute)))))
"""
    )
    policy_index = PolicyIndex.load(compile_cil(body, tmp_path / "policy"))
    read = explain(policy_index, Access("app_t", "data_t", "file", "read"))
    # narrow: its own rule, and the one it shares with `both`
    assert [str(fix) for fix in read.booleans] == ["narrow=on (2 rules for 1 domain)", "wide=on (2 rules for 3 domains)"]
    assert read.sentence == "Allowed with narrow=on (2 rules for 1 domain), or 1 other setting."
    append = explain(policy_index, Access("app_t", "data_t", "file", "append"))
    assert [fix.settings for fix in append.booleans] == [(("both", True), ("narrow", True))]
    execute = explain(policy_index, Access("app_t", "data_t", "file", "execute"))
    assert [fix.settings for fix in execute.booleans] == [(("kept", False),)]


@needs_secilc
def test_unknown_names_are_not_judged(tmp_path: Path) -> None:
    policy_index = PolicyIndex.load(compile_cil(BASE, tmp_path / "policy"))
    found = why(policy_index, "u:r:nosuch_t:s0", "u:r:data_t:s0", "file", "read")
    assert not found.would_help
    assert found.sentence == "The policy has no type nosuch_t: the access cannot be evaluated."


@needs_debian_12
def test_known_side_effects(distribution: PolicyIndex) -> None:
    """Figures of sesearch -A -b on Debian 12's policy."""
    found = explain(distribution, Access("httpd_t", "unreserved_port_t", "tcp_socket", "name_connect"))
    assert [str(fix) for fix in found.booleans] == [
        "httpd_can_network_connect=on (9 rules for 3 domains)",
        "allow_ypbind=on (2,964 rules for 400 domains)",
    ]
    assert explainer(distribution).side_effect((("allow_execmem", True),)) == (54, 41)


@needs_distribution
def test_a_rule_and_a_constraint_are_seen_together(distribution: PolicyIndex) -> None:
    """audit2why shows the missing rule alone (audit2why.c tests type enforcement first and stops)."""
    found = why(distribution, "system_u:system_r:svirt_t:s0:c1", "system_u:object_r:shadow_t:s0:c9", "file", "read")
    assert found.te.kind is VerdictKind.NONE
    assert not found.would_help
    assert "s0:c1 against s0:c9" in found.sentence


@needs_distribution
@pytest.mark.skipif(not LOGS, reason="no captured logs")
def test_as_audit2why_on_real_denials(distribution: PolicyIndex) -> None:
    asked = denials()
    worker = [sys.executable, "-c", WORKER, str(DISTRIBUTION)]
    done = subprocess.run(
        worker, input=json.dumps([[s, t, c, [p]] for s, t, c, p in asked]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    judged, wrong = 0, []
    for question, (theirs, booleans) in zip(asked, json.loads(done.stdout)):
        mine = why(distribution, *question)
        if theirs in {"BADSCON", "BADTCON", "BADTCLASS", "BADPERM"}:
            continue
        judged += 1
        if theirs == "TERULE":
            # audit2why flips a boolean and asks for the whole decision: with a constraint in the way no boolean seems to
            # help, and it says "missing rule" of an access that has one (systemd_tmpfiles_t relabelling a user's home)
            behind = mine.te.kind is VerdictKind.BOOLEAN and bool(mine.constraints)
            agree = behind or mine.te.kind in {VerdictKind.NONE, VerdictKind.DONTAUDIT}
        elif theirs == "DONTAUDIT":
            agree = mine.te.dontaudited and not mine.allowed
        elif theirs == "BOOLEAN":
            alone = {fix.settings[0][0] for fix in mine.booleans if len(fix.settings) == 1}
            agree = mine.te.kind is VerdictKind.BOOLEAN and alone == set(booleans)
        elif theirs == "CONSTRAINT":
            agree = mine.te.allowed and bool(mine.constraints)
        elif theirs == "RBAC":
            agree = mine.te.allowed and bool(mine.roles)
        else:
            agree = theirs == "ALLOW" and mine.allowed
        if not agree:
            wrong.append((question, theirs, booleans, mine.te.kind, mine.sentence))
    assert not wrong[:5], len(wrong)
    assert judged > 200


@pytest.mark.slow
@needs_distribution
@pytest.mark.skipif(not LOGS, reason="no captured logs")
def test_would_help_is_what_happens_when_the_rules_are_linked(tmp_path: Path, distribution: PolicyIndex) -> None:
    """Every access without a rule gets one; audit2why on the new policy must allow just those where that was to help."""
    levels = [("s0:c1", "s0:c9"), ("s0:c1.c5", "s0:c3")]
    asked = {
        question
        for scontext, tcontext, tclass, permission in denials()
        for question in (
            (scontext, tcontext, tclass, permission),
            # the same between categories, and by a type that is held to them (mcs_constrained_type)
            *(
                (f"system_u:system_r:svirt_t:{low}", f"{_without_range(tcontext)}:{high}", tclass, permission)
                for low, high in levels
            ),
        )
    }
    whys = {question: why(distribution, *question) for question in sorted(asked)}
    without = {key: found for key, found in whys.items() if found.te.kind in {VerdictKind.NONE, VerdictKind.DONTAUDIT}}
    rules, required = set(), set()
    for found in without.values():
        access = found.access
        rules.add(f"allow {access.source} {access.target}:{access.tclass} {access.permission};")
        required |= {f"type {access.source};", f"type {access.target_type};", f"class {access.tclass} {access.permission};"}
    text = f"module every 1.0;\nrequire {{\n{chr(10).join(sorted(required))}\n}}\n" + "\n".join(sorted(rules))
    new = link(tmp_path / "root", package(tmp_path, "every", text))
    questions = list(without)
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(new)],
        input=json.dumps([[s, t, c, [p]] for s, t, c, p in questions]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    truth = {question: theirs for question, (theirs, _) in zip(questions, json.loads(done.stdout))}
    judged = {question: theirs for question, theirs in truth.items() if not theirs.startswith("BAD")}
    wrong = [(question, theirs, whys[question].sentence) for question, theirs in judged.items()
             if (theirs == "ALLOW") is not whys[question].would_help]  # fmt: skip
    assert not wrong[:5], len(wrong)
    assert sum(theirs == "ALLOW" for theirs in judged.values()) > 200
    assert sum(theirs == "CONSTRAINT" for theirs in judged.values()) > 20


def _without_range(context: str) -> str:
    return ":".join(context.split(":")[:3])
