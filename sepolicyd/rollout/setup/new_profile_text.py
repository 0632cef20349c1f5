"""Text of a first profile.yaml, .te and .fc for a service; sorted, and made of checked words alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sepolicyd.errors import InputError
from sepolicyd.module.base_module import render_gen_fc
from sepolicyd.rollout.setup.labels import context_of

if TYPE_CHECKING:
    from sepolicyd.rollout.setup.service import Service

TEMPLATE = "templates/service.te.in"
# "@IF KIND@" and "@END@" on lines of their own enclose text for files of this kind ("root": for a unit that starts as root)
BLOCK = re.compile(r"^@IF (\w+)@\n(.*?)^@END@\n", re.MULTILINE | re.DOTALL)
NAME = "@NAME@"


def read_template(dirs: Iterable[Path]) -> str:
    """Return the base module's template, of the first directory that has one.

    :raises InputError: none has one, or it cannot be read
    """
    places = [directory / TEMPLATE for directory in dirs]
    place = next((each for each in places if each.is_file()), None)
    if place is None:
        raise InputError(
            f"there is no {TEMPLATE} in {', '.join(str(each.parent.parent) for each in places)}", "reinstall sepolicyd"
        )
    try:
        return place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{place} cannot be read: {error}", "reinstall sepolicyd") from error


def render_te(service: Service, template: str) -> str:
    """Return the base module's source, for both families of base policy."""
    present = {*service.kinds, *(["root"] if service.unit.user in ("root", "0") else [])}
    text = BLOCK.sub(lambda block: block[2] if block[1] in present else "", template)
    return text.replace(NAME, service.name)


def render_fc(service: Service, subs: Mapping[str, str]) -> str:
    """Return its file contexts."""
    return render_gen_fc(context_of(label, subs) for label in service.labels)


def render_profile(service: Service) -> str:
    """Return its profile.yaml. Texts are JSON strings, which are YAML too."""
    name, unit = service.name, service.unit.name
    program = service.program.rpartition("/")[2]
    lines = [
        f"# A first profile of {name}, written by `sepolicyd init --new` from {unit}.",
        f"name: {name}",
        f"description: {json.dumps(f'{name}, as {unit} starts it')}",
        f"units: [{json.dumps(unit)}]",
        "roles:",
        "  - name: main",
        f"    description: {json.dumps(f'{program} and what it starts')}",
        f"    domains: [{name}_t]",
        f"    units: [{json.dumps(unit)}]",
        f"    programs: [{json.dumps(program)}]",
        "answering:",
        "  - domain: init_t",
        "    classes: [dbus, dir, file, lnk_file, process, unix_stream_socket, fd]",
        "    why: systemd answers over D-Bus and reads the caller's /proc entry",
        "noise: [load_policy_t, setfiles_t, semanage_t]",
    ]
    if service.ports:
        lines.append("ports:")
        for index, number in enumerate(service.ports, 1):
            title = "public" if index == 1 else f"port {index}"
            lines.append(f"  - {{name: {title}, protocol: tcp, number: {number}, type: {name}_port_t}}")
    lines.append("paths:")
    for label in service.labels:
        pattern = context_of(label, {}).pattern
        what = json.dumps(label.what or "its own")
        lines.append(f"  - {{pattern: {json.dumps(pattern)}, type: {label.type}, description: {what}}}")
    lines += [
        f"code: [{name}_exec_t]",
        "exercises:",
        "  - {name: start, description: start the service}",
        "  - {name: use, description: use each thing that it offers}",
        "  - {name: reload, description: reload or restart it while it is used}",
        "  - {name: stop, description: stop it}",
        f"modules: [{name}.te, {name}.fc]",
    ]
    return "\n".join(lines) + "\n"
