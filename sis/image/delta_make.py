"""Make the delta from one version of a store to another, on all cores."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from sis.errors import UsageFault
from sis.image import codec, delta, patches
from sis.image.delta import CHECK_BYTES, DOCUMENT_BYTES_MAX, Head, Item, Stretch, TablePart, name_of
from sis.image.delta_plan import Work, plan_items
from sis.image.model import HOLE, Ref, Version
from sis.image.packs import Location, chunk_locations, decode, read_footer
from sis.image.policy import Policy
from sis.image.store import VERSION_BYTES_MAX, LocalStore, immutable_name
from sis.system.files import fsync_dir, temporary_beside

KEPT_BACK = 3
"""Deltas are made from this many generations a channel pointed to before."""

_IN_PROCESS_BYTES = 2 << 20
_TASKS_AHEAD = 8

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Made:
    """A delta that is in the store. `replaces_bytes`: what its chunks take in packs; seconds of wall time."""

    before: str
    """The generation it leads from, as people name it: compute@11."""
    size_bytes: int
    replaces_bytes: int
    items: int
    output_bytes: int
    by_method: dict[str, tuple[int, int, int]]
    """method → items, payload bytes, bytes that come out"""
    seconds: float


class _Piece(NamedTuple):
    """A stretch of one stored chunk, or of a hole (`location` None)."""

    pack: str
    location: Location | None
    start: int
    end: int


class _Task(NamedTuple):
    """Everything a worker needs to make one item."""

    store: str
    stretches: tuple[Stretch, ...]
    base: tuple[_Piece, ...]
    output: tuple[_Piece, ...]


class _Encoded(NamedTuple):
    method: int
    payload: bytes
    base: tuple[Stretch, ...]


class _Side:
    """One version with all that is needed to find its content."""

    def __init__(self, store: LocalStore, version_id: str) -> None:
        self.store = store
        self.id = version_id
        self.version = store.version(version_id)
        self.manifest = store.manifest(self.version.manifest)
        self.table = store.table(self.version.table)
        self.locations = chunk_locations(self.manifest, self.table)
        self._packs = [pack.digest.hex() for pack in self.table.packs]

    def record(self) -> bytes:
        """The bytes of the version's record, fields this program does not know included."""
        data = self.store.whole(f"versions/{self.id}", VERSION_BYTES_MAX)
        assert data is not None
        return data

    def stretch(self, stretch: Stretch) -> Iterator[_Piece]:
        """The pieces of the chunks a stretch of a file lies in."""
        at = 0
        start, end = stretch.offset, stretch.offset + stretch.length
        for digest, size in self.manifest.entries[stretch.entry].each_chunk():
            if at < end and at + size > start:
                yield self.piece(digest, max(start - at, 0), min(end - at, size))
            at += size

    def piece(self, digest: bytes, start: int, end: int) -> _Piece:
        if digest == HOLE:
            return _Piece("", None, start, end)
        location = self.locations[digest]
        return _Piece(self._packs[location.pack], location, start, end)


def earlier(ref: Ref, channel: str, version_id: str, count: int = KEPT_BACK) -> tuple[str, ...]:
    """The versions a channel pointed to before, newest first, that nodes are likely to be at."""
    known = set(ref.generations.values())
    now = ref.channels.get(channel)
    named = (*((now,) if now else ()), *ref.history.get(channel, ()))
    distinct = dict.fromkeys(found for found in named if found in known and found != version_id)
    return tuple(distinct)[:count]


def make(
    store: LocalStore,
    before: str,
    after: str,
    *,
    progress: Progress | None = None,
    processes: int | None = None,
    wait_s: float = 60.0,
) -> Made | None:
    """Write `deltas/<before>-<after>`, the ids of two versions of `store`. None if it is there already.

    Raises UsageFault for a delta to itself, NotFound for an unknown version, Locked when a commit or prune is at work
    for longer than `wait_s`.
    """
    if before == after:
        raise UsageFault("a delta needs two versions")
    name = immutable_name(name_of(before, after))
    with store.writing("delta", wait_s=wait_s):
        if (store.path / name).exists():
            return None
        return _make(_Side(store, before), _Side(store, after), store.path / name, progress, processes)


def make_for_channel(
    store: LocalStore, image: str, channel: str, version_id: str, *, progress: Progress | None = None
) -> tuple[Made, ...]:
    """The deltas that lead from what `channel` points to, and pointed to before, to a version; those that lack."""
    made = (
        make(store, before, version_id, progress=progress) for before in earlier(store.ref(image), channel, version_id)
    )
    return tuple(one for one in made if one is not None)


