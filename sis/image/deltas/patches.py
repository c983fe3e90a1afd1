"""New bytes as a patch on old ones: zstd with the old as prefix, bsdiff, or plain zstd; each way bounded both ways."""

from __future__ import annotations

import struct

import bsdiff4.core
import zstandard
from pyfastcdc import FastCDC

from sis.errors import Corrupt

PLAIN, PREFIX, BSDIFF, SOLID, CONTINUED = 1, 2, 3, 4, 5
"""SOLID begins a frame that the items after it go on with: `solid`."""

METHODS = (PLAIN, PREFIX, BSDIFF, SOLID, CONTINUED)
SOLID_METHODS = (SOLID, CONTINUED)
WITHOUT_BASE = (PLAIN, SOLID, CONTINUED)

OUTPUT_BYTES_MAX = 16 << 20
BASE_BYTES_MAX = 16 << 20
"""What a reader accepts; together with a payload that is what it holds in memory."""

BSDIFF_BYTES_MAX = 8 << 20
"""The writer's limit for either side: bsdiff takes 17 times the old side in memory, and about a second for 3 MB."""

_MARGIN_BYTES = 128 << 10
_MATCHES_MIN = 16
_PREFIX_LEVEL = 9
_LONG_LEVEL = 9
_LEVEL = 12
_FINE_LEVEL = 19
_FINE_BYTES_MAX = 64 << 10
"""Neither what is finely compressed nor what it may point into is longer: the time goes with both."""

_LONG_BYTES_MIN = 2 << 20
"""Levels were chosen by measurement: docs/bench/delta-choice.md."""

_CONTROL = struct.Struct("<II")
_CONTROL_ROW = 24
_CONTROL_NUMBERS = struct.Struct("<QQQ")
_SIGN = 1 << 63
"""bsdiff's own integers: sign and magnitude, little-endian."""

_TINY_BYTES = 300
_TINY_FRACTION = 15
"""bsdiff is worth its time where zstd leaves more than that of the old side: its time goes with the old, what it saves
with what zstd leaves."""

_POOR_FRACTION = 3
"""Where zstd leaves more than that of what is new, bsdiff does no better."""

_PLAIN_ADVANTAGE = 0.98
_LOOKED_AT_BYTES = 4096


def encode(base: bytes, data: bytes) -> tuple[int, bytes]:
    """The smallest payload found that makes `data` of `base`, and its method.

    The old bytes as prefix come first, and tell which other ways are worth their time.
    """
    if not base:
        return PLAIN, compress(data)
    found = [(PREFIX, compress(data, base))]
    size = len(found[0][1])
    if size > len(data) // 2:
        found.append((PLAIN, compress(data)))
    if _is_for_bsdiff(base, data, size):
        found.append((BSDIFF, _bsdiff(base, data)))
    return min(found, key=_cost)


def narrowed(base: bytes, data: bytes) -> tuple[int, int]:
    """The part of a long base that `data` resembles, as (start, end): all of it where that cannot be told.

    Both are cut finely by content, and the middle nine tenths of the matches are what counts.
    """
    if len(base) <= 2 * len(data) + _MARGIN_BYTES:
        return 0, len(base)
    places: dict[bytes, int] = {}
    for piece in _finely().cut_buf(base):
        places.setdefault(bytes(piece.data), piece.offset)
    found = sorted(places[known] for piece in _finely().cut_buf(data) if (known := bytes(piece.data)) in places)
    if len(found) < _MATCHES_MIN:
        return 0, len(base)
    outside = len(found) // 20
    start, end = found[outside], found[-1 - outside]
    reach = max(_MARGIN_BYTES, len(data) - (end - start))
    return max(0, start - reach), min(len(base), end + reach)


def _finely() -> FastCDC:
    return FastCDC(1024, min_size=256, max_size=4096, normalized_chunking=1, seed=0)


def decode(method: int, payload: bytes, base: bytes, size: int) -> bytes:
    """The `size` bytes of a payload. Never holds more than a small multiple of them. Raises Corrupt.

    Right only if `base` is what it was made with; whoever asks checks what comes out. Not for solid runs.
    """
    if method == BSDIFF:
        return _bspatch(payload, base, size)
    data = inflate(payload, size, "the delta's item", base if method == PREFIX else b"")
    if len(data) != size:
        raise Corrupt(f"the delta's item holds {len(data)} bytes instead of {size}")
    return data


def stored_bytes_max(size: int) -> int:
    """More than any payload of `size` bytes takes."""
    return size + size // 8 + 1024


