"""Interpret the statements of a jupyterhub_config.py and collect its settings, without running its code.

With an unknown condition both branches count: the first one gives the value, and the setting is uncertain.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

from sepolicyd.errors import InputError
from sepolicyd.services.jupyterhub.config import calls
from sepolicyd.services.jupyterhub.config.expressions import BudgetError, Evaluator
from sepolicyd.services.jupyterhub.config.machine import Machine
from sepolicyd.services.jupyterhub.config.values import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_MODULES,
    UNKNOWN,
    ClassName,
    ConfigObject,
    ConfigSection,
    Method,
    Name,
    known,
)

LIBRARIES = frozenset(
    (
        *("batchspawner", "dockerspawner", "kubespawner", "sudospawner", "systemdspawner", "wrapspawner"),
        *("jupyter_server", "jupyterhub", "jupyterhub_traefik_proxy", "ldapauthenticator", "notebook", "oauthenticator"),
        *("ruamel", "sqlalchemy", "tornado", "traitlets", "yaml"),
    )
)
"""Packages whose modules are not followed: they define classes and change no setting."""
MODULE_STEPS = 5_000
"""Steps for the body of one module; a longer module is a library, and the rest of it is ignored."""
COMPOUND = (ast.For, ast.While, ast.With, ast.AsyncFor, ast.AsyncWith)


@dataclass
class Function:
    """A function that the configuration defines, with the names that it sees."""

    node: ast.FunctionDef
    names: dict[str, object]
    module: str


@dataclass
class Evaluated:
    """Settings by "Section.name"."""

    values: dict[str, object] = field(default_factory=dict)
    uncertain: dict[str, None] = field(default_factory=dict)
    """Settings that depend on a condition or value known only in a run."""
    opaque: dict[str, None] = field(default_factory=dict)
    """Functions that receive ``c`` and cannot be interpreted; they may change any setting."""
    files: list[str] = field(default_factory=list)
    """Configuration files and modules in reading order."""


class _Return(Exception):  # noqa: N818 ends a function, not an error
    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


class Interpreter:
    """Interpreter of one configuration and the files that it loads."""

    def __init__(self, machine: Machine, path: str) -> None:
        self.machine = machine
        self.outcome = Evaluated()
        self.folders: list[str] = [path.rpartition("/")[0] or "/"]
        self.evaluator = Evaluator(machine, calls.functions(machine), self.outcome.values, self)
        self.modules: dict[str, dict[str, object]] = {}
        self.maybe = 0
        self.depth = 0

    def run(self, text: str, path: str) -> None:
        """Follow the statements of a configuration file.

        :raises InputError: the text is not valid Python
        """
        self.outcome.files.append(path)
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InputError(f"{path} is not valid Python: {error}", "correct it; the hub cannot read it either") from None
        try:
            self._block(tree.body, {"c": ConfigObject.CONFIG, "__file__": path, "__name__": "__main__"}, "")
        except (BudgetError, RecursionError):
            self.outcome.opaque["the rest of the file, which is too long to follow"] = None
        except _Return:
            pass

    def set(self, section: str, name: str, value: object) -> None:
        """Record one setting."""
        key = f"{section}.{name}"
        self.outcome.values[key] = value
        if self.maybe or value is UNKNOWN:
            self.outcome.uncertain[key] = None
        else:
            self.outcome.uncertain.pop(key, None)

    def call(self, function: object, args: list[object], keywords: dict[str, object], source: str) -> object:
        """Call a function of the configuration; note a function that receives ``c`` and cannot be interpreted."""
        if isinstance(function, Function) and self.depth < MAX_DEPTH:
            return self._call(function, args, keywords)
        if isinstance(function, Name) and function.dotted in ("load_subconfig", "traitlets.config.load_subconfig"):
            self._subconfig(args[0] if args else UNKNOWN)
            return None
        if ConfigObject.CONFIG in args or any(value is ConfigObject.CONFIG for value in keywords.values()):
            self.outcome.opaque[f"{source}()"] = None
        return UNKNOWN

    def _call(self, function: Function, args: list[object], keywords: dict[str, object]) -> object:
        spec = function.node.args
        parameters = [item.arg for item in (*spec.posonlyargs, *spec.args)]
        defaults = [self.evaluator.evaluate(node, function.names) for node in spec.defaults]
        names = dict(function.names)
        names.update(zip(parameters[len(parameters) - len(defaults) :], defaults))
        names.update({item.arg: UNKNOWN for item in spec.kwonlyargs})
        names.update(zip(parameters, args))
        names.update(keywords)
        self.depth += 1
        try:
            self._block(function.node.body, names, function.module)
        except _Return as end:
            return end.value
        finally:
            self.depth -= 1
        return None

    def _subconfig(self, path: object) -> None:
        if not isinstance(path, str):
            self.outcome.opaque["load_subconfig()"] = None
            return
        place = path if path.startswith("/") else f"{self.folders[0]}/{path}"
        text = self.machine.read(place)
        if text is None or place in self.outcome.files:
            return
        self.run(text, place)

    def _block(self, body: Iterable[ast.stmt], names: dict[str, object], module: str) -> None:
        for node in body:
            self._statement(node, names, module)

    def _statement(self, node: ast.stmt, names: dict[str, object], module: str) -> None:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            self._assignment(node, names)
        elif isinstance(node, ast.Expr):
            self._expression(node.value, names)
        elif isinstance(node, ast.If):
            self._if(node, names, module)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self._import(node, names, module)
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = Function(node, names, module)
        elif isinstance(node, ast.ClassDef):
            names[node.name] = self._class(node, names, module)
        elif isinstance(node, ast.Return):
            raise _Return(self.evaluator.evaluate(node.value, names) if node.value else None)
        elif isinstance(node, ast.Try):
            self._block([*node.body, *node.orelse], names, module)
            self._alternative([item for handler in node.handlers for item in handler.body], names, module)
            self._block(node.finalbody, names, module)
        elif isinstance(node, COMPOUND):
            self._compound(node, names, module)

    def _assignment(self, node: ast.stmt, names: dict[str, object]) -> None:
        if isinstance(node, ast.AugAssign):
            whole = ast.BinOp(node.target, node.op, node.value)
            self._assign(node.target, self.evaluator.evaluate(ast.fix_missing_locations(whole), names), names)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._assign(node.target, self.evaluator.evaluate(node.value, names), names)
        elif isinstance(node, ast.Assign):
            value = self.evaluator.evaluate(node.value, names)
            for target in node.targets:
                self._assign(target, value, names)

    def _assign(self, target: ast.expr, value: object, names: dict[str, object]) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = UNKNOWN if self.maybe and names.get(target.id, value) != value else value
        elif isinstance(target, (ast.Tuple, ast.List)):
            whole = isinstance(value, (list, tuple)) and len(value) == len(target.elts)
            for index, inner in enumerate(target.elts):
                self._assign(inner, value[index] if whole else UNKNOWN, names)  # type: ignore[index]
        elif isinstance(target, ast.Attribute):
            owner = self.evaluator.evaluate(target.value, names)
            if isinstance(owner, ConfigSection):
                self.set(owner.name, target.attr, value)
        elif isinstance(target, ast.Subscript):
            self._assign_item(self.evaluator.evaluate(target.value, names), self.evaluator.evaluate(target.slice, names), value)

    def _assign_item(self, owner: object, key: object, value: object) -> None:
        """Follow ``owner[key] = value``."""
        if isinstance(owner, ConfigSection) and isinstance(key, str):
            self.set(owner.name, key, value)
        elif isinstance(owner, dict):
            if known(key) and len(owner) < MAX_ITEMS:
                owner[key] = value
        elif isinstance(owner, list) and isinstance(key, int) and -len(owner) <= key < len(owner):
            owner[key] = value

    def _expression(self, node: ast.expr, names: dict[str, object]) -> None:
        """Follow a call whose result is not used: c.X.y.append(...), load_subconfig(...), configure(c)."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Attribute):
            owner = self.evaluator.evaluate(node.func.value.value, names)
            # a setting without a value starts as a LazyConfigValue of traitlets
            if isinstance(owner, ConfigSection) and node.func.attr in ("append", "extend", "update", "insert", "prepend"):
                name = node.func.value.attr
                start: object = {} if node.func.attr == "update" else []
                self.set(owner.name, name, self.outcome.values.get(f"{owner.name}.{name}", start))
        self.evaluator.evaluate(node, names)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.path.append", "sys.path.insert"):
            added = (self.evaluator.evaluate(argument, names) for argument in node.args)
            self.folders += [path for path in added if isinstance(path, str)]

    def _if(self, node: ast.If, names: dict[str, object], module: str) -> None:
        test = self.evaluator.evaluate(node.test, names)
        if test is not UNKNOWN and not isinstance(test, (Name, Method)):
            self._block(node.body if test else node.orelse, names, module)
            return
        self.maybe += 1
        try:
            self._unless_returned(node.body, names, module)
            self._alternative(node.orelse, names, module)
        finally:
            self.maybe -= 1

    def _alternative(self, body: Iterable[ast.stmt], names: dict[str, object], module: str) -> None:
        """Follow an alternative branch: its settings and names count if the first branch sets none."""
        before, seen = dict(self.outcome.values), dict(names)
        self.maybe += 1
        try:
            self._unless_returned(body, names, module)
        finally:
            self.maybe -= 1
        for key, value in self.outcome.values.items():
            if key in before and before[key] is not UNKNOWN and before[key] != value:
                self.outcome.values[key] = before[key]
        names.update({key: value for key, value in seen.items() if value is not UNKNOWN})

    def _unless_returned(self, body: Iterable[ast.stmt], names: dict[str, object], module: str) -> None:
        try:
            self._block(body, names, module)
        except _Return:
            return  # the return is uncertain, so the following statements count as well

    def _compound(self, node: ast.stmt, names: dict[str, object], module: str) -> None:
        if isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                value = self.evaluator.evaluate(item.context_expr, names)
                if item.optional_vars is not None:
                    self._assign(item.optional_vars, value, names)
            self._block(node.body, names, module)
            return
        items = self.evaluator.evaluate(node.iter, names) if isinstance(node, (ast.For, ast.AsyncFor)) else UNKNOWN
        if isinstance(node, ast.For) and isinstance(items, (list, tuple, set, dict)):
            for item in list(items)[:MAX_ITEMS]:
                self._assign(node.target, item, names)
                self._block(node.body, names, module)
            return
        self.maybe += 1
        try:
            if isinstance(node, (ast.For, ast.AsyncFor)):
                self._assign(node.target, UNKNOWN, names)
            self._unless_returned(getattr(node, "body", []), names, module)
        finally:
            self.maybe -= 1

    def _class(self, node: ast.ClassDef, names: dict[str, object], module: str) -> ClassName:
        attributes: dict[str, object] = dict(names)
        self._block([item for item in node.body if isinstance(item, (ast.Assign, ast.AnnAssign))], attributes, module)
        own = {key: value for key, value in attributes.items() if key not in names or names[key] is not value}
        bases = tuple(self.evaluator.evaluate(base, names) for base in node.bases)
        return ClassName(f"{module}.{node.name}" if module else node.name, bases, own)

    def _import(self, node: ast.stmt, names: dict[str, object], module: str) -> None:
        if isinstance(node, ast.Import):
            for item in node.names:
                dotted = item.name if item.asname else item.name.partition(".")[0]
                names[item.asname or dotted] = self._imported(dotted, module)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: len(module.split(".")) - node.level + self._is_package(module)] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            for item in node.names:
                names[item.asname or item.name] = self._member(base, item.name, module)

    def _is_package(self, module: str) -> int:
        return int(bool(self.modules.get(module, {}).get("__package_file__")))

    def _member(self, base: str, name: str, module: str) -> object:
        found = self._module(base, module)
        if found is not None and name in found:
            return found[name]
        inner = self._module(f"{base}.{name}", module)
        return Name(f"{base}.{name}") if inner is None else _Module(f"{base}.{name}", inner)

    def _imported(self, dotted: str, module: str) -> object:
        found = self._module(dotted, module)
        return Name(dotted) if found is None else _Module(dotted, found)

    def _module(self, dotted: str, importer: str) -> Optional[dict[str, object]]:
        """Return the names of a module that belongs to the configuration, None for one of a library."""
        top = dotted.partition(".")[0]
        own = not importer or importer.partition(".")[0] == top
        if dotted in self.modules or not own or not dotted or top in LIBRARIES or len(self.modules) >= MAX_MODULES:
            return self.modules.get(dotted)
        found = self.machine.module(dotted, tuple(self.folders))
        if found is None:
            return None
        path, text = found
        names: dict[str, object] = {"__file__": path, "__name__": dotted, "__package_file__": path.endswith("/__init__.py")}
        self.modules[dotted] = names
        self.outcome.files.append(path)
        whole = self.evaluator.limit
        self.evaluator.limit = min(whole, self.evaluator.steps + MODULE_STEPS)
        try:
            self._block(ast.parse(text).body, names, dotted)
        except (SyntaxError, ValueError, _Return, BudgetError):
            pass  # names read up to here are known
        finally:
            self.evaluator.limit = whole
        return names


class _Module(ClassName):
    """A module whose names are known; its attributes are those names."""

    def __init__(self, dotted: str, names: dict[str, object]) -> None:
        super().__init__(dotted, (), names)


def evaluate(text: str, path: str, machine: Machine) -> Evaluated:
    """Return the settings of a configuration.

    :param path: path of the file as the hub sees it
    :raises InputError: the text is not valid Python
    """
    interpreter = Interpreter(machine, path)
    interpreter.run(text, path)
    return interpreter.outcome