def _make(old: _Side, new: _Side, path: Path, progress: Progress | None, processes: int | None) -> Made:
    started = time.monotonic()
    works = tuple(plan_items(old.manifest, new.manifest, _shared_by(new.version)))
    total = sum(work.output_bytes for work in works)
    items: list[Item] = []
    counts: dict[str, tuple[int, int, int]] = {}
    hasher = blake3()
    items_bytes = done = 0
    payloads = temporary_beside(path)
    finished = temporary_beside(path)
    try:
        with payloads.open("xb") as file:
            for work, (method, payload, base) in zip(works, _encoded(old, new, works, processes), strict=True):
                items.append(Item(len(work.chunks), method, len(payload), blake3(payload).digest(CHECK_BYTES), base))
                file.write(payload)
                hasher.update(payload)
                items_bytes += len(payload)
                done += work.output_bytes
                _count(counts, method, len(payload), work.output_bytes)
                if progress is not None:
                    progress("delta", done, total)
        head = delta.encode_head(Head(*_documents(old, new), tuple(items)))
        header = delta.encode_header(old.id, new.id, head, items_bytes, hasher.digest())
        _join(finished, header + head, payloads)
        finished.rename(path)
        fsync_dir(path.parent)
    finally:
        payloads.unlink(missing_ok=True)
        finished.unlink(missing_ok=True)
    return Made(
        before=f"{old.version.image}@{old.version.generation}",
        size_bytes=len(header) + len(head) + items_bytes,
        replaces_bytes=sum(new.locations[chunk.digest].stored for work in works for chunk in work.chunks),
        items=len(items),
        output_bytes=total,
        by_method=counts,
        seconds=round(time.monotonic() - started, 3),
    )


def _shared_by(version: Version) -> Callable[[bytes], bool]:
    """Paths that nodes keep as their own are likely to differ there: each has an item to itself."""
    policy = Policy(version.policy)
    return lambda path: policy.verb(path) == "enforce"


def _documents(old: _Side, new: _Side) -> tuple[bytes, bytes, TablePart]:
    """Version and manifest as patches, and the rows of the table."""
    versions = old.record(), new.record()
    manifests = codec.encode_manifest(old.manifest), codec.encode_manifest(new.manifest)
    part = delta.table_part(old.table, (old.manifest, new.manifest), new.table)
    return _patch(*versions), _patch(*manifests), part or TablePart((), b"")


def _patch(before: bytes, after: bytes) -> bytes:
    if max(len(before), len(after)) > DOCUMENT_BYTES_MAX:
        return b""
    return patches.compress(after, before)


def _encoded(old: _Side, new: _Side, works: Sequence[Work], processes: int | None) -> Iterator[_Encoded]:
    """Each item, in order; in processes where it is much (bsdiff shares no interpreter)."""
    tasks = (_task(old, new, work) for work in works)
    count = processes or os.cpu_count() or 1
    if sum(work.output_bytes for work in works) <= _IN_PROCESS_BYTES or len(works) < 2 or count < 2:
        yield from map(_encode, tasks)
        return
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from _in_order(pool, tasks, count * _TASKS_AHEAD)


def _in_order(pool: ProcessPoolExecutor, tasks: Iterable[_Task], ahead: int) -> Iterator[_Encoded]:
    waiting: deque[Future[_Encoded]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(_encode, task))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _task(old: _Side, new: _Side, work: Work) -> _Task:
    base = chain.from_iterable(old.stretch(stretch) for stretch in work.base)
    output = (new.piece(chunk.digest, 0, chunk.size) for chunk in work.chunks)
    return _Task(str(old.store.path), tuple(work.base), tuple(base), tuple(output))


def _encode(task: _Task) -> _Encoded:
    """In a worker: read what the item is made of and from, and find its smallest form."""
    store = LocalStore(Path(task.store))
    base, output = _content(store, task.base), _content(store, task.output)
    start, end = patches.narrowed(base, output) if len(task.stretches) == 1 else (0, len(base))
    method, payload = patches.encode(base[start:end], output)
    return _Encoded(method, payload, () if method == patches.PLAIN else _clipped(task.stretches, start, end))


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


def _content(store: LocalStore, pieces: Iterable[_Piece]) -> bytes:
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


def _count(counts: dict[str, tuple[int, int, int]], method: int, payload: int, output: int) -> None:
    items, stored, made = counts.get(_METHOD_NAMES[method], (0, 0, 0))
    counts[_METHOD_NAMES[method]] = (items + 1, stored + payload, made + output)


_METHOD_NAMES = {patches.PLAIN: "plain", patches.PREFIX: "zstd prefix", patches.BSDIFF: "bsdiff"}


def _join(path: Path, beginning: bytes, rest: Path) -> None:
    """A durable file of `beginning` and the content of `rest`."""
    with path.open("xb") as file, rest.open("rb") as source:
        file.write(beginning)
        while piece := source.read(1 << 20):
            file.write(piece)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
