"""Solid runs: items of a delta that are parts of one zstd frame, so that each may point far back into those before it.

Files that resemble each other lie tens of megabytes apart: compilers of one family, a library and its static twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import zstandard

from sis.errors import Corrupt

WINDOW_LOG = 26
"""How far back it may reach: what a reader holds in memory."""

_LEVEL = 19
_CHAIN_LOG = 26
"""How far back single matches are sought; long ones are found everywhere in the window."""

_BLOCK_BYTES_MAX = 128 << 10
_PIECE_BYTES = 2 << 20
_RAW, _RLE, _COMPRESSED = range(3)


def compressed(parts: Iterable[bytes], size: int) -> list[bytes]:
    """One payload for each of `parts`, `size` bytes in all, at the price of seconds for every megabyte or two."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        source_size=size,
        window_log=min(WINDOW_LOG, max(20, (size - 1).bit_length())),
        chain_log=min(_CHAIN_LOG, max(20, size.bit_length())),
        enable_ldm=True,
        ldm_min_match=32,
        ldm_hash_rate_log=4,
        write_content_size=False,
        write_checksum=False,
    )
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    payloads = [frame.compress(part) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for part in parts]
    payloads[-1] += frame.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)
    return payloads


class Inflating:
    """One run on its way: the payloads of its items, in order and without a gap, become what they hold."""

    def __init__(self) -> None:
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def item(self, payload: bytes, size: int) -> bytes:
        """The `size` bytes of the next item. Holds little more than these and the window. Raises Corrupt."""
        try:
            return self._item(payload, size)
        except zstandard.ZstdError as error:
            raise Corrupt("the delta's item does not decompress") from error

    def _item(self, payload: bytes, size: int) -> bytes:
        start = 0
        if self._frame is None:
            start = zstandard.frame_header_size(payload)
            parameters = zstandard.get_frame_parameters(payload)
            if parameters.window_size > 1 << WINDOW_LOG or parameters.dict_id or parameters.has_checksum:
                raise Corrupt("the delta's item begins a frame that is not as it should be")
            self._frame = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG).decompressobj()
            self._frame.decompress(payload[:start])
        parts, done = [], 0
        for piece in _pieces(payload, start):
            parts.append(self._frame.decompress(piece))
            done += len(parts[-1])
            if done > size:
                raise Corrupt(f"the delta's item holds more than {size} bytes")
        if done != size:
            raise Corrupt(f"the delta's item holds {done} bytes instead of {size}")
        return b"".join(parts)


def _pieces(payload: bytes, start: int) -> Iterator[bytes]:
    """Whole blocks that inflate to some 2 MB at most together: how much a block makes at most, it says itself."""
    at, bound = start, 0
    while at < len(payload):
        header = int.from_bytes(payload[at : at + 3], "little")
        kind, length = header >> 1 & 3, header >> 3
        makes = _BLOCK_BYTES_MAX if kind == _COMPRESSED else length
        if kind not in (_RAW, _RLE, _COMPRESSED) or makes > _BLOCK_BYTES_MAX:
            raise Corrupt("the delta's item is malformed")
        end = at + 3 + (1 if kind == _RLE else length)
        if end > len(payload):
            raise Corrupt("the delta's item is cut off")
        if bound and bound + makes > _PIECE_BYTES:
            yield payload[start:at]
            start, bound = at, 0
        bound += makes
        at = end
    if start < at:
        yield payload[start:at]
