"""Detached signatures of exported files with SSH keys, made and checked by ssh-keygen(1) (``-Y sign``, ``-Y verify``).

A host signs with a key that it has already, for example its host key; the reviewer lists the keys in an allowed signers file
whose principals are the host names. Needs OpenSSH 8.1 or newer (RHEL 8, Debian 11).
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from sepolicyd import process
from sepolicyd.errors import InputError, ToolError

NAMESPACE = "sepolicyd-evidence@sepolicyd"
SUFFIX = ".sig"
TIMEOUT_S = 30.0


class SignatureState(str, Enum):
    """What is known of a file's signature."""

    VALID = "valid"
    """Signed by a key of the host that the file names."""
    MISSING = "missing"
    INVALID = "invalid"
    """The file was changed, or the key is not one of that host."""


def sign(file: Path, key: Path) -> Path:
    """Sign a file; the signature is written beside it, with ``.sig`` at the end of its name.

    :raises InputError: no such key
    :raises ToolError: ssh-keygen failed
    """
    if not key.is_file():
        raise InputError(f"key {key} is not a file", "name a private SSH key, for example /etc/ssh/ssh_host_ed25519_key")
    signature = signature_of(file)
    signature.unlink(missing_ok=True)  # ssh-keygen would ask whether to overwrite it
    process.run(["ssh-keygen", "-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(file)], timeout=TIMEOUT_S)
    return signature


def verify(file: Path, content: bytes, host: str, allowed_signers: Path) -> SignatureState:
    """Check the signature beside a file.

    :param content: what was read of the file, so that no other content can be put in its place between two reads
    :param host: the principal that must have signed
    :param allowed_signers: file of principals and keys, see ALLOWED SIGNERS in ssh-keygen(1)
    :raises InputError: the file of allowed signers is missing
    """
    if not allowed_signers.is_file():
        raise InputError(f"{allowed_signers} is not a file", "list one host a line: NAME KEYTYPE KEY (ssh-keygen(1))")
    signature = signature_of(file)
    if not signature.is_file():
        return SignatureState.MISSING
    words = ["ssh-keygen", "-Y", "verify", "-f", str(allowed_signers), "-I", host, "-n", NAMESPACE, "-s", str(signature)]
    try:
        process.run(words, stdin=content.decode("ascii", "surrogateescape"), timeout=TIMEOUT_S)
    except ToolError as failure:
        if not failure.stderr and "exit code" not in failure.what:
            raise
        return SignatureState.INVALID
    return SignatureState.VALID


def signature_of(file: Path) -> Path:
    """Path of the signature that belongs to a file."""
    return file.with_name(file.name + SUFFIX)
