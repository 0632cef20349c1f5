"""Build the guest's disk from a recipe: vmlinuz, initrd and one labelled ext4 image per policy.

Built once and kept under the recipe's hash in ${XDG_CACHE_HOME:-~/.cache}/sepolicyd-vm. Everything comes from the sources
that this machine itself uses: apt's from /etc/apt, Python packages through this machine's pip, node's through its npm.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tests.vm.errors import CannotRun

GUEST = Path(__file__).parent / "guest"
DISK_BYTES_NEEDED = 8 * 1024**3
FIELD = r"^([A-Za-z][\w-]*):[ \t]*((?:[^\n]|\n[ \t])*)"
IMAGE_SIZE = "4G"
USERS = ("alice", "bob", "teacher")
PREFIXES = ("/opt/jupyterhub", "/opt/anaconda3")
PIP = ("jupyterhub", "jupyterlab", "ipykernel", "matplotlib", "numpy")
NPM = ("configurable-http-proxy",)
DEBIAN = (
    "systemd", "systemd-sysv", "dbus", "udev", "kmod", "linux-image-cloud-amd64", "initramfs-tools", "zstd", "auditd",
    "selinux-policy-default", "selinux-policy-dev", "policycoreutils", "policycoreutils-python-utils",
    "policycoreutils-dev", "selinux-utils", "setools", "semodule-utils", "checkpolicy", "secilc", "python3",
    "python3-venv", "python3-pip", "python3-setuptools", "python3-wheel", "python3-click",
    "python3-jinja2", "python3-structlog", "python3-watchdog", "python3-yaml", "python3-setools", "python3-selinux",
    "nodejs", "libpam-systemd", "login", "passwd", "sudo", "procps", "iproute2", "make", "m4", "less",
    "ca-certificates", "openssl", "netbase",
)  # fmt: skip
# What a machine with users, a root shell and a service needs; a policy of these makes each semodule 3.5 times faster.
# xserver is here because the distribution's seusers names its user.
SLIM_MODULES = (
    "acct", "apt", "base", "bootloader", "clock", "cron", "daemontools", "dhcp", "dmidecode", "getty", "git", "gpg",
    "hostname", "i18n_input", "iptables", "loadkeys", "logrotate", "lvm", "mandb", "mta", "netlabel", "netutils", "ntp",
    "policykit", "pwauth", "rpcbind", "screen", "setrans", "shutdown", "ssh", "staff", "su", "sudo", "systemtap",
    "tmpreaper", "tzdata", "unconfined", "unprivuser", "xdg", "xserver",
)  # fmt: skip
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "setfiles": "policycoreutils",
    "npm": "npm (or nodejs of nodesource)",
    "pip3": "python3-pip",
}


@dataclass(frozen=True)
class BasePolicy:
    """Another machine's base policy, which a guest of the whole policy is changed over to before it plays."""

    label: str
    """the name of the directory that it came from"""
    kind: str
    """SELINUXTYPE"""
    archive: bytes
    """etc/selinux, var/lib/selinux and usr/share/selinux as a gzipped tar"""
    recipe: str = ""
    """the commands that change the guest over"""

    @property
    def name(self) -> str:
        """Part of a saved state's name: changes with every byte of the policy."""
        return f"{self.label}.{hashlib.sha256(self.archive + self.recipe.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Image:
    """What QEMU needs to boot the guest."""

    directory: Path
    policy: str
    """"slim" or "full", of the distribution's modules"""
    base: Optional[BasePolicy] = None
    """the base policy that takes the place of the distribution's"""

    @property
    def name(self) -> str:
        """The policy in the name of a saved state."""
        return self.base.name if self.base else self.policy

    @property
    def kind(self) -> str:
        """SELINUXTYPE in the guest."""
        return self.base.kind if self.base else "default"

    @property
    def disk(self) -> Path:
        return self.directory / f"{self.policy}.img"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"


def cache_directory() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "sepolicyd-vm"


def check_machine() -> None:
    """Everything that makes a run impossible, before anything is begun. :raises CannotRun:"""
    path = "/usr/sbin:/sbin:" + os.environ.get("PATH", "/usr/bin:/bin")
    for tool, package in TOOLS.items():
        if shutil.which(tool, path=path) is None:
            raise CannotRun(f"{tool} is not here: install the package {package}")
    if os.geteuid() != 0:
        raise CannotRun("building a labelled image needs root: run `sudo make test-vm`")
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(cache).free
    if free < DISK_BYTES_NEEDED:
        raise CannotRun(f"{cache} has {free >> 20} MiB free, the bench needs {DISK_BYTES_NEEDED >> 20} MiB")


