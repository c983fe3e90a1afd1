"""Which chunks a store has, from the footers of its packs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sis.errors import Corrupt
from sis.image.model import DIGEST_BYTES, HOLE, RUN_BYTES, TABLE_ROW, ChunkTable, Entry, Manifest, PackRef
from sis.image.store.local import LocalStore
from sis.image.store.packs import PackRow, read_footer


class ChunkIndex:
    """Where each chunk lies, by digest, in one of `packs`.

    A damaged pack is left out, and one whose dictionary is lost: their chunks are written anew.

    Rows lie behind one another in one place: a million chunks take some 230 MB.
    """

    def __init__(self) -> None:
        self.packs: list[PackRef] = []
        self._numbers: dict[bytes, int] = {}
        self._rows = bytearray()

    @classmethod
    def of(cls, store: LocalStore) -> ChunkIndex:
        index = cls()
        whole = {b"": True}
        for name in sorted(store.names("packs")):
            path = store.path / "packs" / name
            try:
                footer = read_footer(path)
                pack = PackRef(bytes.fromhex(name), path.stat().st_size, footer.dictionary)
            except (Corrupt, ValueError):
                continue
            if pack.dictionary not in whole:
                whole[pack.dictionary] = store.is_whole(f"dictionaries/{pack.dictionary.hex()}")
            if not whole[pack.dictionary]:
                continue
            number = index.add_pack(pack)
            for row in footer.rows:
                index.add(number, row)
        return index

    def __contains__(self, digest: object) -> bool:
        return digest in self._numbers

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._numbers)

    def add_pack(self, pack: PackRef) -> int:
        self.packs.append(pack)
        return len(self.packs) - 1

    def add(self, number: int, row: PackRow) -> None:
        """A chunk of the pack of that number, unless it is known."""
        if row.digest not in self._numbers:
            self._numbers[row.digest] = len(self._numbers)
            self._rows += TABLE_ROW.pack(number, row.offset, row.stored, row.size)

    def holds(self, entries: Iterable[Entry]) -> bool:
        """Whether every chunk of these entries is in a pack."""
        known = self._numbers
        for entry in entries:
            chunks = entry.chunks
            for at in range(0, len(chunks), RUN_BYTES):
                digest = chunks[at : at + DIGEST_BYTES]
                if digest not in known and digest != HOLE:
                    return False
        return True

    def table(self, manifest: Manifest) -> ChunkTable:
        """The chunk table of a manifest all of whose chunks are here."""
        rows = bytearray()
        seen = bytearray(len(self._numbers))
        renumbered: dict[int, int] = {}
        used: list[PackRef] = []
        for entry in manifest.entries:
            chunks = entry.chunks
            for at in range(0, len(chunks), RUN_BYTES):
                digest = chunks[at : at + DIGEST_BYTES]
                if digest == HOLE:
                    continue
                place = self._numbers[digest]
                if seen[place]:
                    continue
                seen[place] = 1
                pack, offset, stored, size = TABLE_ROW.unpack_from(self._rows, place * TABLE_ROW.size)
                number = renumbered.setdefault(pack, len(used))
                if number == len(used):
                    used.append(self.packs[pack])
                rows += TABLE_ROW.pack(number, offset, stored, size)
        return ChunkTable(packs=tuple(used), rows=bytes(rows))
