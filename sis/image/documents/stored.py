"""The stored form of manifests and chunk tables: a magic, the digest of what follows, one zstd frame.

zstd itself is imported when there is something to do for it: a night without change has nothing.
"""

from __future__ import annotations

from blake3 import blake3

from sis.errors import Corrupt
from sis.image.model import DIGEST_BYTES
from sis.image.names import digest_of

DOCUMENT_BYTES_MAX = 1 << 30
"""The longest document a reader accepts, stored and inflated."""

INFLATION_MAX = 1024
"""How many bytes a reader lets one compressed byte become."""

_INFLATION_FREE = 64 << 20
LEVEL = 9
MAGIC = b"SISZDOC\n"


def compress(data: bytes, level: int = LEVEL) -> bytes:
    """The stored form of a manifest or a table: a magic, the digest of what follows, one zstd frame."""
    import zstandard

    frame = zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False).compress(data)
    return MAGIC + blake3(frame).digest() + frame


def decompress(stored: bytes, what: str) -> bytes:
    """The bytes of a stored manifest or table. Refuses what would inflate beyond reason. Raises Corrupt."""
    import zstandard

    start = len(MAGIC) + DIGEST_BYTES
    frame = stored[start:]
    if not stored.startswith(MAGIC) or blake3(frame).digest() != stored[len(MAGIC) : start]:
        raise Corrupt(f"{what} is damaged: its {len(stored)} stored bytes do not match their digest")
    limit = min(DOCUMENT_BYTES_MAX, max(_INFLATION_FREE, len(frame) * INFLATION_MAX))
    try:
        size = zstandard.frame_content_size(frame)
        if size < 0 or size > limit:
            raise Corrupt(f"{what} claims to hold {size} bytes in {len(frame)}")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Corrupt(f"{what} does not decompress: {error}") from error


def document_of(stored: bytes, name: str, digest: str) -> bytes:
    """The canonical bytes in a stored manifest or table. Raises Corrupt unless they are those of `digest`."""
    data = decompress(stored, name)
    if digest_of(data) != digest:
        raise Corrupt(f"{name} is damaged: it does not match its name")
    return data
