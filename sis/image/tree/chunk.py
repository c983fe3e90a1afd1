"""Where a file is cut: FastCDC with parameters that are part of the format (docs/format.md §3).

Measured on 270 MB of /usr (2,052 files): mean chunks of 57, 34, 19 and 10 KiB store 94.1, 95.8, 97.9 and 99.8 MB; an
edited byte costs one chunk. 32 KiB halves what scattered edits move for 2 % more store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from blake3 import blake3
from pyfastcdc import FastCDC

CHUNK_BYTES_MIN = 8 << 10
CHUNK_BYTES_AVERAGE = 32 << 10
CHUNK_BYTES_MAX = 128 << 10
NORMALIZATION: Literal[1] = 1
GEAR_SEED = 0

WINDOW_BYTES = 4 << 20
"""How much of a long run is looked at (and held in memory) at once."""


def cut(data: bytes | memoryview) -> list[memoryview]:
    """The chunks of a run that is in memory whole. A run up to CHUNK_BYTES_MIN is one chunk."""
    view = memoryview(data)
    if len(view) <= CHUNK_BYTES_MIN:
        return [view] if view else []
    return [chunk.data for chunk in _new_chunker().cut_buf(view)]


def cut_stream(read: Callable[[int], bytes]) -> Iterator[memoryview]:
    """The chunks of a run of any length; `read(n)` gives the next bytes, at most n, b"" at the end.

    The same boundaries as `cut` of the whole, in memory bounded by WINDOW_BYTES.
    """
    rest = b""
    ended = False
    while not ended:
        pieces = [rest]
        held = len(rest)
        while held < WINDOW_BYTES:
            piece = read(WINDOW_BYTES - held)
            if not piece:
                ended = True
                break
            pieces.append(piece)
            held += len(piece)
        window = b"".join(pieces)
        rest = b""
        start = 0
        for chunk in cut(window):
            # A chunk that reaches into the last CHUNK_BYTES_MAX of the window might have been cut by the window's end.
            if not ended and len(window) - start < CHUNK_BYTES_MAX:
                break
            yield chunk
            start += len(chunk)
        rest = window[start:]


def digest(data: bytes | memoryview) -> bytes:
    """The BLAKE3-256 digest that names a chunk."""
    return blake3(data).digest()


def _new_chunker() -> FastCDC:
    """A chunker is not to be shared between threads, and costs a microsecond."""
    return FastCDC(
        CHUNK_BYTES_AVERAGE,
        min_size=CHUNK_BYTES_MIN,
        max_size=CHUNK_BYTES_MAX,
        normalized_chunking=NORMALIZATION,
        seed=GEAR_SEED,
    )
