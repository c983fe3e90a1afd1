"""Packs: many chunks in one immutable file that can be read in one go, by ranges, or on its own (docs/format.md §5)."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path
from typing import NamedTuple

import zstandard
from blake3 import blake3

from sis.errors import Corrupt, TooNew
from sis.image.documents.tables import Location
from sis.image.documents.wellformed import CHUNK_BYTES_MAX
from sis.image.model import DIGEST_BYTES, FORMAT, PackRef

PACK_BYTES_TARGET = 32 << 20
"""A pack is closed once it holds this much."""

MAGIC = b"SISPACK\n"
TRAILER_MAGIC = b"SISPEND\n"
LEVEL = 3

_HEADER = struct.Struct("<8sII")
_ROW = struct.Struct("<32sII")
_TRAILER = struct.Struct("<8sIIQ32s32s")
_BUFFER_BYTES = 1 << 20

_local = threading.local()


class PackRow(NamedTuple):
    """One chunk of a pack's own footer."""

    digest: bytes
    offset: int
    stored: int
    size: int


class Footer(NamedTuple):
    rows: tuple[PackRow, ...]
    dictionary: bytes
    """Digest of the zstd dictionary its frames need, or b""."""


def encode(data: bytes | memoryview, dictionary: bytes = b"") -> bytes:
    """The stored form of a chunk: a zstd frame, or the bytes themselves where that is not smaller."""
    stored = _compressor(dictionary).compress(data)
    return stored if len(stored) < len(data) else bytes(data)


def decode(stored: bytes, location: Location, dictionary: bytes = b"", *, pack: str = "") -> bytes:
    """The chunk of its stored form, proved by its digest. `dictionary` is content; `pack` a name for messages.

    Never inflates beyond the size the table states. Raises Corrupt naming pack, offset and chunk.
    """
    if len(stored) != location.stored:
        raise _bad(location, pack, f"{len(stored)} bytes instead of {location.stored}")
    if location.stored == location.size:
        data = stored
    else:
        try:
            if zstandard.frame_content_size(stored) != location.size:
                raise _bad(location, pack, "its frame states another size")
            data = _decompressor(dictionary).decompress(stored, max_output_size=location.size, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise _bad(location, pack, "it does not decompress") from error
    if len(data) != location.size or blake3(data).digest() != location.digest:
        raise _bad(location, pack, "its content does not match its digest")
    return data


class PackWriter:
    """One pack being written to `path`; chunks lie in it in the order they were added."""

    def __init__(self, path: Path, dictionary: bytes = b"") -> None:
        """`dictionary` is the digest of the dictionary the frames were made with, or b""."""
        self.path = path
        self.rows: list[PackRow] = []
        self._dictionary = dictionary
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._hash = blake3()
        self._buffer: list[bytes] = []
        self._buffered = 0
        self.size = 0
        self._put(_HEADER.pack(MAGIC, FORMAT, 0))

    def add(self, digest: bytes, size: int, stored: bytes) -> PackRow:
        row = PackRow(digest, self.size, len(stored), size)
        self.rows.append(row)
        self._put(stored)
        return row

    def finish(self) -> PackRef:
        """Write the footer and make the file durable; its name is the digest in the result."""
        start = self.size
        footer = b"".join(_ROW.pack(row.digest, row.stored, row.size) for row in self.rows)
        fields = _TRAILER.pack(
            TRAILER_MAGIC, FORMAT, len(self.rows), start, self._dictionary or bytes(DIGEST_BYTES), bytes(DIGEST_BYTES)
        )[:-DIGEST_BYTES]
        self._put(footer + fields + blake3(footer + fields).digest())
        self._flush()
        os.fchmod(self._handle, 0o644)
        os.fsync(self._handle)
        os.close(self._handle)
        return PackRef(self._hash.digest(), self.size, self._dictionary)

    def abandon(self) -> None:
        """Throw away an unfinished pack."""
        os.close(self._handle)
        self.path.unlink()

    def _put(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        self.size += len(data)
        if self._buffered >= _BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._handle, rest) :]


def read_footer(path: Path) -> Footer:
    """What a pack on disk holds, by its own account. Reads only its ends. Raises Corrupt."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(handle).st_size
        if size < _HEADER.size + _TRAILER.size:
            raise Corrupt(f"pack {path.name} is cut off: {size} bytes")
        if os.pread(handle, len(MAGIC), 0) != MAGIC:
            raise Corrupt(f"pack {path.name} does not begin like a pack")
        trailer = os.pread(handle, _TRAILER.size, size - _TRAILER.size)
        magic, number, count, start, dictionary, check = _TRAILER.unpack(trailer)
        if magic != TRAILER_MAGIC:
            raise Corrupt(f"pack {path.name} is cut off: it does not end like a pack")
        if number > FORMAT:
            raise TooNew(f"pack {path.name} has format {number}; this program reads format {FORMAT}")
        if start + count * _ROW.size + _TRAILER.size != size:
            raise Corrupt(f"pack {path.name}: its footer is not where it says")
        footer = os.pread(handle, count * _ROW.size, start)
    finally:
        os.close(handle)
    if blake3(footer + trailer[:-DIGEST_BYTES]).digest() != check:
        raise Corrupt(f"pack {path.name}: its footer does not match its digest")
    rows = []
    at = _HEADER.size
    for digest, stored, length in _ROW.iter_unpack(footer):
        if not 0 < stored <= length <= CHUNK_BYTES_MAX:
            raise Corrupt(f"pack {path.name}: {length} bytes stored in {stored}")
        rows.append(PackRow(digest, at, stored, length))
        at += stored
    if at != start:
        raise Corrupt(f"pack {path.name}: its chunks do not reach its footer")
    return Footer(tuple(rows), b"" if dictionary == bytes(DIGEST_BYTES) else dictionary)


def _bad(location: Location, pack: str, fault: str) -> Corrupt:
    name = pack or f"number {location.pack}"
    return Corrupt(f"pack {name}, offset {location.offset}, chunk {location.digest.hex()[:12]}: {fault}")


def _compressor(dictionary: bytes) -> zstandard.ZstdCompressor:
    made: dict[bytes, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    if dictionary not in made:
        content = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
        made[dictionary] = zstandard.ZstdCompressor(
            level=LEVEL, dict_data=content, write_content_size=True, write_checksum=False, write_dict_id=False
        )
    return made[dictionary]


def _decompressor(dictionary: bytes) -> zstandard.ZstdDecompressor:
    made: dict[bytes, zstandard.ZstdDecompressor] = _local.__dict__.setdefault("decompressors", {})
    if dictionary not in made:
        content = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
        made[dictionary] = zstandard.ZstdDecompressor(dict_data=content)
    return made[dictionary]
