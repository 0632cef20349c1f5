"""Root directories with a mosquitto broker, from the files of its packages."""

from __future__ import annotations

from pathlib import Path

from tests.paths import DATA
from tests.services.jupyterhub.machines import put

RELEASES = ("debian12", "debian13")


def shipped(name: str) -> str:
    """A file of tests/data/mosquitto."""
    return (DATA / "mosquitto" / name).read_text(encoding="utf-8")


def put_broker(root: Path, local: str = "", *, release: str = "debian12", drop_in: str = "") -> None:
    """Install the broker of a release, with an administrator's file in conf.d and a drop-in of the unit."""
    put(root, "/usr/sbin/mosquitto", "\x7fELF", mode=0o755)
    put(root, "/usr/lib/systemd/system/mosquitto.service", shipped(f"{release}.service"))
    put(root, "/etc/mosquitto/mosquitto.conf", shipped(f"{release}.conf"))
    put(root, "/etc/mosquitto/conf.d/README", "Any files placed in this directory that have a .conf ending are loaded\n")
    if local:
        put(root, "/etc/mosquitto/conf.d/local.conf", local)
    if drop_in:
        put(root, "/etc/systemd/system/mosquitto.service.d/10-local.conf", drop_in)
    (root / "var/lib/mosquitto").mkdir(parents=True, exist_ok=True)
