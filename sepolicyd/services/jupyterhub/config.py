"""Read the literal settings of jupyterhub_config.py. The file is parsed, never executed."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Union
from urllib.parse import urlsplit

from sepolicyd.errors import InputError

MAX_CONFIG_BYTES = 4 * 1024 * 1024
Literal = Union[str, int, bool, tuple[str, ...]]


@dataclass(frozen=True)
class HubConfig:
    """Settings by name, such as "JupyterHub.port". ``computed`` names those whose value is known only at run time."""

    path: Optional[Path] = None
    values: Mapping[str, Literal] = field(default_factory=dict)
    computed: tuple[str, ...] = ()

    def text(self, *keys: str) -> str:
        """Return the value of the first of these keys that is set to a string, else ""."""
        return next((value for value in map(self.values.get, keys) if isinstance(value, str)), "")

    def number(self, *keys: str) -> Optional[int]:
        found = (value for value in map(self.values.get, keys) if isinstance(value, int) and not isinstance(value, bool))
        return next(found, None)

    def command(self, *keys: str) -> tuple[str, ...]:
        """Return the value of the first of these keys that is set to a command: a list, or one word."""
        for value in map(self.values.get, keys):
            if isinstance(value, str):
                return (value,)
            if isinstance(value, tuple):
                return value
        return ()


def parse(text: str, path: Optional[Path] = None, known: Optional[Mapping[str, str]] = None) -> HubConfig:
    """Parse the text of a configuration file.

    :param known: expressions with a known value, such as {"sys.prefix": "/opt/jupyterhub"}
    :raises InputError: the text is not valid Python
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(
            f"{path or 'the configuration'} is not valid Python: {error}", "correct it; the hub cannot read it either"
        ) from None
    values: dict[str, Literal] = {}
    computed: dict[str, None] = {}
    constants: dict[str, Literal] = dict(known or {})
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign):
            continue
        value = _literal(node.value, constants)
        for target in node.targets:
            if isinstance(target, ast.Name) and value is not None:
                constants[target.id] = value
            key = _key(target)
            if not key:
                continue
            computed.pop(key, None)
            values.pop(key, None)
            if value is None:
                computed[key] = None
            else:
                values[key] = value
    return HubConfig(path, values, tuple(computed))


def read(path: Path, shown: Optional[Path] = None, known: Optional[Mapping[str, str]] = None) -> HubConfig:
    """Read and parse a configuration file.

    :raises InputError: the file cannot be read, or is not valid Python
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES).decode(errors="replace")
    except OSError as error:
        raise InputError(
            f"{shown or path} cannot be read: {error.strerror}", "correct its mode, or give another file"
        ) from None
    return parse(text, shown or path, known)


def _key(target: ast.expr) -> str:
    """Return "JupyterHub.port" for ``c.JupyterHub.port`` or ``get_config().JupyterHub.port``."""
    if not isinstance(target, ast.Attribute) or not isinstance(target.value, ast.Attribute):
        return ""
    base = target.value.value
    name = base.id if isinstance(base, ast.Name) else getattr(getattr(base, "func", None), "id", "")
    return f"{target.value.attr}.{target.attr}" if name in ("c", "get_config") else ""


def _literal(node: ast.expr, constants: Mapping[str, Literal]) -> Optional[Literal]:
    """Evaluate a constant, a list of strings, strings joined by + or os.path.join, or a name assigned earlier to one."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, (str, int)) else None
    if isinstance(node, (ast.Name, ast.Attribute)):
        return constants.get(ast.unparse(node))
    if isinstance(node, (ast.List, ast.Tuple)):
        return _texts(node.elts, constants)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        both = _texts([node.left, node.right], constants)
        return None if both is None else "".join(both)
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
        whole = _texts(parts, constants)
        return None if whole is None else "".join(whole)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "os.path.join":
        words = _texts(node.args, constants)
        return None if words is None or not words else str(Path(*words))
    return None


def _texts(nodes: list[ast.expr], constants: Mapping[str, Literal]) -> Optional[tuple[str, ...]]:
    found = [_literal(node, constants) for node in nodes]
    texts = tuple(text for text in found if isinstance(text, str))
    return texts if len(texts) == len(found) else None


def port_of(url: str, default: int) -> int:
    """Return the port of a URL such as "http://:8000", ``default`` if it has none or is not a URL."""
    try:
        port = urlsplit(url).port
    except ValueError:
        return default
    return default if port is None else port
