"""Which chunks a store has, from the footers of its packs."""

from __future__ import annotations

from collections.abc import Iterable

from sis.errors import Corrupt
from sis.image.codec import RUN_BYTES, TABLE_ROW
from sis.image.model import DIGEST_BYTES, HOLE, Entry, PackRef
from sis.image.packs import PackRow, read_footer
from sis.image.store import LocalStore


class ChunkIndex:
    """Chunk digest → row, numbered by position in `packs`. A damaged pack is left out: its chunks are written anew."""

    def __init__(self) -> None:
        self.packs: list[PackRef] = []
        self.rows: dict[bytes, bytes] = {}

    @classmethod
    def of(cls, store: LocalStore) -> ChunkIndex:
        index = cls()
        for name in sorted(store.names("packs")):
            path = store.path / "packs" / name
            try:
                footer = read_footer(path)
                pack = PackRef(bytes.fromhex(name), path.stat().st_size, footer.dictionary)
            except (Corrupt, ValueError):
                continue
            number = index.add_pack(pack)
            for row in footer.rows:
                index.add(number, row)
        return index

    def add_pack(self, pack: PackRef) -> int:
        self.packs.append(pack)
        return len(self.packs) - 1

    def add(self, number: int, row: PackRow) -> None:
        self.rows.setdefault(row.digest, TABLE_ROW.pack(number, row.offset, row.stored, row.size))

    def holds(self, entries: Iterable[Entry]) -> bool:
        """Whether every chunk of these entries is in a pack."""
        rows = self.rows
        for entry in entries:
            chunks = entry.chunks
            for at in range(0, len(chunks), RUN_BYTES):
                digest = chunks[at : at + DIGEST_BYTES]
                if digest not in rows and digest != HOLE:
                    return False
        return True
