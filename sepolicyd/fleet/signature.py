"""Detached SSH signatures of exported files, created and verified by ssh-keygen(1) (``-Y sign``, ``-Y verify``).

A host signs with an existing key, for example its host key. The reviewer lists the keys in an allowed signers file, with
host names as principals. OpenSSH 8.1 or newer is required (RHEL 8, Debian 11).
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from sepolicyd import process
from sepolicyd.errors import InputError

NAMESPACE = "sepolicyd-evidence@sepolicyd"
SUFFIX = ".sig"
TIMEOUT_S = 30.0
NOT_VALID = 255  # exit code of ssh-keygen for any rejected signature


class SignatureState(str, Enum):
    """Result of a signature check."""

    VALID = "valid"
    """Signed by a key of the host named in the file."""
    MISSING = "missing"
    INVALID = "invalid"
    """The file was changed, or the key does not belong to that host."""


def check_key(key: Path) -> None:
    """Check the signing key before the file is written.

    :raises InputError: no such key
    """
    if not key.is_file():
        raise InputError(f"key {key} is not a file", "give a private SSH key, for example /etc/ssh/ssh_host_ed25519_key")


def sign(file: Path, key: Path) -> Path:
    """Sign a file and write the signature beside it, with the suffix ``.sig``.

    :raises ToolError: ssh-keygen failed
    """
    signature = signature_of(file)
    signature.unlink(missing_ok=True)  # otherwise ssh-keygen asks before overwriting it
    process.run(["ssh-keygen", "-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(file)], timeout=TIMEOUT_S)
    return signature


def verify(file: Path, content: bytes, host: str, allowed_signers: Path) -> SignatureState:
    """Check the signature beside a file.

    :param content: the ASCII content that was read, so a change of the file between two reads has no effect
    :param host: the principal that must have signed
    :param allowed_signers: file with principals and keys (ALLOWED SIGNERS in ssh-keygen(1))
    :raises InputError: the file of allowed signers is missing
    :raises ToolError: ssh-keygen is not installed or did not run
    """
    if not allowed_signers.is_file():
        raise InputError(
            f"{allowed_signers} is not a file", "create it with one host per line: NAME KEYTYPE KEY (ssh-keygen(1))"
        )
    signature = signature_of(file)
    if not signature.is_file():
        return SignatureState.MISSING
    words = ["ssh-keygen", "-Y", "verify", "-f", str(allowed_signers), "-I", host, "-n", NAMESPACE, "-s", str(signature)]
    done = process.run(words, stdin=content.decode("ascii"), ok=(0, NOT_VALID), timeout=TIMEOUT_S)
    return SignatureState.VALID if done.returncode == 0 else SignatureState.INVALID


def signature_of(file: Path) -> Path:
    """Return the path of the signature of a file."""
    return file.with_name(file.name + SUFFIX)
