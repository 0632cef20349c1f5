"""Every rule and declaration of an index, compared with setools' query and expansion."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.module.store import Store, create_store
from sepolicyd.policy.index import PolicyIndex
from sepolicyd.policy.index_store import IndexPlace, load
from tests.policies.jupyterhub import fedora
from tests.policy.test_index import SINK, TOY
from tests.policy.toys import DISTRIBUTION, FURTHER_POLICIES, compile_cil

pytestmark = pytest.mark.toolchain
setools = pytest.importorskip("setools")
TOYS = {"toy": TOY, "every statement": SINK}


def stand_in(root: Path) -> Path:
    """The distribution's policy with Fedora's names and its rules for every domain."""
    create_store(root)
    store = Store(root)
    (root / "fedora_base.cil").write_text(fedora.NAMES_CIL + fedora.RULES)
    store.install([root / "fedora_base.cil"], 200)
    return store.policy()


def policy_named(name: str, folder: Path) -> Path:
    """A policy by the name of its test parameter; toys hold every kind of rule, also those that no distribution has."""
    if name in TOYS:
        if not shutil.which("secilc"):
            pytest.skip("secilc is not installed")
        return compile_cil(TOYS[name], folder / "policy")
    if name == "stand-in":
        if not DISTRIBUTION.exists() or not shutil.which("semodule"):
            pytest.skip("no policy store of the distribution's is here")
        return stand_in(folder)
    return Path(name)


@pytest.fixture(scope="module", params=[str(DISTRIBUTION), "stand-in", *TOYS, *map(str, FURTHER_POLICIES)])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PolicyIndex, Any]]:
    """An index that was written to disk and read again, and setools' policy."""
    folder = tmp_path_factory.mktemp("index")
    path = policy_named(request.param, folder)
    if not path.exists():
        pytest.skip(f"{path} is not here")
    place = IndexPlace(folder / "index", folder)
    assert not load(path, place).note
    kept = load(path, place)
    assert len(os.listdir(place.directory)) == 1
    yield kept.policy_index, setools.SELinuxPolicy(str(path))


def expression(rule: Any) -> str:
    """The condition of a rule by its truth table, so that the order in which it is written does not matter."""
    try:
        block = rule.conditional
    except AttributeError:
        return ""
    names = sorted(map(str, block.booleans))
    rows = sorted(
        tuple(row.values[name] for name in names)
        for row in block.truth_table()
        if bool(row.result) is bool(rule.conditional_block)
    )
    return f"{names} {rows}"


def condition_text(condition: Any) -> str:
    return "" if condition is None else f"{list(condition.booleans)} {sorted(condition.on)}"


@pytest.mark.parametrize("kind", ["allow", "dontaudit", "auditallow"])
def test_access_rules(both: tuple[PolicyIndex, Any], kind: str) -> None:
    policy_index, policy = both
    theirs: dict[tuple[str, str, str, str], set[str]] = {}
    for rule in setools.TERuleQuery(policy, ruletype=[kind]).results():
        place = (str(rule.source), str(rule.target), str(rule.tclass), expression(rule))
        theirs.setdefault(place, set()).update(rule.perms)
    ours: dict[tuple[str, str, str, str], set[str]] = {}
    for (source, target, tclass), permissions, condition in policy_index.rules(kind):
        ours.setdefault((source, target, tclass, condition_text(condition)), set()).update(permissions)
    assert ours == theirs


def test_type_rules(both: tuple[PolicyIndex, Any]) -> None:
    policy_index, policy = both
    words = ["type_transition", "type_change", "type_member"]
    theirs = set()
    for rule in setools.TERuleQuery(policy, ruletype=words).results():
        try:
            name = str(rule.filename)
        except (AttributeError, RuntimeError):
            name = ""
        names = (str(rule.source), str(rule.target), str(rule.tclass), str(rule.default))
        theirs.add((str(rule.ruletype), *names, name, bool(expression(rule))))
    ours = {
        (one.rule, one.source, one.target, one.tclass, one.default, one.filename, bool(one.condition))
        for one in policy_index.transitions()
    }
    assert ours == theirs


def test_extended_permission_rules(both: tuple[PolicyIndex, Any]) -> None:
    policy_index, policy = both
    words = ["allowxperm", "auditallowxperm", "dontauditxperm"]
    theirs = {
        (str(rule.ruletype), str(rule.source), str(rule.target), str(rule.tclass), str(rule.xperm_type), frozenset(rule.perms))
        for rule in setools.TERuleQuery(policy, ruletype=words).results()
    }
    ours = {
        (one.rule, *one.key, one.name, frozenset(n for low, high in one.ranges for n in range(low, high + 1)))
        for one in policy_index.xperm_rules
    }
    assert ours == theirs


