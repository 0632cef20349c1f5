"""Evaluate Python expressions over known values, without running the configuration. All other values are UNKNOWN."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Callable, Protocol

from sepolicyd.services.jupyterhub.config import calls
from sepolicyd.services.jupyterhub.config.machine import Machine
from sepolicyd.services.jupyterhub.config.values import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_STEPS,
    UNKNOWN,
    Builtin,
    ClassName,
    ConfigObject,
    ConfigSection,
    Method,
    Name,
    known,
    plain,
)

WIDTH = re.compile(r"%(\([^)]*\))?[-+ #0]*([0-9*]{4,})")
COMPARISONS: Mapping[type, Callable[[object, object], object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: lambda left, right: left is right,
    ast.IsNot: lambda left, right: left is not right,
    ast.In: lambda left, right: left in right,  # type: ignore[operator]
    ast.NotIn: lambda left, right: left not in right,  # type: ignore[operator]
    ast.Lt: lambda left, right: left < right,  # type: ignore[operator]
    ast.LtE: lambda left, right: left <= right,  # type: ignore[operator]
    ast.Gt: lambda left, right: left > right,  # type: ignore[operator]
    ast.GtE: lambda left, right: left >= right,  # type: ignore[operator]
}
ARITHMETIC: Mapping[type, Callable[[object, object], object]] = {
    ast.Sub: lambda left, right: left - right,  # type: ignore[operator]
    ast.FloorDiv: lambda left, right: left // right,  # type: ignore[operator]
    ast.BitOr: lambda left, right: left | right,  # type: ignore[operator]
    ast.BitAnd: lambda left, right: left & right,  # type: ignore[operator]
}


BUILT_IN = frozenset(("dict", "get_config", "isinstance", "load_subconfig", "setattr"))


class BudgetError(Exception):
    """The limits of the evaluation are reached."""


class Calls(Protocol):
    """Callback for calls of functions defined in the configuration, and for assignments to settings."""

    def call(self, function: object, args: list[object], keywords: dict[str, object], source: str) -> object: ...

    def set(self, section: str, name: str, value: object) -> None: ...


class Evaluator:
    """Evaluates expressions in one file.

    :param functions: known functions by dotted name
    :param settings: values of ``c.Section.name``, by "Section.name"
    """

    def __init__(
        self, machine: Machine, functions: Mapping[str, Builtin], settings: dict[str, object], calls_to: Calls
    ) -> None:
        self.machine = machine
        self.functions = functions
        self.settings = settings
        self.calls_to = calls_to
        prefix = machine.prefix
        self.constants: dict[str, object] = {
            "sys.prefix": prefix or UNKNOWN,
            "sys.exec_prefix": prefix or UNKNOWN,
            "sys.executable": f"{prefix}/bin/python3" if prefix else UNKNOWN,
            "sys.platform": "linux",
            "os.sep": "/",
            "os.name": "posix",
            "os.environ": dict(machine.environment),
        }
        self.steps = 0
        self.limit = MAX_STEPS
        self.depth = 0

    def evaluate(self, node: ast.AST, names: Mapping[str, object]) -> object:
        """Return the value of an expression, UNKNOWN if it depends on a run.

        :raises BudgetError: the limits are reached
        """
        self.steps += 1
        if self.steps > self.limit:
            raise BudgetError
        if self.depth > MAX_DEPTH:
            return UNKNOWN
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            return UNKNOWN
        self.depth += 1
        try:
            return method(node, names)
        except calls.FAILURES:
            return UNKNOWN
        finally:
            self.depth -= 1

    def attribute(self, owner: object, name: str) -> object:
        """Return ``owner.name``."""
        if isinstance(owner, ConfigObject):
            return ConfigSection(name)
        if isinstance(owner, ConfigSection):
            key = f"{owner.name}.{name}"
            return self.settings[key] if key in self.settings else Method(owner, name)
        if isinstance(owner, Name):
            return self.of_name(f"{owner.dotted}.{name}")
        if isinstance(owner, ClassName):
            return owner.attributes.get(name, UNKNOWN)
        if isinstance(owner, PurePosixPath) and name in calls.PATH_FIELDS:
            return calls.bounded(getattr(owner, name))
        return UNKNOWN if owner is UNKNOWN else Method(owner, name)

    def of_name(self, dotted: str) -> object:
        """Return the value of an imported object: the known value on the machine, or its name."""
        return self.constants[dotted] if dotted in self.constants else Name(dotted)

    def _constant(self, node: ast.Constant, _names: Mapping[str, object]) -> object:
        return node.value if isinstance(node.value, (str, int, float, bool, type(None))) else UNKNOWN

    def _name(self, node: ast.Name, names: Mapping[str, object]) -> object:
        if node.id in names:
            return names[node.id]
        return Name(node.id) if node.id in self.functions or node.id in BUILT_IN else UNKNOWN

    def _attribute(self, node: ast.Attribute, names: Mapping[str, object]) -> object:
        return self.attribute(self.evaluate(node.value, names), node.attr)

    def _list(self, node: ast.List, names: Mapping[str, object]) -> object:
        return self._items(node.elts, names)

    def _tuple(self, node: ast.Tuple, names: Mapping[str, object]) -> object:
        return tuple(self._items(node.elts, names))

    def _set(self, node: ast.Set, names: Mapping[str, object]) -> object:
        return set(self._items(node.elts, names))

    def _items(self, nodes: Iterable[ast.expr], names: Mapping[str, object]) -> list[object]:
        found: list[object] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                inner = self.evaluate(node.value, names)
                found.extend(inner if isinstance(inner, (list, tuple)) else [UNKNOWN])
            else:
                found.append(self.evaluate(node, names))
        return found[:MAX_ITEMS]

    def _dict(self, node: ast.Dict, names: Mapping[str, object]) -> object:
        found: dict[object, object] = {}
        for key, value in zip(node.keys, node.values):
            result = self.evaluate(value, names)
            if key is None:
                found.update(result if isinstance(result, dict) else {})
            else:
                name = self.evaluate(key, names)
                if known(name):
                    found[name] = result
        return found

    def _joinedstr(self, node: ast.JoinedStr, names: Mapping[str, object]) -> object:
        text = ""
        for part in node.values:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            value = self.evaluate(inner, names)
            if not isinstance(value, (str, int, float, PurePosixPath)) or getattr(part, "format_spec", None) is not None:
                return UNKNOWN
            text += str(value)
        return calls.bounded(text)

    def _binop(self, node: ast.BinOp, names: Mapping[str, object]) -> object:
        left, right = self.evaluate(node.left, names), self.evaluate(node.right, names)
        if isinstance(node.op, ast.Mod) and isinstance(left, str):
            if WIDTH.search(left) or not plain(right):
                return UNKNOWN
            return calls.bounded(left % (tuple(right) if isinstance(right, tuple) else right))
        if not known(left, right):
            return UNKNOWN
        if isinstance(node.op, ast.Add):
            return calls.bounded(left + right)  # type: ignore[operator]
        if isinstance(node.op, ast.Mult) and isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return calls.bounded(left * right)
        if isinstance(node.op, ast.Div):
            return calls.bounded(left / right)  # type: ignore[operator]
        step = ARITHMETIC.get(type(node.op))
        return calls.bounded(step(left, right)) if step else UNKNOWN

    def _boolop(self, node: ast.BoolOp, names: Mapping[str, object]) -> object:
        last: object = UNKNOWN
        for part in node.values:
            last = self.evaluate(part, names)
            if last is UNKNOWN:
                return UNKNOWN
            if bool(last) is isinstance(node.op, ast.Or):
                return last
        return last

    def _unaryop(self, node: ast.UnaryOp, names: Mapping[str, object]) -> object:
        value = self.evaluate(node.operand, names)
        if value is UNKNOWN:
            return UNKNOWN
        if isinstance(node.op, ast.Not):
            return not value
        return -value if isinstance(node.op, ast.USub) and isinstance(value, (int, float)) else UNKNOWN

    def _compare(self, node: ast.Compare, names: Mapping[str, object]) -> object:
        left = self.evaluate(node.left, names)
        for step, right_node in zip(node.ops, node.comparators):
            right = self.evaluate(right_node, names)
            if not known(left, right) or isinstance(left, (Name, Method)) or isinstance(right, (Name, Method)):
                return UNKNOWN
            if not COMPARISONS[type(step)](left, right):
                return False
            left = right
        return True

    def _ifexp(self, node: ast.IfExp, names: Mapping[str, object]) -> object:
        test = self.evaluate(node.test, names)
        if test is UNKNOWN or isinstance(test, (Name, Method)):
            return UNKNOWN
        return self.evaluate(node.body if test else node.orelse, names)

    def _subscript(self, node: ast.Subscript, names: Mapping[str, object]) -> object:
        owner = self.evaluate(node.value, names)
        if isinstance(node.slice, ast.Slice):
            parts = (node.slice.lower, node.slice.upper, node.slice.step)
            limits = [self.evaluate(part, names) if part else None for part in parts]
            numbers = [item for item in limits if item is None or isinstance(item, int)]
            fits = len(numbers) == len(limits)
            return owner[slice(*numbers)] if isinstance(owner, (str, list, tuple)) and fits else UNKNOWN
        index = self.evaluate(node.slice, names)
        if isinstance(owner, ConfigObject) and isinstance(index, str):
            return ConfigSection(index)
        if isinstance(owner, ConfigSection) and isinstance(index, str):
            return self.attribute(owner, index)
        if isinstance(owner, dict):
            return owner[index] if known(index) else UNKNOWN
        return owner[index] if isinstance(owner, (str, list, tuple)) and isinstance(index, int) else UNKNOWN

    def _listcomp(self, node: ast.ListComp, names: Mapping[str, object]) -> object:
        step = node.generators[0]
        items = self.evaluate(step.iter, names)
        if len(node.generators) > 1 or not isinstance(step.target, ast.Name) or not isinstance(items, (list, tuple, set, dict)):
            return UNKNOWN
        found = []
        for item in list(items)[:MAX_ITEMS]:
            inner = {**names, step.target.id: item}
            tests = [self.evaluate(test, inner) for test in step.ifs]
            if not known(*tests):
                return UNKNOWN
            if all(tests):
                found.append(self.evaluate(node.elt, inner))
        return found

    _generatorexp = _listcomp

    def _call(self, node: ast.Call, names: Mapping[str, object]) -> object:
        function = self.evaluate(node.func, names)
        args = self._items(node.args, names)
        keywords: dict[str, object] = {}
        for keyword in node.keywords:
            value = self.evaluate(keyword.value, names)
            if keyword.arg is not None:
                keywords[keyword.arg] = value
            elif isinstance(value, dict):
                keywords.update({str(key): item for key, item in value.items()})
        source = ast.unparse(node.func)
        if isinstance(function, Name):
            return self._known_call(function.dotted, args, keywords, source)
        if isinstance(function, Method):
            return self._method(function, args, keywords)
        return self.calls_to.call(function, args, keywords, source)

    def _known_call(self, dotted: str, args: list[object], keywords: dict[str, object], source: str) -> object:
        if dotted.rpartition(".")[2] == "get_config":
            return ConfigObject.CONFIG
        if dotted == "setattr" and len(args) == 3 and isinstance(args[0], ConfigSection):
            self.calls_to.set(args[0].name, str(args[1]), args[2])
            return None
        if dotted == "isinstance" and known(*args):
            return _is_instance(args)
        if dotted == "dict":
            return {**(args[0] if args and isinstance(args[0], dict) else {}), **keywords}
        function = self.functions.get(dotted)
        if function is None:
            return self.calls_to.call(Name(dotted), args, keywords, source)
        return function(*args) if known(*args) or dotted in ("list", "tuple", "set") else UNKNOWN

    def _method(self, method: Method, args: list[object], keywords: dict[str, object]) -> object:
        owner, name = method.owner, method.name
        if isinstance(owner, ConfigSection):
            return UNKNOWN
        if isinstance(owner, PurePosixPath):
            found = calls.path_method(self.machine, owner, name, args)
            if found is not UNKNOWN:
                return found
        if isinstance(owner, (str, PurePosixPath)) and not plain(*args, *keywords.values()):
            return UNKNOWN
        return calls.call_method(owner, name, args, keywords)


def _is_instance(args: list[object]) -> object:
    kinds = {"dict": dict, "list": list, "str": str, "int": int, "tuple": tuple, "bool": bool, "set": set}
    names = args[1] if isinstance(args[1], tuple) else (args[1],)
    found = [kinds.get(name.dotted) for name in names if isinstance(name, Name)]
    return UNKNOWN if None in found else isinstance(args[0], tuple(kind for kind in found if kind))
