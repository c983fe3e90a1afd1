"""The files an index is made of, as they lie in the state directory: how each is named, read and written."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from blake3 import blake3

from sis.image.model import Entry
from sis.sync.desired import Overlaid
from sis.sync.walk.listing import Listing
from sis.sync.walk.remembered import Still
from sis.system.files import atomic_write, make_dirs

FORMAT = 3

_INDEX = "index"
_INTENT = "intent"
_TREE_PREFIX = "tree-"
_LISTINGS_PREFIX = "listings-"

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


def read_head(state: Path) -> Head | None:
    return _read(state / _INDEX, Head)


def write_head(state: Path, head: Head) -> None:
    _write(state / _INDEX, _encode(head))


def read_listings(state: Path, name: str) -> dict[bytes, Listing] | None:
    stored = _read(state / name, _ListingsFile)
    return None if stored is None else stored.listings


def write_listings(state: Path, listings: Mapping[bytes, Listing]) -> str:
    """The name of the file that has them from now on, or had them already."""
    hasher = blake3()
    for piece in _listings_file(listings):
        hasher.update(piece)
    name = f"{_LISTINGS_PREFIX}{hasher.hexdigest()[:32]}"
    if not (state / name).exists():
        _write(state / name, _listings_file(listings))
    return name


def read_entries(state: Path, head: Head, like: Mapping[bytes, Entry]) -> Mapping[bytes, Entry] | None:
    """The entries of the tree applied; None if its file cannot be read back. Those that are in `like` are taken there.

    Decoded some at a time, so that those which are there already are gone at once.
    """
    path = state / _tree_name(head.base)
    stored = _read(path, _RawTreeFile)
    if stored is None:
        return None
    try:
        entries = (_one_of(entry, like.get(entry.path)) for entry in _decoded(stored.entries))
        return {entry.path: entry for entry in _now(entries, head)}
    except msgspec.MsgspecError as error:
        _warn(path, error)
        return None


def write_entries(state: Path, tree: bytes, entries: Mapping[bytes, Entry]) -> Path:
    """The file that has the entries of `tree` from now on, or had them already."""
    path = state / _tree_name(tree)
    if not path.exists():
        _write(path, _tree_file(entries.values()))
    return path


def remove_other_files(state: Path, tree: bytes, listings: str) -> None:
    """Of the files that an index can name, remove all but those of `tree` and `listings`."""
    kept = (_tree_name(tree), listings)
    for old in (*state.glob(_TREE_PREFIX + "*"), *state.glob(_LISTINGS_PREFIX + "*")):
        if old.name not in kept:
            old.unlink(missing_ok=True)


def has_intent(state: Path) -> bool:
    """Whether a run did not come to its end."""
    return (state / _INTENT).exists()


def read_intent(state: Path) -> tuple[Entry, ...]:
    noted = _read(state / _INTENT, _TreeFile)
    return () if noted is None else noted.entries


def write_intent(state: Path, entries: tuple[Entry, ...]) -> None:
    _write(state / _INTENT, _encode(_TreeFile(FORMAT, entries)))


def remove_intent(state: Path) -> None:
    (state / _INTENT).unlink(missing_ok=True)


def _tree_name(digest: bytes) -> str:
    return f"{_TREE_PREFIX}{digest.hex()[:32]}.{FORMAT}"


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


def _write(path: Path, data: bytes | Iterable[bytes]) -> None:
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
