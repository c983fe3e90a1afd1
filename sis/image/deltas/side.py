"""The ends of a delta: versions with all that is needed to find their content, or the nothing a new node begins with.

Of a million files no more is held than the bytes of the manifest and where its rows are; of the chunks, the number of
each of the older version's and of those that are new.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

from sis.errors import Corrupt
from sis.image.deltas import delta
from sis.image.deltas.delta import NOTHING, Stretch, TablePart
from sis.image.documents import codec
from sis.image.documents.rows import Rows
from sis.image.documents.tables import Location, Novel
from sis.image.model import DIGEST_BYTES, HOLE, RUN_BYTES, TABLE_ROW, ChunkTable, Entry, Manifest, Version
from sis.image.names import show_path
from sis.image.store.local import LocalStore
from sis.image.store.reader import VERSION_BYTES_MAX

_NO_ROWS = codec.encode_manifest(Manifest(()), checked=True)
_GONE = -1


class Piece(NamedTuple):
    """A stretch of one stored chunk, or of a hole (`location` None)."""

    pack: str
    location: Location | None
    start: int
    end: int


class Side:
    """A version of `store`; of NOTHING `version` is None, rows and table are empty.

    older       what else there is: its chunks are not this side's. None: it is the older one itself
    numbers     by digest of a chunk that `older` has not, the number of its row in the table, in order
    bringing    the numbers of the entries these are first seen in
    is_joined   whether the table is the older one's and the novel rows: no other chunk has moved

    Raises NotFound, Corrupt.
    """

    def __init__(self, store: LocalStore, version_id: str, older: Side | None = None) -> None:
        self.store = store
        self.id = version_id
        self.version: Version | None = None
        self.rows, self.table = Rows(_NO_ROWS), ChunkTable((), b"")
        self.numbers: dict[bytes, int] = {}
        self.bringing = array("I")
        self.is_joined = True
        if version_id != NOTHING:
            self.version = store.version(version_id)
            self.rows = Rows(store.manifest_bytes(self.version.manifest))
            self.table = store.table(self.version.table)
            self._number(older)
        self._packs = [pack.digest.hex() for pack in self.table.packs]

    @property
    def name(self) -> str:
        """As people name it: compute@11; "nothing"."""
        return f"{self.version.image}@{self.version.generation}" if self.version else "nothing"

    def record(self) -> bytes:
        """The bytes of the version's record, fields this program does not know included."""
        if self.version is None:
            return b""
        data = self.store.whole(f"versions/{self.id}", VERSION_BYTES_MAX)
        assert data is not None
        return data

    def manifest_bytes(self) -> bytes:
        """The manifest's canonical bytes."""
        return self.rows.data if self.version else b""

    def novel(self) -> Iterator[Novel]:
        """The chunks the older side has not, in order of first appearance."""
        for digest, number in self.numbers.items():
            yield Novel(digest, self._location(digest, number).size)

    def stored(self, digest: bytes) -> int:
        """What a chunk takes in its pack, in bytes."""
        return self._location(digest, self.numbers[digest]).stored

    def table_part(self) -> TablePart | None:
        """What the table has more than the older one; None where it is long, or that is not all."""
        if len(self.table.rows) > delta.TABLE_BYTES_MAX or not self.is_joined:
            return None
        return delta.table_part(self.table, self.numbers.values())

    def stretch(self, stretch: Stretch) -> Iterator[Piece]:
        """The pieces of the chunks a stretch of a file lies in."""
        at = 0
        start, end = stretch.offset, stretch.offset + stretch.length
        for digest, size in self.rows[stretch.entry].each_chunk():
            if at < end and at + size > start:
                yield self.piece(digest, max(start - at, 0), min(end - at, size))
            at += size

    def piece(self, digest: bytes, start: int, end: int) -> Piece:
        """Bytes of one chunk."""
        if digest == HOLE:
            return Piece("", None, start, end)
        location = self._location(digest, self.numbers[digest])
        return Piece(self._packs[location.pack], location, start, end)

    def _location(self, digest: bytes, number: int) -> Location:
        row: tuple[int, int, int, int] = TABLE_ROW.unpack_from(self.table.rows, number * TABLE_ROW.size)
        return Location(*row, digest)

    def _number(self, older: Side | None) -> None:
        """Number the chunks in order of first appearance. Raises Corrupt unless table and manifest are well-formed."""
        numbering = _Numbering(self.table, older)

        def note(number: int, entry: Entry) -> None:
            if entry.chunks and numbering.add(entry):
                self.bringing.append(number)

        self.rows.go_through(note)
        numbering.end()
        self.numbers = numbering.numbers
        self.is_joined = not numbering.has_moved


