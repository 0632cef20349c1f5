"""Root directories with the files of each way to install JupyterHub."""

from __future__ import annotations

from pathlib import Path

UNIT = """\
[Unit]
Description=JupyterHub
[Service]
ExecStart={hub} -f {config}
WorkingDirectory={state}
{more}
[Install]
WantedBy=multi-user.target
"""
CONFIG = "c = get_config()\nc.JupyterHub.bind_url = 'http://:8000'\n"


def put(root: Path, path: str, text: str = "", *, mode: int = 0o644) -> Path:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    place.chmod(mode)
    return place


def put_hub(
    root: Path,
    prefix: str = "/opt/jupyterhub",
    *,
    python: str = "",
    config: str = CONFIG,
    config_path: str = "/etc/jupyterhub/jupyterhub_config.py",
    state: str = "/srv/jupyterhub",
    unit: str = "jupyterhub.service",
    exec_start: str = "",
    more: str = "",
    proxy: bool = True,
) -> None:
    """A hub under ``prefix`` with a proxy from npm in /usr/local, and the unit that starts it ("" for none)."""
    shebang = f"#!{python or prefix + '/bin/python3'}\n"
    for script in ("jupyterhub", "jupyterhub-singleuser", "jupyter-labhub"):
        put(root, f"{prefix}/bin/{script}", shebang, mode=0o755)
    put(root, f"{prefix}/lib/python3.11/site-packages/jupyterhub-5.2.1.dist-info/METADATA", "Name: jupyterhub\n")
    if proxy:
        real = "usr/local/lib/node_modules/configurable-http-proxy/bin/configurable-http-proxy"
        put(root, real, "#!/usr/bin/env node\n", mode=0o755)
        link = root / "usr/local/bin/configurable-http-proxy"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to("../lib/node_modules/configurable-http-proxy/bin/configurable-http-proxy")
    put(root, config_path, config)
    (root / state.lstrip("/")).mkdir(parents=True, exist_ok=True)
    if unit:
        start = exec_start or f"{prefix}/bin/jupyterhub"
        text = UNIT.format(hub=start, config=config_path, state=state, more=more)
        put(root, f"/etc/systemd/system/{unit}", text)
