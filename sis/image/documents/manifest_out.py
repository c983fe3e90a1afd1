"""A manifest's canonical bytes piece by piece: named, and stored, without ever being whole in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import zstandard
from blake3 import blake3

from sis.errors import Corrupt
from sis.image.documents.codec import array_header
from sis.image.documents.stored import LEVEL, MAGIC
from sis.image.documents.wellformed import check_manifest
from sis.image.model import Manifest
from sis.system.files import fsync_dir, temporary_beside

_ENTRIES = 2048
"""Entries a piece."""

_encoder = msgspec.msgpack.Encoder()


class Named(NamedTuple):
    """The digest of a manifest's canonical bytes, and how many these are."""

    digest: str
    size_bytes: int


def named(manifest: Manifest) -> Named:
    """Raises Corrupt if the manifest is not well-formed."""
    check_manifest(manifest)
    hasher = blake3()
    size = 0
    for piece in pieces(manifest):
        hasher.update(piece)
        size += len(piece)
    return Named(hasher.hexdigest(), size)


def pieces(manifest: Manifest) -> Iterator[bytes]:
    """What `codec.encode_manifest` gives, in parts."""
    count = len(manifest.entries)
    yield array_header(2) + array_header(count)
    for at in range(0, count, _ENTRIES):
        some = manifest.entries[at : at + _ENTRIES]
        yield _encoder.encode(some)[len(array_header(len(some))) :]
    yield _encoder.encode(manifest.format)


def write(path: Path, manifest: Manifest, size_bytes: int) -> None:
    """Store a manifest whose canonical bytes are that many, durably, readable only when whole."""
    temporary = temporary_beside(path)
    start = len(MAGIC) + blake3().digest_size
    hasher = blake3()
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True, write_checksum=False)
    frame = compressor.compressobj(size=size_bytes)
    try:
        with temporary.open("xb") as file:
            file.write(bytes(start))
            for piece in pieces(manifest):
                stored = frame.compress(piece)
                hasher.update(stored)
                file.write(stored)
            last = frame.flush()
            hasher.update(last)
            file.write(last)
            file.seek(0)
            file.write(MAGIC + hasher.digest())
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        temporary.rename(path)
    except zstandard.ZstdError as error:
        raise Corrupt(f"the manifest is not {size_bytes} bytes long") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    fsync_dir(path.parent)
