"""How much memory this process keeps that it does not use."""

from __future__ import annotations

import contextlib
import ctypes

_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1
_PIECE_BYTES = 256 << 10
_REUSED_BYTES = 16 << 20


def keep_little() -> None:
    """Have malloc give back what is freed: one arena for all threads, and large pieces mapped on their own.

    Threads that fetch and decode megabytes otherwise each keep an arena of their own: 100 MB in an install of 83,000
    entries. A C library that cannot be told so is left as it is.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_ARENA_MAX, 1)
        libc.mallopt(_MMAP_THRESHOLD, _PIECE_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, 4 * _PIECE_BYTES)


def keep_pieces() -> None:
    """Have malloc use the same memory for one piece of some megabytes after another, in a process that ends soon.

    Mapped on its own each would be cleared by the kernel, a page at a time: half a million times in an install.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _REUSED_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _REUSED_BYTES)