class _Numbering:
    """The rows of a chunk table, given to chunks one after the other."""

    def __init__(self, table: ChunkTable, older: Side | None) -> None:
        self.numbers: dict[bytes, int] = {}
        self.has_moved = False
        self._table = table
        self._sizes = _sizes_of(table)
        self._count = 0
        self._known: Mapping[bytes, int] = older.numbers if older else {}
        self._older = older.table if older else ChunkTable((), b"")
        self._seen = bytearray(len(self._known))
        self._known_sizes = _sizes_of(self._older)
        position = {pack: number for number, pack in enumerate(table.packs)}
        self._moved_to = [position.get(pack, _GONE) for pack in self._older.packs]

    def add(self, entry: Entry) -> bool:
        """Number what an entry has that was in none before it. Whether any of that is novel."""
        raw = entry.chunks
        is_bringing = False
        for at in range(0, len(raw), RUN_BYTES):
            digest = raw[at : at + DIGEST_BYTES]
            size = int.from_bytes(raw[at + DIGEST_BYTES : at + RUN_BYTES], "little")
            known = self._known.get(digest)
            if known is not None:
                if size != self._known_sizes[known]:
                    _refuse(entry, digest, size, self._known_sizes[known])
                if not self._seen[known]:
                    self._seen[known] = 1
                    self._next(entry, digest, size)
                    self._compare(known)
                continue
            number = self.numbers.get(digest)
            if number is not None:
                if size != self._sizes[number]:
                    _refuse(entry, digest, size, self._sizes[number])
            elif digest != HOLE:
                self.numbers[digest] = self._next(entry, digest, size)
                is_bringing = True
        return is_bringing

    def end(self) -> None:
        """Raises Corrupt if there are rows left."""
        if self._count < len(self._sizes):
            raise Corrupt("the chunk table has rows its manifest does not need")

    def _next(self, entry: Entry, digest: bytes, size: int) -> int:
        number = self._count
        if number == len(self._sizes):
            raise Corrupt("the chunk table ends before its manifest does")
        if size != self._sizes[number]:
            _refuse(entry, digest, size, self._sizes[number])
        self._count += 1
        return number

    def _compare(self, known: int) -> None:
        """Whether the row numbered last says of a chunk what the older table says."""
        was, now = known * TABLE_ROW.size, (self._count - 1) * TABLE_ROW.size
        old_pack, old_offset, old_stored, _ = TABLE_ROW.unpack_from(self._older.rows, was)
        pack, offset, stored, _ = TABLE_ROW.unpack_from(self._table.rows, now)
        if (self._moved_to[old_pack], old_offset, old_stored) != (pack, offset, stored):
            self.has_moved = True


def _sizes_of(table: ChunkTable) -> Sequence[int]:
    return array("I", [size for _, _, _, size in TABLE_ROW.iter_unpack(table.rows)])


def _refuse(entry: Entry, digest: bytes, size: int, told: int) -> NoReturn:
    raise Corrupt(f"{show_path(entry.path)}: chunk {digest.hex()[:12]} is {size} bytes, not {told}")
