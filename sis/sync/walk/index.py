"""What a node remembers of a root between runs: the tree it was last made equal to, and each path's lstat then.

A path whose lstat still is what the index says still equals its entry, so "nothing changed" costs one walk. Any
change of content, owner, mode or xattrs moves ctime, which no program can set back. A row whose ctime was too near
to the clock (or ahead of it) when it was taken is not kept: a later change could carry the same ctime.

`index` is written last and in one rename. It names two files that never change: `tree-<digest>.<format>`, the entries
of a tree, and `listings-<digest>`, the rows by directory; and says what is other than in them since. So a run that
changed little writes little (`amend`), until that has become much and all is written anew (`save`).
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
from blake3 import blake3

from sis.image.model import Entry
from sis.sync.desired import Overlaid
from sis.sync.walk.listing import Listing, Row, ctime_ns_of
from sis.system.files import Xattrs, atomic_write, make_dirs

FORMAT = 3
RACY_NS = 25_000_000
"""Coarser than any kernel's ctime ticks (10 ms at 100 Hz)."""

_INDEX = "index"
_INTENT = "intent"
_TREE_PREFIX = "tree-"
_LISTINGS_PREFIX = "listings-"

AMENDED_MAX = 5000
"""Entries and listings noted in `index` as other than in the files it names, before these are written anew."""

_AT_ONCE = 2048
"""Entries that are decoded or written at a time."""

_PIECE_BYTES = 1 << 20
"""Listings that are written at a time."""

_ARRAY_OF_2, _ARRAY_32, _MAP_32 = b"\x92", b"\xdd", b"\xdf"
_SHORT = 16
"""How arrays and maps begin in MessagePack: those of any length with four bytes more that tell it. What is shorter than
`_SHORT` begins with one byte, what is encoded at a time with three at most."""

_encode = msgspec.msgpack.Encoder().encode

log = logging.getLogger(__name__)


class Still(msgspec.Struct, array_like=True, frozen=True):
    """What lets a walk say that nothing changed, without the desired tree at hand (`still`).

    It is there only where every held path that is on the disk has its row in a listing.

    terms      digest of all that the verdict depends on besides the tree: policy, mounts, kernels
    entries    how many entries the desired tree has
    notices    what a person was told
    aside      by directory, names a listing leaves out and whether they are directories: ignored, the node's own, …
    mounts     mount points the walk met, held or not
    uncrossed  those among them that are not held
    absent     desired paths that are not there
    restless   directories whose time is not held, with their xattrs
    """

    terms: bytes
    entries: int
    notices: tuple[str, ...]
    aside: dict[bytes, dict[bytes, bool]]
    mounts: tuple[bytes, ...]
    uncrossed: tuple[bytes, ...]
    absent: tuple[bytes, ...]
    restless: dict[bytes, Xattrs]


class Head(msgspec.Struct, array_like=True, frozen=True):
    """The file `index`. What is not told here is as in `Remembered`.

    listings  names the file that has the listings, all but those in `moved`
    moved     by directory, its listing now
    base      digest of the tree whose file has the entries, all but those in `changed` and `gone`
    """

    format: int
    tree: bytes
    owned: tuple[bytes, ...]
    absent: tuple[bytes, ...]
    kernels: tuple[str, ...]
    retained: tuple[str, ...]
    still: Still | None
    overlaid: Overlaid
    listings: str
    base: bytes
    moved: dict[bytes, Listing] = {}
    changed: tuple[Entry, ...] = ()
    gone: tuple[bytes, ...] = ()


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


class _TreeFile(msgspec.Struct, array_like=True):
    format: int
    entries: tuple[Entry, ...]


class _RawTreeFile(msgspec.Struct, array_like=True):
    format: int
    entries: list[msgspec.Raw]


class _ListingsFile(msgspec.Struct, array_like=True):
    format: int
    listings: dict[bytes, Listing]


_File = TypeVar("_File", Head, _TreeFile, _RawTreeFile, _ListingsFile)


@dataclass(frozen=True)
class Remembered:
    """The state of one root.

    tree      digest of the tree last applied, b"" before the first sync
    applied   its entries
    intended  entries of policy `node` that an interrupted run may have placed already
    owned     paths of policy `node` that the node has changed: its own from then on
    absent    paths of policy `node` of the applied tree that were never placed
    kernels   kernel releases the applied tree has
    retained  kernel releases kept although the applied tree has not
    listings  by directory, the lstat of what was verified to equal its entry in `applied`
    still     what makes a short answer of it, if that is possible
    overlaid  where the layer that was applied lies
    """

    tree: bytes = b""
    applied: Mapping[bytes, Entry] = field(default_factory=dict)
    intended: Mapping[bytes, Entry] = field(default_factory=dict)
    owned: frozenset[bytes] = frozenset()
    absent: frozenset[bytes] = frozenset()
    kernels: tuple[str, ...] = ()
    retained: tuple[str, ...] = ()
    listings: Mapping[bytes, Listing] = field(default_factory=dict)
    still: Still | None = None
    overlaid: Overlaid = field(default_factory=Overlaid)


def is_settled(row: Row, now_ns: int) -> bool:
    """Whether a change made after `now_ns` must show in this row's ctime (taken at or after `now_ns`)."""
    return ctime_ns_of(row) < now_ns - RACY_NS


def wait_until_settled(since: float) -> None:
    """Sleep what is left of the few milliseconds until the ctimes of what was done before `since` are in the past."""
    time.sleep(max(0.0, since + (RACY_NS + 2_000_000) / 1e9 - time.monotonic()))


