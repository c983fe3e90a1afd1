"""A pack, byte for byte, against its name, its own footer, and where chunk tables say that its chunks lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from blake3 import blake3

from sis.errors import Corrupt
from sis.image.documents.tables import Location
from sis.image.store.local import LocalStore
from sis.image.store.packs import decode, read_footer


def check_pack(
    store: LocalStore, name: str, expected: tuple[int, bytes] | None, located: dict[bytes, Location]
) -> tuple[list[str], set[bytes], int, int]:
    """Faults, digests of lost chunks, chunks checked, bytes read."""
    path = store.path / "packs" / name
    faults: list[str] = []
    try:
        size = path.stat().st_size
        if expected is not None and size != expected[0]:
            faults.append(f"{size} bytes instead of {expected[0]}")
        if _digest_of_file(path) != name:
            faults.append("it does not match its name")
        lost = _lost_chunks(store, path, located, faults)
    except OSError as error:
        return [f"it cannot be read: {error.strerror}"], set(located), 0, 0
    return faults, lost, len(located), size


def _lost_chunks(store: LocalStore, path: Path, located: dict[bytes, Location], faults: list[str]) -> set[bytes]:
    """The chunks, of those the tables and the footer say are in a pack, that are not there whole.

    A pack whose dictionary is lost is no worse for it: what its name says of it is all that can be known.
    """
    everything = dict(located)
    dictionary = b""
    try:
        footer = read_footer(path)
    except Corrupt as error:
        faults.append(error.message)
    else:
        for row in footer.rows:
            everything.setdefault(row.digest, Location(0, row.offset, row.stored, row.size, row.digest))
        if footer.dictionary:
            try:
                dictionary = store.dictionary(footer.dictionary)
            except Corrupt:
                return set(located) if faults else set()
    lost = set()
    with path.open("rb") as file:
        for location in sorted(everything.values(), key=lambda location: location.offset):
            file.seek(location.offset)
            try:
                decode(file.read(location.stored), location, dictionary, pack=path.name[:12])
            except Corrupt as error:
                faults.append(error.message)
                lost.add(location.digest)
    return lost


def _digest_of_file(path: Path) -> str:
    hasher = blake3()
    with path.open("rb", buffering=0) as file:
        for piece in _pieces(file.read):
            hasher.update(piece)
    return hasher.hexdigest()


def _pieces(read: Callable[[int], bytes]) -> Iterable[bytes]:
    while piece := read(4 << 20):
        yield piece
