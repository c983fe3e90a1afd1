"""What a node remembers of a root between runs: the tree it was last made equal to, and each path's lstat then.

A path whose lstat still is what the index says still equals its entry, so "nothing changed" costs one walk. Any
change of content, owner, mode or xattrs moves ctime, which no program can set back. A row whose ctime was too near
to the clock (or ahead of it) when it was taken is not kept: a later change could carry the same ctime.

`index` is written last and in one rename. It names two files that never change: `tree-<digest>.<format>`, the entries
of a tree, and `listings-<digest>`, the rows by directory; and says what is other than in them since. So a run that
changed little writes little (`amend`), until that has become much and all is written anew (`save`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sis.image.model import Entry
from sis.sync.walk import index_files
from sis.sync.walk.index_files import Head
from sis.sync.walk.listing import Listing, Row, ctime_ns_of
from sis.sync.walk.remembered import Remembered, Still

RACY_NS = 25_000_000
"""Coarser than any kernel's ctime ticks (10 ms at 100 Hz)."""

AMENDED_MAX = 5000
"""Entries and listings noted in `index` as other than in the files it names, before these are written anew."""


@dataclass(frozen=True)
class Index:
    """What is remembered, but for the entries: `index`, and the listings as they are now."""

    head: Head
    listings: Mapping[bytes, Listing]

    @property
    def tree(self) -> bytes:
        return self.head.tree

    @property
    def still(self) -> Still | None:
        return self.head.still


def is_settled(row: Row, now_ns: int) -> bool:
    """Whether a change made after `now_ns` must show in this row's ctime (taken at or after `now_ns`)."""
    return ctime_ns_of(row) < now_ns - RACY_NS


def wait_until_settled(since: float) -> None:
    """Sleep what is left of the few milliseconds until the ctimes of what was done before `since` are in the past."""
    time.sleep(max(0.0, since + (RACY_NS + 2_000_000) / 1e9 - time.monotonic()))


def read(state: Path) -> Index | None:
    """The index of the state directory `state`. One that cannot be read back is as good as none."""
    head = index_files.read_head(state)
    listings = None if head is None else index_files.read_listings(state, head.listings)
    if head is None or listings is None:
        return None
    return Index(head, listings | head.moved)


def load(state: Path, index: Index | None, tree: bytes, entries: Mapping[bytes, Entry]) -> Remembered:
    """What the state directory `state` remembers, `index` having been read from it.

    (`tree`, `entries`) is the desired tree, often the one applied. Where the entries cannot be read back, every path is
    verified by its content.
    """
    intended = {entry.path: entry for entry in index_files.read_intent(state)}
    if index is None:
        return Remembered(intended=intended)
    applied = entries
    if index.tree != tree:
        stored = index_files.read_entries(state, index.head, entries)
        if stored is None:
            return Remembered(intended=intended)
        applied = stored
    head = index.head
    return Remembered(
        tree=head.tree,
        applied=applied,
        intended=intended,
        owned=frozenset(head.owned),
        absent=frozenset(head.absent),
        kernels=head.kernels,
        retained=head.retained,
        listings=index.listings,
        still=head.still,
        overlaid=head.overlaid,
    )


def intend(state: Path, entries: Iterable[Entry]) -> None:
    """Note entries of policy `node` that are about to be placed, in case this run does not end."""
    noted = tuple(entries)
    if noted:
        index_files.write_intent(state, noted)


def save(state: Path, remembered: Remembered) -> None:
    """Remember. The index is moved into place last; what only the old one needed is removed after."""
    index_files.write_entries(state, remembered.tree, remembered.applied)
    listings = index_files.write_listings(state, remembered.listings)
    head = Head(
        format=index_files.FORMAT,
        tree=remembered.tree,
        owned=tuple(sorted(remembered.owned)),
        absent=tuple(sorted(remembered.absent)),
        kernels=remembered.kernels,
        retained=remembered.retained,
        still=remembered.still,
        overlaid=remembered.overlaid,
        listings=listings,
        base=remembered.tree,
    )
    index_files.write_head(state, head)
    index_files.remove_intent(state)
    index_files.remove_other_files(state, remembered.tree, listings)


def can_amend(index: Index, changes: int) -> bool:
    """Whether that many changes more are better noted in the index than written into all it is made of."""
    head = index.head
    return len(head.changed) + len(head.gone) + len(head.moved) + changes <= AMENDED_MAX


def amend(
    state: Path,
    index: Index,
    tree: bytes,
    entries: Mapping[bytes, Entry | None],
    listings: Mapping[bytes, Listing],
    still: Still | None,
) -> None:
    """Remember `tree`, which has other `entries` (None: no longer) and other `listings` than what `index` tells of."""
    head = index.head
    changed = {entry.path: entry for entry in head.changed}
    gone = set(head.gone)
    for path, entry in entries.items():
        changed.pop(path, None)
        gone.discard(path)
        if entry is None:
            gone.add(path)
        else:
            changed[path] = entry
    amended = msgspec.structs.replace(
        head,
        tree=tree,
        still=still,
        moved={**head.moved, **listings},
        changed=tuple(changed.values()),
        gone=tuple(sorted(gone)),
    )
    index_files.write_head(state, amended)