def package_sources(codename: str, etc_apt: Path = Path("/etc/apt")) -> str:
    """This machine's apt sources for its own release, one-line and deb822 entries; other vendors' archives are left out."""
    files = [etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*"))]
    lines: list[str] = []
    for file in files:
        if file.suffix == ".list" and file.is_file():
            lines += one_line_entries(file.read_text(errors="replace"), codename)
        elif file.suffix == ".sources" and file.is_file():
            lines += deb822_entries(file.read_text(errors="replace"), codename)
    if not lines:
        raise CannotRun(f"{etc_apt} has no package source for {codename or 'a Debian release'}: the guest cannot be built")
    return "\n".join(lines) + "\n"


def one_line_entries(text: str, codename: str) -> list[str]:
    entry = re.compile(rf"^deb\s+(\[[^\]]*\]\s+)?\S+\s+{re.escape(codename)}(?![\w])\S*\s")
    return [line.strip() for line in text.splitlines() if codename and entry.match(line.strip() + " ")]


def deb822_entries(text: str, codename: str) -> list[str]:
    """Stanzas as one-line entries, so that both forms travel to the guest's apt in one file."""
    found: list[str] = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = {key.lower(): value.split() for key, value in re.findall(FIELD, re.sub(r"(?m)^#.*\n", "", stanza), re.M)}
        if fields.get("enabled") == ["no"] or "deb" not in fields.get("types", []):
            continue
        signed = fields.get("signed-by", [])
        option = f"[signed-by={signed[0]}] " if len(signed) == 1 and signed[0].startswith("/") else ""
        for suite in fields.get("suites", []):
            if codename and re.match(rf"{re.escape(codename)}(?![\w])", suite):
                components = " ".join(fields.get("components", []))
                found += [f"deb {option}{uri} {suite} {components}" for uri in fields.get("uris", [])]
    return found


def apt_options() -> list[str]:
    """This machine's ways to the archives (proxy, certificates, credentials, expired indexes), for mmdebstrap's own apt."""
    wanted = re.compile(r"Acquire::(https?|Check-|Retries|ForceIP|Queue|AllowInsecure|tor)", re.I)
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    lines = [line for line in dump.splitlines() if wanted.match(line) and not line.endswith('"";')]
    lines += ['Dir::Etc::netrcparts "/etc/apt/auth.conf.d/";', 'APT::Install-Recommends "false";']
    return [f"--aptopt={line}" for line in lines]


def codename() -> str:
    release = Path("/etc/os-release").read_text(errors="replace")
    found = re.search(r'^VERSION_CODENAME="?([\w-]+)', release, re.M)
    return found.group(1) if found else ""


def recipe_hash(sources: str) -> str:
    """Changes when anything does that ends up in the image. The project itself is installed later, into the running guest."""
    digest = hashlib.sha256(sources.encode())
    digest.update(repr((IMAGE_SIZE, USERS, PREFIXES, PIP, NPM, DEBIAN, SLIM_MODULES)).encode())
    digest.update(inspect.getsource(Builder).encode())
    for file in sorted(GUEST.iterdir()):
        digest.update(file.name.encode() + file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:16]


def ensure(policy: str) -> Image:
    """The image of this recipe, built if need be (other recipes' images are removed). :raises CannotRun:"""
    release = codename()
    sources = package_sources(release)
    cache = cache_directory()
    directory = cache / f"image-{recipe_hash(sources)}"
    image = Image(directory, policy)
    if image.disk.exists():
        return image
    for old in [*cache.glob("image-*"), *cache.glob("building-*"), *cache.glob("state-*")]:
        shutil.rmtree(old)
    building = cache / f"building-{os.getpid()}"
    building.mkdir(mode=0o700)
    Builder(building, release, sources).build()
    building.rename(directory)
    return image


class Builder:
    """One build; each step says how long it took."""

    def __init__(self, directory: Path, release: str, sources: str) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.release = release
        self.sources = sources
        self.log = directory / "build.log"

    def build(self) -> None:
        began = time.monotonic()
        for step in (self.bootstrap, self.jupyterhub, self.proxy, self.configure, self.full, self.slim):
            at = time.monotonic()
            step()
            print(f"image: {step.__name__} {time.monotonic() - at:.0f} s", file=sys.stderr, flush=True)
        shutil.rmtree(self.root)
        print(f"image: built in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    def call(self, *words: str, what: str, stdin: Optional[str] = None, env: Optional[dict[str, str]] = None) -> str:
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(words)}\n")
            log.flush()
            environment = {**os.environ, **(env or {})}
            done = subprocess.run(
                words, input=stdin, stdout=subprocess.PIPE, stderr=log, text=True, check=False, env=environment
            )
            log.write(done.stdout)
        if done.returncode != 0:
            tail = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise CannotRun(f"{what} failed ({words[0]} ended with {done.returncode}): {' / '.join(tail)}")
        return done.stdout

    def inside(self, *words: str, what: str, stdin: Optional[str] = None) -> str:
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return self.call("chroot", str(self.root), *words, what=what, stdin=stdin, env=path)

    def bootstrap(self) -> None:
        list_file = self.directory / "sources.list"
        list_file.write_text(self.sources)
        self.call(
            "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", *apt_options(),
            f"--include={','.join(DEBIAN)}", self.release, str(self.root), str(list_file),
            what="the base system",
        )  # fmt: skip
        boot = self.root / "boot"
        shutil.copy(next(boot.glob("vmlinuz-*")), self.directory / "vmlinuz")
        shutil.copy(next(boot.glob("initrd.img-*")), self.directory / "initrd")
        # No network in the guest, and sources may carry credentials.
        for secret in ("etc/apt/sources.list", "etc/apt/apt.conf.d/99mmdebstrap"):
            (self.root / secret).unlink(missing_ok=True)
        shutil.rmtree(self.root / "var/lib/apt/lists", ignore_errors=True)

    def jupyterhub(self) -> None:
        """Wheels are fetched by this machine's pip, wherever it is told to get them, for the guest's Python."""
        version = self.inside("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])", what="Python").strip()
        wheels = self.root / "wheels"
        platforms = [f"--platform=manylinux{tag}_x86_64" for tag in ("2014", "_2_17", "_2_28", "_2_34")]
        self.call(
            "pip3", "download", "-q", "-d", str(wheels), "--only-binary=:all:", f"--python-version={version}",
            "--implementation=cp", f"--abi=cp{version.replace('.', '')}", "--abi=abi3", "--abi=none", *platforms,
            "--platform=any", *PIP, what="fetching JupyterHub with pip",
        )  # fmt: skip
        for prefix in PREFIXES:
            self.inside("python3", "-m", "venv", prefix, what=prefix)
            self.inside(
                f"{prefix}/bin/pip", "install", "-q", "--no-index", "--find-links=/wheels", *PIP, what=f"JupyterHub in {prefix}"
            )
        shutil.rmtree(wheels)

    def proxy(self) -> None:
        prefix = f"--prefix={self.root / 'usr/local'}"
        self.call("npm", "install", "-g", "--no-fund", "--no-audit", prefix, *NPM, what="fetching the proxy with npm")

    def configure(self) -> None:
        """Users, keys, units; what an administrator of a course server has done before SELinux comes up."""
        root = self.root
        (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
        (root / "etc/hostname").write_text("guest\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost guest\n")
        (root / "etc/resolv.conf").write_text("")
        config = root / "etc/selinux/config"
        config.write_text("SELINUX=enforcing\nSELINUXTYPE=default\n")
        for user in USERS:
            self.inside("useradd", "-m", "-s", "/bin/bash", user, what="users")
        self.inside("chpasswd", what="passwords", stdin="".join(f"{user}:{password(user)}\n" for user in USERS))
        self.place("agent.py", "usr/local/lib/bench/agent.py")
        self.place("bench-agent.service", "etc/systemd/system/bench-agent.service")
        self.place("jupyterhub.service", "etc/systemd/system/jupyterhub.service")
        self.place("jupyterhub_config.py", "etc/jupyterhub/jupyterhub_config.py")
        (root / "etc/jupyterhub/extra.py").write_text("")
        keys = root / "etc/jupyterhub/keys"
        keys.mkdir(mode=0o700)
        self.inside(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=guest",
            "-keyout", "/etc/jupyterhub/keys/hub.key", "-out", "/etc/jupyterhub/keys/hub.crt", what="the TLS key",
        )  # fmt: skip
        (keys / "hub.key").chmod(0o600)
        secret = root / "etc/jupyterhub/cookie_secret"
        secret.write_text(os.urandom(32).hex() + "\n")
        secret.chmod(0o600)
        (root / "var/lib/jupyterhub").mkdir(mode=0o700)
        (root / "srv/course").mkdir(parents=True)
        self.inside("systemctl", "enable", "bench-agent.service", "auditd.service", what="units")
        self.inside("systemctl", "mask", "apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer", "e2scrub_all.timer",
                    "systemd-networkd-wait-online.service", what="units")  # fmt: skip

    def place(self, name: str, to: str) -> None:
        target = self.root / to
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(GUEST / name, target)

    def full(self) -> None:
        self.disk("full")

    def slim(self) -> None:
        modules = self.inside("semodule", "-l", what="the module list").split()
        drop = [module for module in modules if module not in SLIM_MODULES]
        self.inside("semodule", "-n", "-X", "100", "-r", *drop, what="cutting the policy down")
        self.disk("slim")

    def disk(self, policy: str) -> None:
        contexts = self.root / "etc/selinux/default/contexts/files/file_contexts"
        self.call("setfiles", "-F", "-r", str(self.root), str(contexts), str(self.root), what="labelling")
        disk = self.directory / f"{policy}.img"
        self.call("mke2fs", "-q", "-t", "ext4", "-d", str(self.root), str(disk), IMAGE_SIZE, what="the disk image")


def password(user: str) -> str:
    return f"{user}-of-the-bench"
