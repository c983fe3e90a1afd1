"""Ed25519 signatures on refs: the one thing in a store that may change is believed only if the pinned key signed it."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import msgspec

from sis.errors import Corrupt, Refused, SisError
from sis.image.documents.codec import decode_ref, encode_ref
from sis.image.model import Ref
from sis.system.files import atomic_write, make_dirs

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DAMAGE_HINT = "'sis image verify' on the head tells what of its store is damaged, and what mends it"

_REF = b"sis ref 1\n"
"""Signed in front of the payload, so that a signature on a ref is none on anything else."""

_SIGNATURE_LINE = re.compile(rb"ed25519 ([0-9a-f]{64}) ([0-9a-f]{128})\n")
_KEY = re.compile(r"[0-9a-f]{64}")

Trust = Literal["pinned", "unpinned", "unsigned"]


class Opened(msgspec.Struct, frozen=True):
    """A ref and how far it can be trusted: signed by the pinned key, by some key, or not at all."""

    ref: Ref
    trust: Trust
    signed_by: str | None


class Signer:
    """A private key, Ed25519. `public` is what the other side pins; it and `private` are 64 hex digits."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw().hex()

    @classmethod
    def make(cls) -> Signer:
        """A new key. Raises SisError without the package 'cryptography'."""
        return cls(_ed25519().Ed25519PrivateKey.generate())

    @classmethod
    def of(cls, private: str) -> Signer:
        """The key with this private half. Raises SisError when it is none."""
        if not _KEY.fullmatch(private):
            raise SisError("not a private key: it has 64 hex digits")
        return cls(_ed25519().Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private)))

    @property
    def private(self) -> str:
        return self._key.private_bytes_raw().hex()

    def sign(self, payload: bytes, *, domain: bytes = _REF) -> bytes:
        """64 bytes. `domain` says what is signed, so that a signature on one kind of thing is none on another."""
        return self._key.sign(domain + payload)


def is_signed(public: str, signature: bytes, payload: bytes, *, domain: bytes = _REF) -> bool:
    """Whether the holder of the key with the hex public half `public` signed this. Raises SisError as Signer.make."""
    ed25519 = _ed25519()
    from cryptography.exceptions import InvalidSignature

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, domain + payload)
    except (InvalidSignature, ValueError):
        return False
    return True


def load_or_make(path: Path) -> Signer:
    """The signing key of a head; made on first use, mode 0600 in a directory of mode 0700."""
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        made = Signer.make()
        make_dirs(path.parent, mode=0o700)
        atomic_write(path, made.private.encode() + b"\n", mode=0o600)
        return made
    except UnicodeDecodeError:
        text = ""
    if not _KEY.fullmatch(text):
        raise Corrupt(
            f"{path} is not a signing key", hint="restore it from a backup; nodes have its public half pinned"
        )
    if os.stat(path).st_mode & 0o077:
        raise Refused(f"{path} can be read by others", hint=f"chmod 600 {path}")
    return Signer.of(text)


def seal(ref: Ref, signer: Signer | None) -> bytes:
    """The content of a ref file: the canonical JSON on one line, the signature on the next."""
    payload = encode_ref(ref)
    if signer is None:
        return payload + b"\n"
    return payload + f"\ned25519 {signer.public} {signer.sign(payload).hex()}\n".encode()


def unseal(
    data: bytes, *, image: str, key: str | None = None, seen_sequence: int = 0, now: datetime | None = None
) -> Opened:
    """Read a ref file as the ref of `image`.

    `key` is the pinned public key (hex); without one any ref is read, and `trust` says what it is worth. The
    caller passes the highest sequence number it has ever seen. Raises Corrupt for malformed bytes, Refused for a
    wrong or missing signature, another image's ref, an expired one, and one older than was seen.
    """
    payload, newline, rest = data.partition(b"\n")
    if not newline:
        raise Corrupt(f"the ref of {image} is cut off", hint=DAMAGE_HINT)
    signed_by = _signer_of(payload, rest, image, key)
    ref = decode_ref(payload)
    if ref.image != image:
        raise Refused(f"the ref of {image} is in truth the ref of {ref.image}")
    if ref.sequence < seen_sequence:
        raise Refused(
            f"the ref of {image} is older than one seen before (sequence {ref.sequence} after {seen_sequence})",
            hint="an old copy of the store, or someone replaying it: a rollback has a higher number than what it takes"
            " back; after restoring a head from a backup, publish again",
        )
    if ref.expires is not None and (now or datetime.now(UTC)) > datetime.fromisoformat(ref.expires):
        raise Refused(
            f"the ref of {image} expired at {ref.expires}",
            hint="the store is no longer kept up to date, or this clock is wrong: publish again on the head",
        )
    trust: Trust = "unsigned" if signed_by is None else "unpinned" if key is None else "pinned"
    return Opened(ref, trust, signed_by)


def _signer_of(payload: bytes, line: bytes, image: str, key: str | None) -> str | None:
    """The hex key whose signature the line holds, checked; None for an unsigned ref."""
    if key is not None and not _KEY.fullmatch(key):
        raise SisError(f"not a public key: {key[:80]!r}", hint="64 hex digits, as 'sis image show' prints them")
    if not line:
        if key is not None:
            raise Refused(f"the ref of {image} is not signed, and a key is pinned here", hint=DAMAGE_HINT)
        return None
    match = _SIGNATURE_LINE.fullmatch(line)
    if match is None:
        raise Corrupt(f"the signature of the ref of {image} is malformed", hint=DAMAGE_HINT)
    public = match[1].decode()
    if key is not None and public != key:
        raise Refused(
            f"the ref of {image} is signed by another key ({public[:16]}…) than the pinned one ({key[:16]}…)",
            hint="if the head's key was replaced on purpose, pin the new one",
        )
    _check(public, bytes.fromhex(match[2].decode()), payload, image)
    return public


def _check(public: str, signature: bytes, payload: bytes, image: str) -> None:
    if not is_signed(public, signature, payload):
        raise Refused(
            f"the signature of the ref of {image} is wrong: the ref was changed after it was signed", hint=DAMAGE_HINT
        )


def _ed25519() -> ModuleType:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise SisError(
            "signatures can be neither made nor checked here: the Python package 'cryptography' is missing",
            hint="install python3-cryptography in the image",
        ) from error
    return ed25519
