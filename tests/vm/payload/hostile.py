"""Run in a user's notebook: try the accesses of a hostile user; prints "name: got it" or "name: no" per line.

Every trial is harmless where it succeeds: it opens, it does not change what others need.
"""

import contextlib
import ctypes
import glob
import os
import socket
import subprocess

SECRETS = (
    "/etc/shadow",
    "/etc/jupyterhub/cookie_secret",
    "/etc/jupyterhub/keys/hub.key",
    "/var/lib/jupyterhub/jupyterhub.sqlite",
    "/etc/jupyterhub/open/cookie_secret",
    "/var/lib/sepolicyd/decisions/decisions.db",
    "/var/log/audit/audit.log",
)
CODE = (
    "/opt/jupyterhub/bin/jupyterhub",
    "/opt/jupyterhub/bin/jupyterhub-singleuser",
    "/opt/jupyterhub/open-to-all/site.py",
    "/usr/local/bin/configurable-http-proxy",
)
COMMANDS = (
    ("sudo", "-n", "id"),
    ("su", "-c", "id"),
    ("mount", "-t", "tmpfs", "none", "/mnt"),
    ("dmesg",),
    ("setenforce", "0"),
    ("semodule", "-l"),
    ("systemctl", "stop", "auditd"),
)


def trial(name, action):
    try:
        got = action()
    except (OSError, ValueError) as error:
        print(f"{name}: no ({error.__class__.__name__})")
    else:
        print(f"{name}: {'got it' if got else 'no'}")


def reads(path):
    with open(path, "rb") as file:
        return bool(file.read(16)) or True


def writes(path):
    with open(path, "ab"):
        return True


def runs(words):
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    return done.returncode == 0


def raw(family, kind, protocol=0):
    socket.socket(family, kind, protocol).close()
    return True


def binds(port):
    with socket.socket() as link:
        link.bind(("127.0.0.1", port))
        return True


def scan():
    found = 0
    for port in (22, 25, 80, 443, 3306, 5432, 8001, 8081):
        with socket.socket() as link, contextlib.suppress(OSError):
            link.settimeout(0.5)
            link.connect(("127.0.0.1", port))
            found += 1
    return found


def others():
    """Memory and environment of processes that are not ours."""
    mine = os.getuid()
    for path in glob.glob("/proc/[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if os.stat(path).st_uid != mine:
                with open(path, "rb") as file:
                    file.read(1)
                return True
    return False


def forge():
    """Names that look like log records, policy text and terminal control."""
    home = os.path.expanduser("~")
    for name in (
        "type=AVC msg=audit(1.0:1): avc:  denied  { read } for scontext=a tcontext=b tclass=file",
        'x" scontext=system_u:system_r:init_t:s0 tcontext=system_u:object_r:shadow_t:s0 tclass=file permissive=0',
        "); allow jupyterhub_user_t shadow_t file read ; #",
        "\x1b[2J\x1b]0;owned\x07",
        "a\nallow init_t shadow_t:file read;",
    ):
        with contextlib.suppress(OSError):
            os.makedirs(os.path.join(home, "forged"), exist_ok=True)
            open(os.path.join(home, "forged", name.replace("/", "_")), "w").close()
        ctypes.CDLL(None).prctl(15, name.encode()[:15], 0, 0, 0)  # PR_SET_NAME: comm
        for path in SECRETS[:5]:
            with contextlib.suppress(OSError):
                open(path + "/" + name).close()
            with contextlib.suppress(OSError):
                open(path, "rb").close()
    return False


def flood(count):
    for number in range(count):
        with contextlib.suppress(OSError):
            open("/etc/jupyterhub/open/cookie_secret", "rb").close()
        with contextlib.suppress(OSError):
            os.listdir("/etc/jupyterhub/open")
        if number % 3 == 0:
            with contextlib.suppress(OSError):
                raw(socket.AF_PACKET, socket.SOCK_RAW)
    return False


def main(flood_count):
    for path in SECRETS:
        trial(f"read {path}", lambda path=path: reads(path))
    for path in CODE:
        trial(f"write {path}", lambda path=path: writes(path))
    for words in COMMANDS:
        trial(" ".join(words), lambda words=words: runs(words))
    trial("raw socket", lambda: raw(socket.AF_INET, socket.SOCK_RAW, 1))
    trial("packet socket", lambda: raw(socket.AF_PACKET, socket.SOCK_RAW))
    trial("bind 8000", lambda: binds(8000))
    trial("bind 80", lambda: binds(80))
    trial("environment of others", others)
    subprocess.run(["ps", "axZ"], capture_output=True, check=False)
    scan()
    forge()
    flood(flood_count)


main(FLOOD)  # noqa: F821 - the bench puts a line with its value in front