def test_types_attributes_aliases_and_permissive_types(both: tuple[PolicyIndex, Any]) -> None:
    policy_index, policy = both
    theirs = {str(item): frozenset(map(str, item.attributes())) for item in setools.TypeQuery(policy).results()}
    assert dict(policy_index.types) == theirs
    members = {str(item): frozenset(map(str, item.expand())) for item in setools.TypeAttributeQuery(policy).results()}
    assert dict(policy_index.attributes) == members
    aliases = {str(alias): str(item) for item in policy.types() for alias in item.aliases()}
    assert policy_index.aliases == aliases
    assert policy_index.permissive_types == {str(item) for item in policy.types() if item.ispermissive}
    assert policy_index.bounds == {str(item.child): str(item.parent) for item in policy.bounds()}


def test_classes_and_booleans(both: tuple[PolicyIndex, Any]) -> None:
    policy_index, policy = both
    theirs = {}
    for item in setools.ObjClassQuery(policy).results():
        try:
            common = set(item.common.perms)
        except AttributeError:
            common = set()
        theirs[str(item)] = frozenset(set(item.perms) | common)
    assert policy_index.classes == theirs
    assert policy_index.booleans == {str(item): item.state for item in setools.BoolQuery(policy).results()}


def test_roles_users_and_levels(both: tuple[PolicyIndex, Any]) -> None:
    policy_index, policy = both
    assert policy_index.roles == {str(r): frozenset(map(str, r.types())) for r in setools.RoleQuery(policy).results()}
    assert policy_index.users == {str(u): frozenset(map(str, u.roles)) for u in setools.UserQuery(policy).results()}
    if policy_index.mls:
        assert {str(item) for item in setools.CategoryQuery(policy).results()} <= set(policy_index.categories)
        assert {str(item) for item in setools.SensitivityQuery(policy).results()} <= set(policy_index.sensitivities)
    theirs = {
        (str(one.protocol), one.ports.low, one.ports.high, str(one.context.type_))
        for one in setools.PortconQuery(policy).results()
    }
    assert {(one.protocol, one.low, one.high, one.type) for one in policy_index.ports} == theirs


def test_constraints(both: tuple[PolicyIndex, Any]) -> None:
    policy_index, policy = both
    words = ["constrain", "mlsconstrain"]
    theirs = []
    for item in setools.ConstraintQuery(policy, ruletype=words).results():
        items = [
            frozenset(str(part) for one in part_ for part in (one.expand() if hasattr(one, "expand") else (one,)))
            if isinstance(part_, frozenset)
            else str(part_)
            for part_ in item.expression
        ]
        theirs.append((str(item.ruletype), str(item.tclass), frozenset(item.perms), tuple(items)))
    ours = [(one.rule, one.tclass, one.permissions, one.expression) for one in policy_index.constraints]
    assert sorted(map(_sortable, ours)) == sorted(map(_sortable, theirs))


def _sortable(item: tuple[str, str, frozenset[str], tuple[object, ...]]) -> str:
    rule, tclass, permissions, parts = item
    shown = [sorted(part) if isinstance(part, frozenset) else part for part in parts]
    return f"{rule} {tclass} {sorted(permissions)} {shown}"


@pytest.mark.parametrize(
    ("tclass", "permission", "target"),
    [
        ("file", "read", "etc_t"),
        ("file", "execute", "bin_t"),
        ("process", "transition", "unconfined_t"),
        ("tcp_socket", "name_bind", "http_port_t"),
        ("capability", "net_admin", "self"),
        ("process", "execmem", "self"),
        ("file", "execute", "data_t"),
        ("process", "fork", "self"),
        ("filesystem", "mount", "self"),
    ],
)
def test_who_holds_an_access(both: tuple[PolicyIndex, Any], tclass: str, permission: str, target: str) -> None:
    policy_index, policy = both
    if permission not in policy_index.classes.get(tclass, frozenset()):
        assert policy_index.sources_of(tclass, permission, target) == frozenset()
        return
    wanted = setools.TERuleQuery(policy, ruletype=["allow"], tclass=[tclass], perms=[permission])
    theirs: set[str] = set()
    for rule in wanted.results():
        sources, targets = set(map(str, rule.source.expand())), set(map(str, rule.target.expand()))
        if target == "self":
            theirs |= sources & targets
        elif target in targets:
            theirs |= sources
    assert policy_index.sources_of(tclass, permission, target) == theirs
    held_back = theirs & policy_index.domains - policy_index.unconfined
    assert policy_index.holders(tclass, permission, target) == sorted(held_back)
