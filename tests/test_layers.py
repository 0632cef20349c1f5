"""Import directions, permitted libraries, file sizes, and the import closure of the program that ends leases."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGE = ROOT / "sepolicyd"
MAX_LINES = 425

# Layers from the top (docs/architecture.md). A file imports its own layer and those below it, nothing above. A directory
# named here covers all files in it; the longest matching name counts.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli", "report"),
    ("daemon",),
    ("fleet",),
    ("rollout/metrics",),
    ("rollout/status",),
    ("rollout/doctor", "rollout/review"),
    ("rollout/apply", "rollout/endtrial"),
    ("rollout/session",),
    ("rollout/learning",),
    ("rollout/setup",),
    ("rollout/lease", "rollout/endlease"),
    ("rollout/clock", "rollout/history", "rollout/stage"),
    ("state",),
    ("module",),
    ("services",),
    ("rules",),
    ("profiles",),
    ("policy",),
    ("audit/follow",),
    ("audit/scan",),
    ("audit/dialects",),
    ("audit/parse",),
    ("audit/model",),
    ("document", "problems"),
    ("storage", "kernel"),
    ("settings",),
    ("process",),
    ("access", "errors"),
)

# What ends a lease imports this and no more: it must work with a broken configuration, database or policy. Imports inside
# functions are left out: they are what opening a lease needs (host.py, semodule.py).
LEASE_END = ("rollout/lease/__main__", "rollout/endlease")
LEASE_END_CLOSURE = (
    "errors", "process", "policy/selinux_config", "storage/", "kernel/", "module/surviving_semodule", "module/listing",
    "rollout/clock", "rollout/lease/",
)  # fmt: skip

# foreign library -> files that may import it
FOREIGN = {
    "setools": {"policy/index.py", "policy/setools_adapter.py"},
    "selinux": {"policy/labels.py", "policy/explain.py"},
    "watchdog": {"audit/follow/follower.py"},
    "structlog": {"daemon", "cli/main.py", "cli/run.py"},
    "click": {"cli"},
    "yaml": {"settings.py", "document.py", "rollout/setup", "cli", "services/jupyterhub/config/machine.py"},
    "subprocess": {"process.py"},
    "jinja2": {"report/page.py"},
    "markupsafe": {"report"},
}
EXITS = {
    "__main__.py",
    "rollout/lease/__main__.py",
    "rollout/endlease.py",
    "rollout/endtrial.py",
    "rollout/apply/end_trial.py",
}

# Only the registry imports a service's code, and only the default profile is named elsewhere.
SERVICES = sorted(path.name for path in (PACKAGE / "services").iterdir() if (path / "service.py").is_file())
NAMED_SERVICES = {"services/registry.py", "settings.py"}

FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def _relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def _imports(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Dotted names, those of `from` imports with the imported name at their end."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _targets(path: Path, *, inside_functions: bool = True) -> set[str]:
    """The files of this package that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if inside_functions else iter(tree.body)
    found = set()
    for dotted in _imports(nodes):
        first, *parts = dotted.split(".")
        if first == "sepolicyd":
            names = ["/".join(parts[:end]) for end in (len(parts), len(parts) - 1)]
            found |= {name for name in names if name and (PACKAGE / f"{name}.py").is_file()}
    return found


def _layer(name: str) -> int:
    found = [
        (len(prefix), level)
        for level, names in enumerate(LAYERS)
        for prefix in names
        if name == prefix or name.startswith(prefix + "/")
    ]
    assert found, f"{name} has no layer in LAYERS"
    return max(found)[1]


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py"], ids=_relative)
def test_imports_point_downwards(path: Path) -> None:
    wrong = sorted(target for target in _targets(path) if _layer(target) < _layer(_name(path)))
    assert not wrong, f"{_name(path)} may not import {wrong}"


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {_name(path): _targets(path) for path in FILES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("start", LEASE_END)
def test_what_ends_a_lease_imports_little(start: str) -> None:
    reached: set[str] = set()
    todo = [start]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += sorted(_targets(PACKAGE / f"{name}.py", inside_functions=False))
    strange = sorted(name for name in reached - {start} if not name.startswith(LEASE_END_CLOSURE))
    assert not strange, strange


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_foreign_libraries_have_one_place(path: Path) -> None:
    relative = _relative(path)
    for name in _imports(ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        places = FOREIGN.get(name.split(".")[0])
        if places is not None:
            assert any(relative == place or relative.startswith(place + "/") for place in places), (
                f"{relative} imports {name}; only {sorted(places)} may"
            )


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_files_stay_small_enough_to_read(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: cut it where its sentence needs an «and»"


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_a_module_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if tree.body:
        assert ast.get_docstring(tree), "the module docstring is missing"


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_only_entry_points_exit(path: Path) -> None:
    if _relative(path) in EXITS:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert not (
                node.func.attr in {"exit", "_exit"}
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in {"sys", "os"}
            ), f"line {node.lineno} exits"


def _texts(tree: ast.Module) -> Iterator[str]:
    """Literal texts, without docstrings and other texts that stand as statements."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def _names_of_services(source: str, services: Sequence[str]) -> list[str]:
    """Imports, identifiers and literal texts that name a service."""
    tree = ast.parse(source)
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    names += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    words = [*_imports(ast.walk(tree)), *names, *_texts(tree)]
    return sorted(word for word in words if any(service in word.lower() for service in services))


def test_there_are_services_to_look_for() -> None:
    assert "jupyterhub" in SERVICES


@pytest.mark.parametrize(
    "source", ["import sepolicyd.services.webapp.labels", 'NAME = "WebApp"', "webapp_t = 1", "x.webapp = 1", 'f"{a} webapp"']
)
def test_a_named_service_is_seen(source: str) -> None:
    assert _names_of_services(source, ["webapp"])
    assert not _names_of_services(f'"""A webapp."""\n# webapp\n{source}', ["other"])


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_the_engine_names_no_service(path: Path) -> None:
    """A second service is a directory in services/ and one in policies/: no other file gets a line for it."""
    relative = _relative(path)
    own = relative.split("/")[1] if relative.startswith("services/") and relative.count("/") > 1 else ""
    if relative not in NAMED_SERVICES:
        others = [service for service in SERVICES if service != own]
        assert _names_of_services(path.read_text(encoding="utf-8"), others) == []
