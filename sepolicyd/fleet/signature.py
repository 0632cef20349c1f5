"""Detached signatures of exported files with SSH keys, made and checked by ssh-keygen(1) (``-Y sign``, ``-Y verify``).

A host signs with a key that it has already, for example its host key; the reviewer lists the keys in an allowed signers file
whose principals are the host names. Needs OpenSSH 8.1 or newer (RHEL 8, Debian 11).
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from sepolicyd import process
from sepolicyd.errors import InputError

NAMESPACE = "sepolicyd-evidence@sepolicyd"
SUFFIX = ".sig"
TIMEOUT_S = 30.0
NOT_VALID = 255  # exit code of ssh-keygen for whatever it does not accept


class SignatureState(str, Enum):
    """What is known of a file's signature."""

    VALID = "valid"
    """Signed by a key of the host that the file names."""
    MISSING = "missing"
    INVALID = "invalid"
    """The file was changed, or the key is not one of that host."""


def check_key(key: Path) -> None:
    """Check a key before the file that it shall sign is written.

    :raises InputError: no such key
    """
    if not key.is_file():
        raise InputError(f"key {key} is not a file", "name a private SSH key, for example /etc/ssh/ssh_host_ed25519_key")


def sign(file: Path, key: Path) -> Path:
    """Sign a file; the signature is written beside it, with ``.sig`` at the end of its name.

    :raises ToolError: ssh-keygen failed
    """
    signature = signature_of(file)
    signature.unlink(missing_ok=True)  # ssh-keygen would ask whether to overwrite it
    process.run(["ssh-keygen", "-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(file)], timeout=TIMEOUT_S)
    return signature


def verify(file: Path, content: bytes, host: str, allowed_signers: Path) -> SignatureState:
    """Check the signature beside a file.

    :param content: what was read of the file, so that no other content can be put in its place between two reads; ASCII
    :param host: the principal that must have signed
    :param allowed_signers: file of principals and keys, see ALLOWED SIGNERS in ssh-keygen(1)
    :raises InputError: the file of allowed signers is missing
    :raises ToolError: ssh-keygen is not installed or did not run
    """
    if not allowed_signers.is_file():
        raise InputError(f"{allowed_signers} is not a file", "list one host a line: NAME KEYTYPE KEY (ssh-keygen(1))")
    signature = signature_of(file)
    if not signature.is_file():
        return SignatureState.MISSING
    words = ["ssh-keygen", "-Y", "verify", "-f", str(allowed_signers), "-I", host, "-n", NAMESPACE, "-s", str(signature)]
    done = process.run(words, stdin=content.decode("ascii"), ok=(0, NOT_VALID), timeout=TIMEOUT_S)
    return SignatureState.VALID if done.returncode == 0 else SignatureState.INVALID


def signature_of(file: Path) -> Path:
    """Path of the signature that belongs to a file."""
    return file.with_name(file.name + SUFFIX)
