"""What a plan comes to: bytes and inodes it needs, totals, and the changes to be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from sis.image.model import HOLE, Kind
from sis.sync.model import Change, Totals
from sis.sync.planning.compare import Comparison
from sis.sync.planning.planned import Need, NewFile, Part
from sis.sync.walk.observe import Observed


def changes(
    comparison: Comparison,
    files: Iterable[NewFile],
    to_fetch: frozenset[bytes],
    stored_bytes: Callable[[bytes], int],
) -> Iterator[Change]:
    """In path order, each with what it makes the node fetch; a chunk counts where it is first needed."""
    seen: set[bytes] = set()
    cost: Counter[bytes] = Counter()
    for file in files:
        for digest in file.digests():
            if digest in to_fetch and digest not in seen:
                seen.add(digest)
                cost[file.entry.path] += stored_bytes(digest)
    for difference in sorted((*comparison.to_do, *comparison.told), key=lambda difference: difference.path):
        yield difference.change(cost[difference.path])


def totals(
    entries: int,
    comparison: Comparison,
    files: Iterable[NewFile],
    to_fetch: frozenset[bytes],
    stored_bytes: Callable[[bytes], int],
) -> Totals:
    actions = Counter(difference.action for difference in comparison.to_do)
    written = local = 0
    for file in files:
        if HOLE in file.entry.chunks:
            written += sum(part.chunk.size_bytes for part in file.parts() if part.chunk.digest != HOLE)
        else:
            written += file.entry.size
        if not to_fetch.issuperset(file.digests()):
            runs = [part.chunk for part in file.parts() if part.chunk.digest != HOLE]
            local += sum(chunk.size_bytes for chunk in runs if chunk.digest not in to_fetch)
    return Totals(
        entries=entries,
        created=actions["create"],
        updated=actions["update"] + actions["replace"],
        metadata=actions["metadata"],
        removed=actions["remove"],
        reported=len(comparison.told),
        bytes_fetched=sum(map(stored_bytes, to_fetch)),
        bytes_local=local,
        bytes_written=written,
    )


def needs(observed: Observed, comparison: Comparison, files: Iterable[NewFile]) -> Iterator[Need]:
    """What each file system must have free, in whole blocks."""
    sizes: Counter[bytes] = Counter()
    inodes: Counter[bytes] = Counter()
    blocks = {area.mount: area.block_bytes for area in observed.areas}
    for file in files:
        mount = observed.area_of(file.entry.path).mount
        sizes[mount] += _taken_by(file, blocks[mount])
        inodes[mount] += 1
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
    for area in observed.areas:
        if inodes[area.mount]:
            yield Need(area, sizes[area.mount], inodes[area.mount])


def _taken_by(file: NewFile, block: int) -> int:
    """Bytes of the blocks a file takes; none for its holes."""
    if HOLE not in file.entry.chunks:
        return -(-file.entry.size // block) * block
    taken = 0
    parts = tuple(file.parts())
    for part in parts:
        if part.chunk.digest != HOLE:
            end = part.offset + part.chunk.size_bytes
            taken += -(-end // block) * block - part.offset // block * block
    return taken - _shared_blocks(parts, block)


def _shared_blocks(parts: tuple[Part, ...], block: int) -> int:
    """Bytes of blocks counted twice because one run ends and the next begins in them."""
    twice = 0
    for before, after in pairwise(parts):
        if after.offset % block and HOLE not in (before.chunk.digest, after.chunk.digest):
            twice += block
    return twice