def compress(data: bytes, prefix: bytes = b"") -> bytes:
    """One zstd frame of `data`, which may point into `prefix`. As fine as is worth it for its length."""
    window = min(27, max(10, (len(prefix) + len(data)).bit_length()))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _level(len(data), len(prefix)),
        source_size=len(data),
        dict_size=len(prefix),
        window_log=window,
        write_content_size=True,
        write_checksum=False,
        write_dict_id=False,
    )
    dictionary = _prefix(prefix) if prefix else None
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(data)


def _level(size: int, prefix_bytes: int) -> int:
    if max(size, prefix_bytes) <= _FINE_BYTES_MAX:
        return _FINE_LEVEL
    if prefix_bytes:
        return _PREFIX_LEVEL
    return _LEVEL if size < _LONG_BYTES_MIN else _LONG_LEVEL


def inflate(frame: bytes, limit: int, what: str, prefix: bytes = b"") -> bytes:
    """The content of one frame, at most `limit` bytes. Raises Corrupt."""
    try:
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= limit:
            raise Corrupt(f"{what} claims to hold {size} bytes, more than {limit}")
        dictionary = _prefix(prefix) if prefix else None
        inflater = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=1 << 27)
        return inflater.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Corrupt(f"{what} does not decompress") from error


def _prefix(data: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _cost(found: tuple[int, bytes]) -> float:
    """Its length; what needs no base must be beaten by more than a hair."""
    return len(found[1]) * (_PLAIN_ADVANTAGE if found[0] == PLAIN else 1)


def _is_for_bsdiff(base: bytes, data: bytes, by_prefix: int) -> bool:
    """Whether bsdiff may win enough: on binaries that are neither compressed nor nearly the same anyway."""
    if max(len(base), len(data)) > BSDIFF_BYTES_MAX or b"\0" not in data[:_LOOKED_AT_BYTES]:
        return False
    return max(_TINY_BYTES, len(base) // _TINY_FRACTION) < by_prefix < len(data) // _POOR_FRACTION


def _bsdiff(base: bytes, data: bytes) -> bytes:
    control, difference, extra = bsdiff4.core.diff(base, data)
    columns = b"".join(control[at::_CONTROL_ROW] for at in range(_CONTROL_ROW))
    return compress(_CONTROL.pack(len(control), len(difference)) + columns + difference + extra)


def _bspatch(payload: bytes, base: bytes, size: int) -> bytes:
    limit = _CONTROL.size + _CONTROL_ROW * (size + 1) + size
    content = inflate(payload, min(limit, 4 * OUTPUT_BYTES_MAX), "the delta's item")
    if len(content) < _CONTROL.size:
        raise Corrupt("the delta's item is cut off")
    control_bytes, difference_bytes = _CONTROL.unpack_from(content)
    body = content[_CONTROL.size :]
    if control_bytes % _CONTROL_ROW or control_bytes + difference_bytes > len(body):
        raise Corrupt("the delta's item is malformed")
    control = bytearray(control_bytes)
    rows = control_bytes // _CONTROL_ROW
    for column in range(_CONTROL_ROW):
        control[column::_CONTROL_ROW] = body[column * rows : (column + 1) * rows]
    difference = body[control_bytes : control_bytes + difference_bytes]
    extra = body[control_bytes + difference_bytes :]
    _check_control(bytes(control), len(base), size, len(difference), len(extra))
    try:
        patched: bytes = bsdiff4.core.patch(base, size, bytes(control), difference, extra)
    except (ValueError, MemoryError) as error:
        raise Corrupt(f"the delta's item cannot be applied: {error}") from error
    return patched


def _check_control(control: bytes, base_bytes: int, size: int, difference_bytes: int, extra_bytes: int) -> None:
    """Raise Corrupt unless every step stays inside what it reads and the steps together make exactly `size` bytes.

    Positions in the base may lie outside it (bsdiff reads zeros there), but not further than either side is long.
    """
    added = copied = at = 0
    reach = base_bytes + size
    for add, copy, seek in _CONTROL_NUMBERS.iter_unpack(control):
        if add >= _SIGN or copy >= _SIGN or abs(at) > reach or (seek & ~_SIGN) > 2 * reach:
            raise Corrupt("the delta's item is malformed")
        added += add
        copied += copy
        at += add + (seek if seek < _SIGN else _SIGN - seek)
    if (added, copied) != (difference_bytes, extra_bytes) or added + copied != size:
        raise Corrupt(f"the delta's item makes {added + copied} bytes, not {size}")
