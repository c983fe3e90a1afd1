"""What a delta's items will be: novel chunks grouped in order, and the stretches of old files each is made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from sis.image.deltas.delta import Stretch
from sis.image.deltas.pairs import Pairing
from sis.image.documents.rows import Rows
from sis.image.documents.tables import Novel
from sis.image.model import HOLE, Entry

WHOLE_BYTES_MAX = 8 << 20
"""An old file up to this size is a base whole; of a longer one the part that lies where the new bytes do."""

_WINDOW_BYTES = 2 << 20
_WINDOW_MARGIN_BYTES = 32 << 10
_OUTPUT_BYTES = 1 << 20
_SMALL_BYTES = 128 << 10
_GROUP_BYTES = 512 << 10
"""Small neighbours share an item up to this much output: fewer, better packed items, and not much lost with one."""

_PART_BYTES = 1 << 20
"""Output of an item of a delta from nothing."""

_RUN_BYTES_MIN = 64 << 20
_RUN_BYTES_MAX = 512 << 20
_RUNS = 4
"""Of the runs of items that are compressed as one: longer ones compress better, several are made and read at a time."""


@dataclass
class Work:
    """One item to be made: its novel chunks, and its base."""

    chunks: list[Novel] = field(default_factory=list)
    base: list[Stretch] = field(default_factory=list)
    is_alone: bool = False

    @property
    def output_bytes(self) -> int:
        return sum(chunk.size for chunk in self.chunks)

    @property
    def base_bytes(self) -> int:
        return sum(stretch.length for stretch in self.base)


def plan_items(
    before: Rows, after: Rows, novel: Collection[bytes], bringing: Sequence[int], is_shared: Callable[[bytes], bool]
) -> Iterator[Work]:
    """The items of a delta in order.

    novel      digests of the chunks that are to come out of them
    bringing   the numbers of the newer entries these are first seen in, in order
    is_shared  whether a path may share an item with its neighbours
    """
    return _grouped(_of_files(before, after, novel, bringing, is_shared))


def plan_whole(chunks: Sequence[Novel]) -> Iterator[tuple[Work, ...]]:
    """The runs of a delta from nothing, of all chunks of a version: items that are compressed as one."""
    wanted = -(-sum(novel.size for novel in chunks) // _RUNS)
    run_bytes = min(max(wanted, _RUN_BYTES_MIN), _RUN_BYTES_MAX)
    run: list[Work] = []
    work, size, run_size = Work(), 0, 0
    for novel in chunks:
        work.chunks.append(novel)
        size += novel.size
        if size >= _PART_BYTES:
            run.append(work)
            run_size += size
            work, size = Work(), 0
            if run_size >= run_bytes:
                yield tuple(run)
                run, run_size = [], 0
    if work.chunks:
        run.append(work)
    if run:
        yield tuple(run)


def _of_files(
    before: Rows, after: Rows, novel: Collection[bytes], bringing: Sequence[int], is_shared: Callable[[bytes], bool]
) -> Iterator[Work]:
    if not bringing:
        return
    wanted = set(novel)
    pairing = Pairing(before, after, bringing)
    for number in bringing:
        entry = after[number]
        runs = _novel_runs(entry, wanted)
        for work in _of_file(entry, runs, before, pairing.old_self(entry)):
            work.is_alone = not is_shared(entry.path)
            yield work


@dataclass
class _Run:
    """Novel chunks that lie together in a file, and the known chunks on either side."""

    offset: int
    left: bytes
    right: bytes = b""
    chunks: list[Novel] = field(default_factory=list)

    @property
    def length(self) -> int:
        return sum(chunk.size for chunk in self.chunks)


def _novel_runs(entry: Entry, wanted: set[bytes]) -> list[_Run]:
    """What of an entry is wanted, and is not any more after."""
    runs: list[_Run] = []
    is_open = False
    at = 0
    before = b""
    for digest, size in entry.each_chunk():
        if digest not in wanted:
            if is_open:
                runs[-1].right = digest
            is_open = False
            before = digest
        else:
            wanted.remove(digest)
            if not is_open:
                runs.append(_Run(at, before))
                is_open = True
            elif runs[-1].length + size > _OUTPUT_BYTES:
                runs.append(_Run(at, b""))
            runs[-1].chunks.append(Novel(digest, size))
        at += size
    return runs


def _of_file(entry: Entry, runs: list[_Run], before: Rows, old: int | None) -> Iterator[Work]:
    if old is None:
        yield from (Work(run.chunks) for run in runs)
        return
    was = before[old]
    if was.size <= WHOLE_BYTES_MAX:
        whole = [Stretch(old, 0, was.size)]
        if sum(run.length for run in runs) <= WHOLE_BYTES_MAX:
            yield Work([chunk for run in runs for chunk in run.chunks], whole)
        else:
            yield from (Work(run.chunks, whole) for run in runs)
        return
    places = _places(was)
    for run in runs:
        yield Work(run.chunks, [_window(run, entry, old, was, places)])


def _places(entry: Entry) -> dict[bytes, tuple[int, int]]:
    """Where each chunk of a file begins and ends."""
    places: dict[bytes, tuple[int, int]] = {}
    at = 0
    for digest, size in entry.each_chunk():
        places.setdefault(digest, (at, at + size))
        at += size
    return places


def _window(run: _Run, entry: Entry, old: int, was: Entry, places: dict[bytes, tuple[int, int]]) -> Stretch:
    """The part of a long old file between the known neighbours of new bytes, or about as far into it as they are."""
    left = places[run.left][1] if run.left in places and run.left != HOLE else None
    right = places[run.right][0] if run.right in places and run.right != HOLE else None
    reach = run.length + _WINDOW_BYTES
    if left is not None and right is not None and 0 <= right - left <= reach:
        start, end = left, right
    elif left is not None:
        start, end = left, left + reach
    elif right is not None:
        start, end = right - reach, right
    else:
        middle = (run.offset + run.length // 2) * was.size // entry.size
        start, end = middle - reach, middle + reach
    start = max(0, min(start, was.size) - _WINDOW_MARGIN_BYTES)
    end = min(was.size, max(end, start) + _WINDOW_MARGIN_BYTES)
    if end <= start:
        start = max(0, end - _WINDOW_MARGIN_BYTES)
    return Stretch(old, start, end - start)


def _grouped(works: Iterator[Work]) -> Iterator[Work]:
    group: Work | None = None
    for work in works:
        if group is not None and _may_join(group, work):
            group.chunks += work.chunks
            group.base += [stretch for stretch in work.base if stretch not in group.base]
            continue
        if group is not None:
            yield group
        group = work
    if group is not None:
        yield group


def _may_join(group: Work, work: Work) -> bool:
    if group.is_alone or work.is_alone:
        return False
    if not group.base and not work.base:
        return group.output_bytes + work.output_bytes <= _OUTPUT_BYTES
    if group.base and work.base and group.base[-1].entry == work.base[0].entry:
        limit = _OUTPUT_BYTES
    elif work.output_bytes <= _SMALL_BYTES and group.base_bytes + work.base_bytes <= 2 * _GROUP_BYTES:
        limit = _GROUP_BYTES
    else:
        return False
    return group.output_bytes + work.output_bytes <= limit and group.base_bytes + work.base_bytes <= WHOLE_BYTES_MAX
