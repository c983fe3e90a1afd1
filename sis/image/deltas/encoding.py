"""The items of a delta, each encoded where there is a core free: in processes, since bsdiff shares no interpreter."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from sis.image.deltas import patches, solid
from sis.image.deltas.delta import Stretch
from sis.image.deltas.side import Piece
from sis.image.store.local import LocalStore
from sis.image.store.packs import decode, read_footer
from sis.system.parent import end_with

_BYTES_AHEAD = 32 << 20
"""What comes out of the tasks that are sent before the first of them is done, for each process: a dear one in their
midst keeps no core idle."""

_T = TypeVar("_T")


class Task(NamedTuple):
    """Everything a worker needs to make one item."""

    store: str
    stretches: tuple[Stretch, ...]
    base: tuple[Piece, ...]
    output: tuple[Piece, ...]


class Run(NamedTuple):
    """A solid run: what comes out of each of its items."""

    store: str
    outputs: tuple[tuple[Piece, ...], ...]


class Encoded(NamedTuple):
    """An item's method, payload and base."""

    method: int
    payload: bytes
    base: tuple[Stretch, ...]


class Encoders:
    """Workers for tasks: `count` processes, or this one for 1. Use within `with`."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = (
            ProcessPoolExecutor(
                count, multiprocessing.get_context("spawn"), initializer=end_with, initargs=(os.getpid(),)
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
        calls = ((_output_bytes(task), task if isinstance(task, Encoded) else partial(encode, task)) for task in tasks)
        return self._in_order(calls, self._count * _BYTES_AHEAD)

    def solid(self, runs: Iterable[Run]) -> Iterator[Encoded]:
        """The items of solid runs, in order; one run for each process is under way."""
        calls: Iterator[tuple[int, partial[list[Encoded]] | list[Encoded]]] = (
            (1, partial(encode_solid, run)) for run in runs
        )
        for items in self._in_order(calls, self._count):
            yield from items

    def _in_order(self, calls: Iterable[tuple[int, partial[_T] | _T]], ahead: int) -> Iterator[_T]:
        """The outcomes of (weight, call), in order; calls of about the weight `ahead` are under way."""
        waiting: deque[tuple[int, Future[_T] | _T]] = deque()
        under_way = 0
        for weight, call in calls:
            if not isinstance(call, partial):
                waiting.append((weight, call))
            elif self._pool is None:
                waiting.append((weight, call()))
            else:
                waiting.append((weight, self._pool.submit(call)))
            under_way += weight
            while waiting and (self._pool is None or under_way >= ahead):
                first, outcome = waiting.popleft()
                under_way -= first
                yield _outcome(outcome)
        while waiting:
            yield _outcome(waiting.popleft()[1])


def encode(task: Task) -> Encoded:
    """Read what an item is made of and from, and find its smallest form."""
    store = LocalStore(Path(task.store))
    base, output = _content(store, task.base), _content(store, task.output)
    start, end = patches.narrowed(base, output) if len(task.stretches) == 1 else (0, len(base))
    method, payload = patches.encode(base[start:end], output)
    return Encoded(method, payload, () if method == patches.PLAIN else _clipped(task.stretches, start, end))


def encode_solid(run: Run) -> list[Encoded]:
    """The items of a solid run."""
    store = LocalStore(Path(run.store))
    size = sum(piece.end - piece.start for output in run.outputs for piece in output)
    payloads = solid.compressed((_content(store, output) for output in run.outputs), size)
    methods = itertools.chain((patches.SOLID,), itertools.repeat(patches.CONTINUED))
    return [Encoded(method, payload, ()) for method, payload in zip(methods, payloads, strict=False)]


def _output_bytes(task: Task | Encoded) -> int:
    return sum(piece.end - piece.start for piece in task.output) if isinstance(task, Task) else len(task.payload)


def _outcome(waiting: Future[_T] | _T) -> _T:
    return waiting.result() if isinstance(waiting, Future) else waiting


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
