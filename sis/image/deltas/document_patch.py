"""A document as a patch on an older one: one zstd frame with the old as prefix, or frame by frame where it is long."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sis.errors import Corrupt
from sis.image.deltas import patches

MAGIC = b"SISPIECE"
"""How a patch in pieces begins; one frame begins with zstd's own."""

_FRAME_MAGIC = b"\x28\xb5\x2f\xfd"

WHOLE_BYTES_MAX = 16 << 20
"""Longer documents are patched in pieces: zstd's tables remember the last few megabytes of a prefix."""

PIECE_BYTES = 2 << 20
PREFIX_BYTES_MAX = 4 << 20

_PIECE = struct.Struct("<QII")
"""Offset and length of the prefix in the older document; bytes of the frame that follows."""

_MARGIN_BYTES = 512 << 10
_REACH_BYTES = 16 << 20
_SAMPLE_BYTES = 48
_SAMPLES_APART = 1009
_SAMPLES = 32


def make(before: bytes, after: bytes) -> bytes:
    """What `applied` makes `after` of, given `before`."""
    if max(len(before), len(after)) <= WHOLE_BYTES_MAX:
        return patches.compress(after, before)
    return b"".join((MAGIC, *_pieces(before, after)))


def applied(patch: bytes, before: bytes, limit: int, what: str) -> bytes:
    """The newer document, at most `limit` bytes. Raises Corrupt; that it is the right one its digest has to tell."""
    if not patch.startswith(MAGIC):
        if not patch.startswith(_FRAME_MAGIC):
            raise Corrupt(f"{what} is in a form that this program does not know: a newer sis made it, or it is damaged")
        return patches.inflate(patch, limit, what, before)
    parts = []
    size = 0
    at = len(MAGIC)
    while at < len(patch):
        if len(patch) - at < _PIECE.size:
            raise Corrupt(f"{what} is cut off")
        offset, length, stored = _PIECE.unpack_from(patch, at)
        at += _PIECE.size
        if length > PREFIX_BYTES_MAX or offset + length > len(before) or not 0 < stored <= len(patch) - at:
            raise Corrupt(f"{what} is malformed")
        part = patches.inflate(patch[at : at + stored], PIECE_BYTES, what, before[offset : offset + length])
        size += len(part)
        if size > limit:
            raise Corrupt(f"{what} holds more than {limit} bytes")
        parts.append(part)
        at += stored
    return b"".join(parts)


def _pieces(before: bytes, after: bytes) -> Iterator[bytes]:
    shift = 0
    for at in range(0, len(after), PIECE_BYTES):
        piece = after[at : at + PIECE_BYTES]
        shift = _shift(before, piece, at, shift)
        start = min(max(0, at + shift - _MARGIN_BYTES), len(before))
        end = min(max(start, at + shift + len(piece) + _MARGIN_BYTES), len(before))
        frame = patches.compress(piece, before[start:end])
        yield _PIECE.pack(start, end - start, len(frame)) + frame


def _shift(before: bytes, piece: bytes, at: int, shift: int) -> int:
    """How much further on a piece lies in the older document, by the first of some samples that is found there."""
    for number in range(_SAMPLES):
        place = number * _SAMPLES_APART
        sample = piece[place : place + _SAMPLE_BYTES]
        if len(sample) < _SAMPLE_BYTES:
            break
        expected = at + place + shift
        nearest = before.find(sample, max(0, expected - _REACH_BYTES), max(0, expected + _REACH_BYTES))
        if nearest >= 0:
            return nearest - at - place
    return shift
