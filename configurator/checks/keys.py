"""ssh keys: host key pairs, public keys, lines of authorized_keys. Secrets are never shown in a fault."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from configurator.checks.values import Fault, shown
from configurator.record import HostKey

_KEY_TYPE = (
    r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521)|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
)
_PUBLIC_KEY = re.compile(rf"({_KEY_TYPE}) ([A-Za-z0-9+/]+={{0,2}})(?: ([^\n]*))?")
_AUTHORIZED_KEY = re.compile(rf"(?:[^\s\"#](?:[^\s\"]|\"(?:[^\"\\]|\\.)*\")* )?(?={_KEY_TYPE} )(.*)")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN OPENSSH PRIVATE KEY-----\n((?:[A-Za-z0-9+/=]{1,76}\n)+)-----END OPENSSH PRIVATE KEY-----\n?"
)
_LONGEST_KEY = 16 * 1024


def host_key_faults(place: str, key: HostKey) -> Iterator[Fault]:
    public = public_blob(key.public.removesuffix("\n"))
    if public is None:
        yield Fault(f"{place}.public", f"not a public key (type, base64, comment) on one line: {shown(key.public)}")
    elif _KEY_FILE_WORDS.get(public[0]) != key.type:
        yield Fault(f"{place}.public", f"a key of type {public[0]} is not {shown(key.type)}")
    secret = _private_fields(key.private)
    if secret is None:
        yield Fault(f"{place}.private", "not a private key in OpenSSH form (its text is not shown here)")
    elif secret[0] != b"none":
        yield Fault(f"{place}.private", "is locked with a passphrase; sshd could not use it")
    elif public is not None and secret[1] != public[1]:
        yield Fault(f"{place}.private", f"does not belong to {place}.public")


_KEY_FILE_WORDS = {
    "ssh-ed25519": "ed25519",
    "ssh-rsa": "rsa",
    "ecdsa-sha2-nistp256": "ecdsa",
    "ecdsa-sha2-nistp384": "ecdsa",
    "ecdsa-sha2-nistp521": "ecdsa",
}


_KEY_FIELDS = {"ssh-ed25519": 2, "ssh-rsa": 3, "ecdsa-sha2": 3, "sk-ssh-ed25519@openssh.com": 3, "sk-ecdsa-sha2": 4}
"""How many strings a public key's blob holds, by the start of its type."""


def public_blob(line: str) -> tuple[str, bytes] | None:
    """Type and key blob of a public key's line; None when it is none."""
    found = _PUBLIC_KEY.fullmatch(line)
    if found is None or len(line) > _LONGEST_KEY or not line.isprintable():
        return None
    try:
        blob = base64.b64decode(found.group(2), validate=True)
    except binascii.Error:
        return None
    kind = found.group(1)
    fields = _ssh_strings(blob, _KEY_FIELDS[kind.partition("-nistp")[0]])
    whole = fields is not None and fields[0] == kind.encode() and sum(4 + len(field) for field in fields) == len(blob)
    return (kind, blob) if whole else None


def _private_fields(text: str) -> tuple[bytes, bytes] | None:
    """Cipher name and public key blob of a private key in OpenSSH form (PROTOCOL.key); None when it is none."""
    found = _PRIVATE_KEY.fullmatch(text) if len(text) <= _LONGEST_KEY else None
    if found is None:
        return None
    magic = b"openssh-key-v1\0"
    try:
        raw = base64.b64decode(found.group(1).replace("\n", ""), validate=True)
    except binascii.Error:
        return None
    if not raw.startswith(magic):
        return None
    body = raw[len(magic) :]
    ciphers = _ssh_strings(body, 3)
    if ciphers is None:
        return None
    at = sum(4 + len(field) for field in ciphers)
    keys = _ssh_strings(body[at + 4 :], 2)
    if body[at : at + 4] != b"\0\0\0\1" or keys is None:
        return None
    return ciphers[0], keys[0]


def _ssh_strings(data: bytes, count: int) -> list[bytes] | None:
    """The first `count` length-prefixed strings (RFC 4251), or None when the data ends before."""
    found: list[bytes] = []
    at = 0
    for _ in range(count):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 4 + length
        if len(data) < at + 4 or len(data) < end:
            return None
        found.append(data[at + 4 : end])
        at = end
    return found


def authorized_key_faults(place: str, line: str) -> Iterator[Fault]:
    found = _AUTHORIZED_KEY.fullmatch(line) if line.isprintable() and len(line) <= _LONGEST_KEY else None
    if found is None or public_blob(found.group(1)) is None:
        yield Fault(place, f"not an authorized_keys line ([options] type base64 [comment]): {shown(line)}")


def public_key_faults(place: str, line: str) -> Iterator[Fault]:
    if public_blob(line) is None:
        yield Fault(place, f"not a public key (type, base64, comment) on one line: {shown(line)}")
