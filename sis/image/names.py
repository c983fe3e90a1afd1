"""What images, channels, documents and paths are called, and how people are shown a path."""

from __future__ import annotations

import re

from blake3 import blake3

PATH_BYTES_MAX = 4095
NAME_BYTES_MAX = 255

IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CHANNEL_NAME = re.compile(r"(?![0-9]+\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HEX_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """The BLAKE3-256 digest of canonical bytes, in hex: the name of a manifest, a table, a version."""
    return blake3(data).hexdigest()


def show_path(path: bytes) -> str:
    """A manifest path for people: absolute, control characters and bytes that are not UTF-8 escaped."""
    text = path.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(char if char.isprintable() else _escape(char) for char in text)
    return "/" if text == "." else f"/{text}"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()
