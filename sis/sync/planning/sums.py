"""What a plan comes to: bytes and inodes it needs, totals, and the changes to be told."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import NamedTuple

import msgspec

from sis.image.model import DIGEST_BYTES, HOLE, RUN_BYTES, Entry, Kind
from sis.sync.model import Change, Totals
from sis.sync.planning.difference import Comparison
from sis.sync.planning.planned import Need, NewFiles
from sis.sync.walk.observe import Observed


def costs(files: NewFiles, to_fetch: Set[bytes], stored_bytes: Callable[[bytes], int]) -> Sequence[int]:
    """What each file makes the node fetch, in bytes; a chunk counts where it is first needed."""
    found = array("Q")
    repeated = set(files.repeated)
    for entry in files.entries:
        cost = 0
        raw = entry.chunks
        for at in range(0, len(raw), RUN_BYTES):
            digest = raw[at : at + DIGEST_BYTES]
            if digest in to_fetch and (digest not in files.repeated or digest in repeated):
                repeated.discard(digest)
                cost += stored_bytes(digest)
        found.append(cost)
    return found


def changes(comparison: Comparison, files: Sequence[Entry], costs: Sequence[int]) -> Iterator[Change]:
    """In path order, with what of `files` each makes the node fetch: their `costs`."""
    told = comparison.to_do
    if comparison.told:
        told = tuple(sorted((*told, *comparison.told), key=lambda difference: difference.path))
    number, count = 0, len(files)
    for difference in told:
        cost = 0
        if number < count and difference.want is files[number]:
            cost = costs[number]
            number += 1
        yield difference.change(cost)


def counts(entries: int, comparison: Comparison) -> Totals:
    """What is changed of a tree of so many entries, in paths."""
    actions = Counter([difference.action for difference in comparison.to_do])
    return Totals(
        entries=entries,
        created=actions["create"],
        updated=actions["update"] + actions["replace"],
        metadata=actions["metadata"],
        removed=actions["remove"],
        reported=len(comparison.told),
    )


def totals(counted: Totals, work: Work, to_fetch: Set[bytes], stored_bytes: Callable[[bytes], int]) -> Totals:
    """`counted` with the bytes that are moved for it."""
    local = 0
    for entry in work.entries:
        local += sum(size for digest, size in entry.each_chunk() if digest != HOLE and digest not in to_fetch)
    return msgspec.structs.replace(
        counted,
        bytes_fetched=sum(map(stored_bytes, to_fetch)),
        bytes_local=local,
        bytes_written=work.bytes_written,
    )


class Work(NamedTuple):
    """The files to be made, what they need on each file system, and how many bytes will be written."""

    entries: Sequence[Entry]
    needs: tuple[Need, ...]
    bytes_written: int


def work(observed: Observed, comparison: Comparison, entries: Sequence[Entry], *, has_holes: bool) -> Work:
    """What files and everything else need, in whole blocks."""
    sizes: Counter[bytes] = Counter()
    inodes: Counter[bytes] = Counter()
    blocks = {area.mount: area.block_bytes for area in observed.areas}
    written = 0
    for mount, group in _by_mount(observed, entries):
        block = blocks[mount]
        if has_holes:
            written += sum(size for entry in group for digest, size in entry.each_chunk() if digest != HOLE)
            sizes[mount] += sum(_taken_by(entry, block) for entry in group)
        else:
            written += sum([entry.size for entry in group])
            sizes[mount] += sum([-(-entry.size // block) for entry in group]) * block
        inodes[mount] += len(group)
    for difference in comparison.to_do:
        entry = difference.want
        if entry is None or entry.kind is Kind.FILE or difference.path in comparison.leader_of:
            continue
        if difference.found is not None and "type" not in difference.what:
            continue
        mount = observed.area_of(entry.path).mount
        inodes[mount] += 1
        if entry.kind is Kind.DIR:
            sizes[mount] += blocks[mount]
    needs = (Need(area, sizes[area.mount], inodes[area.mount]) for area in observed.areas if inodes[area.mount])
    return Work(entries, tuple(needs), written)


def _by_mount(observed: Observed, entries: Sequence[Entry]) -> Iterable[tuple[bytes, Sequence[Entry]]]:
    if len(observed.areas) == 1:
        return [(observed.areas[0].mount, entries)]
    groups: dict[bytes, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(observed.area_of(entry.path).mount, []).append(entry)
    return groups.items()


def _taken_by(entry: Entry, block: int) -> int:
    """Bytes of the blocks a file takes; none for its holes."""
    if HOLE not in entry.chunks:
        return -(-entry.size // block) * block
    taken = at = filled_to = 0
    for digest, size in entry.each_chunk():
        end = at + size
        if digest != HOLE:
            start = max(at // block * block, filled_to)
            filled_to = -(-end // block) * block
            taken += max(0, filled_to - start)
        at = end
    return taken