def read(state: Path) -> Index | None:
    """The index of the state directory `state`. One that cannot be read back is as good as none."""
    head = _read(state / _INDEX, Head)
    stored = None if head is None else _read(state / head.listings, _ListingsFile)
    if head is None or stored is None:
        return None
    return Index(head, stored.listings | head.moved)


def has_intent(state: Path) -> bool:
    """Whether a run did not come to its end."""
    return (state / _INTENT).exists()


def load(state: Path, index: Index | None, tree: bytes, entries: Mapping[bytes, Entry]) -> Remembered:
    """What the state directory `state` remembers, `index` having been read from it.

    (`tree`, `entries`) is the desired tree, often the one applied. Where the entries cannot be read back, every path is
    verified by its content.
    """
    intent = _read(state / _INTENT, _TreeFile)
    intended = {entry.path: entry for entry in intent.entries} if intent else {}
    if index is None:
        return Remembered(intended=intended)
    applied = entries
    if index.tree != tree:
        stored = _applied(_tree_path(state, index.head.base), index.head, entries)
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


def _applied(path: Path, head: Head, like: Mapping[bytes, Entry]) -> Mapping[bytes, Entry] | None:
    """The entries of the tree applied; None if its file cannot be read back. Those that are in `like` are taken there.

    Decoded some at a time, so that those which are there already are gone at once.
    """
    stored = _read(path, _RawTreeFile)
    if stored is None:
        return None
    try:
        entries = (_one_of(entry, like.get(entry.path)) for entry in _decoded(stored.entries))
        return {entry.path: entry for entry in _now(entries, head)}
    except msgspec.MsgspecError as error:
        _warn(path, error)
        return None


def _decoded(rows: list[msgspec.Raw]) -> Iterator[Entry]:
    for start in range(0, len(rows), _AT_ONCE):
        some = _encode(rows[start : start + _AT_ONCE])
        yield from msgspec.msgpack.decode(some, type=tuple[Entry, ...])


def _now(entries: Iterable[Entry], head: Head) -> Iterable[Entry]:
    """The entries of the tree applied, of those its base has."""
    if not head.changed and not head.gone:
        return entries
    known = {entry.path: entry for entry in (*entries, *head.changed)}
    return (known[path] for path in sorted(known.keys() - set(head.gone)))


def _one_of(entry: Entry, like: Entry | None) -> Entry:
    """Of two equal entries only one is kept in memory."""
    return like if like is not None and like == entry else entry


def intend(state: Path, entries: Iterable[Entry]) -> None:
    """Note entries of policy `node` that are about to be placed, in case this run does not end."""
    noted = tuple(entries)
    if noted:
        _write(state / _INTENT, _TreeFile(FORMAT, noted))


def keep_entries(state: Path, tree: bytes, entries: Mapping[bytes, Entry]) -> Path:
    """Write the entries of a tree, which an index can name from then on; they may be there already."""
    path = _tree_path(state, tree)
    if not path.exists():
        _write_bytes(path, _tree_file(entries.values()))
    return path


def save(state: Path, remembered: Remembered) -> None:
    """Remember. The index is moved into place last; what only the old one needed is removed after."""
    tree = keep_entries(state, remembered.tree, remembered.applied)
    hasher = blake3()
    for piece in _listings_file(remembered.listings):
        hasher.update(piece)
    listings = state / f"{_LISTINGS_PREFIX}{hasher.hexdigest()[:32]}"
    if not listings.exists():
        _write_bytes(listings, _listings_file(remembered.listings))
    head = Head(
        format=FORMAT,
        tree=remembered.tree,
        owned=tuple(sorted(remembered.owned)),
        absent=tuple(sorted(remembered.absent)),
        kernels=remembered.kernels,
        retained=remembered.retained,
        still=remembered.still,
        overlaid=remembered.overlaid,
        listings=listings.name,
        base=remembered.tree,
    )
    _write(state / _INDEX, head)
    (state / _INTENT).unlink(missing_ok=True)
    for old in (*state.glob(_TREE_PREFIX + "*"), *state.glob(_LISTINGS_PREFIX + "*")):
        if old not in (tree, listings):
            old.unlink(missing_ok=True)


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
    _write(state / _INDEX, amended)


def _tree_path(state: Path, digest: bytes) -> Path:
    return state / f"{_TREE_PREFIX}{digest.hex()[:32]}.{FORMAT}"


def _tree_file(entries: Collection[Entry]) -> Iterator[bytes]:
    """A `_TreeFile` in pieces."""
    yield _ARRAY_OF_2 + _encode(FORMAT) + _header_of(_ARRAY_32, len(entries))
    left = iter(entries)
    while some := tuple(itertools.islice(left, _AT_ONCE)):
        yield _encode(some)[1 if len(some) < _SHORT else 3 :]


def _listings_file(listings: Mapping[bytes, Listing]) -> Iterator[bytes]:
    """A `_ListingsFile` in pieces."""
    yield _ARRAY_OF_2 + _encode(FORMAT) + _header_of(_MAP_32, len(listings))
    piece = bytearray()
    for directory, listing in listings.items():
        piece += _encode(directory)
        piece += _encode(listing)
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _header_of(kind: bytes, count: int) -> bytes:
    return kind + count.to_bytes(4, "big")


def _write(path: Path, value: Head | _TreeFile) -> None:
    _write_bytes(path, _encode(value))


def _write_bytes(path: Path, data: bytes | Iterable[bytes]) -> None:
    make_dirs(path.parent, mode=0o700)
    atomic_write(path, data, mode=0o600)


def _read(path: Path, kind: type[_File]) -> _File | None:
    try:
        value = msgspec.msgpack.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        _warn(path, error)
        return None
    return value if value.format == FORMAT else None


def _warn(path: Path, error: Exception) -> None:
    log.warning("%s cannot be used (%s): every path is verified anew", path, error)
