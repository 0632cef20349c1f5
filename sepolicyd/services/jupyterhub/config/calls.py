"""Functions and methods with results known without a run. Each takes and returns evaluated values."""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Mapping
from pathlib import PurePosixPath

from sepolicyd.services.jupyterhub.config.machine import Machine
from sepolicyd.services.jupyterhub.config.values import MAX_ITEMS, MAX_TEXT, UNKNOWN, Builtin, File, Name


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


TEXT_METHODS = _names(
    "format format_map strip lstrip rstrip lower upper title replace split rsplit splitlines partition rpartition join "
    "startswith endswith isdigit removeprefix removesuffix"
)
PATH_METHODS = _names("joinpath as_posix with_name with_suffix relative_to is_absolute")
LIST_METHODS = _names("append extend insert index count copy")
DICT_METHODS = _names("get keys values items update setdefault pop copy")
SET_METHODS = _names("add update union copy")
PATH_FIELDS = frozenset(("parent", "name", "stem", "suffix", "parts"))
METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, TEXT_METHODS),
    (PurePosixPath, PATH_METHODS),
    (list, LIST_METHODS),
    (dict, DICT_METHODS),
    (set, SET_METHODS),
)
FAILURES = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, ArithmeticError, RecursionError)
NO_FORMAT_WIDTH = frozenset("0123456789*")


def call_method(owner: object, name: str, args: list[object], keywords: Mapping[str, object]) -> object:
    """Return the result of ``owner.name(*args, **keywords)``, or UNKNOWN."""
    for kind, names in METHODS:
        if isinstance(owner, kind) and name in names:
            break
    else:
        return UNKNOWN
    if name in ("format", "format_map") and _wide(str(owner)):
        return UNKNOWN
    try:
        return bounded(getattr(owner, name)(*args, **keywords))
    except FAILURES:
        return UNKNOWN


def bounded(value: object) -> object:
    """Return the value, or UNKNOWN for a text or container over the limits; views and iterators become lists."""
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else UNKNOWN
    if isinstance(value, (list, tuple, set, dict)):
        return value if len(value) <= MAX_ITEMS else UNKNOWN
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else UNKNOWN
    if isinstance(value, (float, type(None), PurePosixPath)):
        return value
    if isinstance(value, (type({}.keys()), type({}.values()), type({}.items()))):
        return list(value)[:MAX_ITEMS]
    return UNKNOWN


def functions(machine: Machine) -> dict[str, Builtin]:
    """Return the known functions, by the name of the builtin or import."""
    table: dict[str, Builtin] = {
        **_paths(machine),
        **_files(machine),
        "os.environ.get": machine.environment.get,
        "os.getenv": machine.environment.get,
        "os.getcwd": lambda: machine.workdir,
        "os.fspath": str,
        "shutil.which": lambda program, *_: machine.which(str(program)),
        "pathlib.Path.cwd": lambda: PurePosixPath(machine.workdir),
        "copy.copy": copy.copy,
        "copy.deepcopy": copy.deepcopy,
        "socket.gethostname": lambda: UNKNOWN,
    }
    builtins: tuple[Builtin, ...] = (str, int, float, bool, list, tuple, set, dict, sorted, len, min, max, sum, abs, any, all)
    table.update({function.__name__: function for function in builtins})
    table.update({"frozenset": set, "print": lambda *_, **__: None, "range": _range, "enumerate": _enumerate, "zip": _zip})
    return table


def _paths(machine: Machine) -> dict[str, Builtin]:
    joined: dict[str, Builtin] = {
        "join": posixpath.join,
        "dirname": posixpath.dirname,
        "basename": posixpath.basename,
        "normpath": posixpath.normpath,
        "split": posixpath.split,
        "splitext": posixpath.splitext,
        "isabs": posixpath.isabs,
        "abspath": lambda path: posixpath.normpath(machine.absolute(str(path))),
        "realpath": lambda path: posixpath.normpath(machine.absolute(str(path))),
        "expanduser": lambda path: _home(str(path)),
        "exists": lambda path: machine.is_file(str(path)) or machine.is_dir(str(path)),
        "isfile": lambda path: machine.is_file(str(path)),
        "isdir": lambda path: machine.is_dir(str(path)),
    }
    table = {f"os.path.{name}": function for name, function in joined.items()}
    return {**table, "pathlib.Path": PurePosixPath, "pathlib.PurePath": PurePosixPath, "pathlib.PosixPath": PurePosixPath}


def _files(machine: Machine) -> dict[str, Builtin]:
    def load(kind: str) -> Builtin:
        return lambda file, *_, **__: machine.load(file.path, kind) if isinstance(file, File) else UNKNOWN

    names = ("yaml.safe_load", "yaml.load", "ruamel.yaml.YAML.load")
    return {
        "ruamel.yaml.YAML": lambda *_, **__: Name("ruamel.yaml.YAML"),
        "open": lambda path, *_, **__: File(str(path)),
        "glob.glob": lambda pattern, *_, **__: machine.glob(str(pattern)),
        "json.load": load("json"),
        **{name: load("yaml") for name in names},
    }


def path_method(machine: Machine, path: PurePosixPath, name: str, args: list[object]) -> object:
    """Return the result of a pathlib.Path method that reads the machine, UNKNOWN for any other method."""
    text = str(path)
    if name in ("exists", "is_file", "is_dir"):
        here = (machine.is_file(text), machine.is_dir(text))
        return {"exists": any(here), "is_file": here[0], "is_dir": here[1]}[name]
    if name in ("absolute", "resolve"):
        return PurePosixPath(posixpath.normpath(machine.absolute(text)))
    if name == "expanduser":
        home = _home(text)
        return PurePosixPath(home) if isinstance(home, str) else UNKNOWN
    if name == "open":
        return File(text)
    if name == "glob" and args:
        return [PurePosixPath(found) for found in machine.glob(f"{text}/{args[0]}")]
    return UNKNOWN


def _home(path: str) -> object:
    """Expand "~" for root, whose home is the same everywhere; "~user" would need the password file."""
    if path == "~" or path.startswith("~/"):
        return "/root" + path[1:]
    return UNKNOWN if path.startswith("~") else path


def _range(*limits: object) -> object:
    numbers = range(*(int(limit) for limit in limits if isinstance(limit, int)))
    return list(numbers) if len(numbers) <= MAX_ITEMS else UNKNOWN


def _enumerate(items: list[object], start: int = 0) -> object:
    return [(index + start, item) for index, item in enumerate(items)]


def _zip(*lists: list[object]) -> object:
    return list(zip(*lists))


def _wide(template: str) -> bool:
    """Tell whether a format has a width, which could make a text of any length."""
    specs = (piece.split("}")[0].partition(":")[2] for piece in template.split("{"))
    return any(set(spec) & NO_FORMAT_WIDTH for spec in specs)
