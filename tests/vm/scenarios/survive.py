"""After a rollout: an upgrade of JupyterHub by pip, and a reboot; the hub stays in its domain."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.vm.bench import Context, Scenario, listed, unique
from tests.vm.errors import CannotRun
from tests.vm.image import cache_directory
from tests.vm.scenarios.steps import OURS, configure, permissive

PIP = "/opt/jupyterhub/bin/pip"
# `jupyterhub --version` imports the whole hub: half a minute on an emulated processor
VERSION = "/opt/jupyterhub/bin/python3 -c 'from importlib import metadata; print(metadata.version(\"jupyterhub\"))'"
ENTRIES = {
    "/opt/jupyterhub/bin/jupyterhub": "jupyterhub_exec_t",
    "/opt/jupyterhub/bin/jupyterhub-singleuser": "jupyterhub_user_exec_t",
}


def wheel(version: str) -> Path:
    """The wheel of the newest release of which this holds ("==5.4.2", "<5.4.2"), fetched by this machine's pip."""
    place = cache_directory() / "wheels" / version.strip("=<")
    if "<" in version:
        place = place.with_name(f"before-{place.name}")
    if not place.is_dir():
        words = ["pip3", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(place), f"jupyterhub{version}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotRun(f"pip could not fetch jupyterhub{version}: {done.stderr.strip()[-300:]}")
    return next(place.glob("*.whl"))


def release(context: Context, path: Path) -> str:
    """Install this release over the present one, as an administrator would: from a root shell, with pip, nothing else."""
    context.machine.put(f"/root/{path.name}", path.read_bytes())
    context.run(f"{PIP} install -q --no-index --no-deps --force-reinstall /root/{path.name}", timeout=300)
    return context.run(VERSION).out.strip()


def labels_kept(context: Context, after: str) -> None:
    for path, wanted in ENTRIES.items():
        label = context.run(f"stat -c %C {path}").out.strip()
        context.expect(f":{wanted}:" in label, f"after {after} {path} is {label} and not {wanted}")


def works(context: Context, after: str, *names: str) -> None:
    """The hub under enforcing in its domain, these users' lesson, and nothing denied to the service."""
    context.mode("Enforcing")
    context.expect(not permissive(context) & OURS, f"after {after} a domain of ours is permissive")
    mark = context.mark()
    context.hub_up()
    domain = context.run("cat /proc/$(systemctl show -p MainPID --value jupyterhub)/attr/current").out
    context.expect(":jupyterhub_t:" in domain, f"after {after} the hub runs as {domain.strip(chr(0))}")
    if names:
        context.lesson(*names)
    new = {access for access in unique(context.denied(mark)) if set(access[:2]) & OURS}
    context.figures.new_denials = (context.figures.new_denials or 0) + len(new)
    context.expect(not new, f"after {after} the class is denied: {listed(new)}")
    context.note(f"after {after}: the {'class' if names else 'hub'} works, nothing denied")


def play(context: Context) -> None:
    context.mode("Enforcing")
    configure(context)
    # the one question of scenario `domain`, answered as it was there
    context.run("setsebool -P jupyterhub_user_execmem on; systemctl enable jupyterhub", timeout=120)
    current = context.run(VERSION).out.strip()
    older = release(context, wheel(f"<{current}"))
    context.expect(older != current, f"pip left JupyterHub at {current}")
    labels_kept(context, f"JupyterHub {older} was installed")
    context.run("systemctl restart jupyterhub")
    works(context, f"the start of JupyterHub {older}")
    release(context, wheel(f"=={current}"))
    labels_kept(context, f"the upgrade to {current}")
    context.run("systemctl restart jupyterhub")
    works(context, f"the upgrade from {older} to {current}", "bob")
    context.machine.reboot()
    works(context, "a reboot", "alice")


SCENARIO = Scenario("survive", "slim", "an upgrade of JupyterHub by pip and a reboot under enforcing", play)
