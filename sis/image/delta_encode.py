"""The items of a delta, each encoded where there is a core free: in processes, since bsdiff shares no interpreter."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sis.image import patches
from sis.image.delta import Stretch
from sis.image.delta_side import Piece
from sis.image.packs import decode, read_footer
from sis.image.store import LocalStore
from sis.system.parent import end_with

_TASKS_AHEAD = 8
_GENTLE = 10
"""Niceness of work that nobody waits for."""


class Task(NamedTuple):
    """Everything a worker needs to make one item."""

    store: str
    stretches: tuple[Stretch, ...]
    base: tuple[Piece, ...]
    output: tuple[Piece, ...]


class Encoded(NamedTuple):
    """An item's method, payload and base."""

    method: int
    payload: bytes
    base: tuple[Stretch, ...]


class Encoders:
    """Workers for tasks: `count` processes, or this one for 1. Use within `with`."""

    def __init__(self, count: int, *, gently: bool = False) -> None:
        self._ahead = count * _TASKS_AHEAD
        self._pool = (
            ProcessPoolExecutor(
                count,
                multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(os.getpid(), _GENTLE if gently else 0),
            )
            if count > 1
            else None
        )

    def __enter__(self) -> Encoders:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def encoded(self, tasks: Iterable[Task | Encoded]) -> Iterator[Encoded]:
        """The outcome of each task, in order; what is encoded already is passed on."""
        if self._pool is None:
            yield from (task if isinstance(task, Encoded) else encode(task) for task in tasks)
            return
        waiting: deque[Future[Encoded] | Encoded] = deque()
        for task in tasks:
            waiting.append(task if isinstance(task, Encoded) else self._pool.submit(encode, task))
            if len(waiting) >= self._ahead:
                yield _outcome(waiting.popleft())
        while waiting:
            yield _outcome(waiting.popleft())


def encode(task: Task) -> Encoded:
    """Read what an item is made of and from, and find its smallest form."""
    store = LocalStore(Path(task.store))
    base, output = _content(store, task.base), _content(store, task.output)
    start, end = patches.narrowed(base, output) if len(task.stretches) == 1 else (0, len(base))
    method, payload = patches.encode(base[start:end], output)
    return Encoded(method, payload, () if method == patches.PLAIN else _clipped(task.stretches, start, end))


def _begin(parent: int, niceness: int) -> None:
    """In a worker, first of all."""
    end_with(parent)
    os.nice(niceness)


def _outcome(waiting: Future[Encoded] | Encoded) -> Encoded:
    return waiting if isinstance(waiting, Encoded) else waiting.result()


def _clipped(stretches: Iterable[Stretch], start: int, end: int) -> tuple[Stretch, ...]:
    """What of stretches lying one behind the other is between two positions."""
    clipped = []
    at = 0
    for entry, offset, length in stretches:
        left, right = max(start - at, 0), min(end - at, length)
        if left < right:
            clipped.append(Stretch(entry, offset + left, right - left))
        at += length
    return tuple(clipped)


def _content(store: LocalStore, pieces: Iterable[Piece]) -> bytes:
    parts = []
    for pack, location, start, end in pieces:
        if location is None:
            parts.append(bytes(end - start))
            continue
        stored = b"".join(store.read(f"packs/{pack}", location.offset, location.stored))
        parts.append(decode(stored, location, _dictionary(store, pack), pack=pack)[start:end])
    return b"".join(parts)


def _dictionary(store: LocalStore, pack: str) -> bytes:
    known = _dictionaries.get(pack)
    if known is None:
        digest = read_footer(store.path / "packs" / pack).dictionary
        known = _dictionaries[pack] = store.dictionary(digest) if digest else b""
    return known


_dictionaries: dict[str, bytes] = {}
