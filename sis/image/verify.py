"""Every byte of a store against its digest, and every reference followed: what is damaged, and whom it hits."""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from sis.errors import Corrupt, NotFound, Refused, SisError
from sis.image.deltas.delta import NOTHING
from sis.image.deltas.reading import open_delta
from sis.image.documents.tables import Location, chunk_locations
from sis.image.model import Manifest, PackRef, Version
from sis.image.names import show_path
from sis.image.progress import Progress
from sis.image.store.local import LocalStore
from sis.image.store.packs import decode, read_footer
from sis.image.store.reader import immutable_name

PATHS_SHOWN = 20

_PLACE = struct.Struct("<32sQII")
"""Where a chunk lies in its pack: digest, offset, stored bytes, bytes."""


@dataclass(frozen=True)
class Problem:
    """One damaged or missing file of a store. `paths` are at most PATHS_SHOWN of `path_count` files of the versions."""

    file: str
    fault: str
    versions: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    path_count: int = 0


@dataclass(frozen=True)
class Verification:
    problems: tuple[Problem, ...]
    notices: tuple[str, ...]
    """What is not damage: files nothing refers to, and such."""

    versions: int
    packs: int
    chunks: int
    bytes_read: int


@dataclass
class _Generation:
    """What is kept of a version; its manifest and its table are read again where they are asked for."""

    name: str
    version: Version | None = None
    packs: tuple[PackRef, ...] = ()


def verify(store: LocalStore, image: str | None = None, *, progress: Progress | None = None) -> Verification:
    """Check one image's versions, or the whole store. Reads every byte of every pack concerned and writes nothing.

    Raises NotFound for an unknown image.
    """
    run = _Run(store, progress)
    images = [image] if image is not None else store.images()
    for name in images:
        run.image(name)
    run.packs(everything=image is None)
    if image is None:
        run.strangers()
    return Verification(
        tuple(run.problems), tuple(run.notices), len(run.generations), run.pack_count, run.chunk_count, run.bytes_read
    )


class _Run:
    def __init__(self, store: LocalStore, progress: Progress | None) -> None:
        self.store = store
        self.problems: list[Problem] = []
        self.notices: list[str] = []
        self.generations: list[_Generation] = []
        self.pack_count = 0
        self.chunk_count = 0
        self.bytes_read = 0
        self._progress = progress
        self._reached: set[str] = set()
        self._places: dict[str, bytes] = {}
        """By pack, where the tables say that its chunks lie: each _PLACE once."""
        self._key = store.signer().public if store.key.exists() else None

    def image(self, name: str) -> None:
        """Follow a ref to all its versions, manifests and tables."""
        try:
            opened = self.store.opened(name, key=self._key)
        except NotFound:
            raise
        except (Corrupt, Refused) as error:
            self.problems.append(Problem(f"refs/{name}", error.message, (name,)))
            return
        if opened.trust != "pinned":
            self.notices.append(f"refs/{name} is {opened.trust}: there is no key here to check it with")
        for number, version_id in sorted(opened.ref.generations.items(), key=lambda item: int(item[0])):
            generation = _Generation(f"{name}@{number}")
            self.generations.append(generation)
            self._follow(generation, name, int(number), version_id)

    def _follow(self, generation: _Generation, image: str, number: int, version_id: str) -> None:
        file = f"versions/{version_id}"
        try:
            generation.version = version = self.store.version(version_id)
            self._reached.add(file)
            if (version.image, version.generation) != (image, number):
                raise Corrupt(f"it is {version.image}@{version.generation}")
            file = f"manifests/{version.manifest}"
            manifest = self.store.manifest(version.manifest)
            self._reached.add(file)
            file = f"tables/{version.table}"
            table = self.store.table(version.table)
            generation.packs = table.packs
            self._place(table.packs, chunk_locations(manifest, table))
            self._reached.add(file)
            for digest in {pack.dictionary for pack in table.packs if pack.dictionary}:
                file = f"dictionaries/{digest.hex()}"
                self.store.dictionary(digest)
                self._reached.add(file)
        except (Corrupt, NotFound) as error:
            self.problems.append(Problem(file, error.message, (generation.name,)))

    def _place(self, packs: tuple[PackRef, ...], locations: Mapping[bytes, Location]) -> None:
        """Keep where chunks lie, packed: a store of many versions has most of them in common."""
        found: defaultdict[int, bytearray] = defaultdict(bytearray)
        for digest, location in locations.items():
            found[location.pack] += _PLACE.pack(digest, location.offset, location.stored, location.size)
        for number, rows in found.items():
            name = packs[number].digest.hex()
            known = self._places.get(name, b"")
            self._places[name] = b"".join({*_rows(known), *_rows(rows)}) if known else bytes(rows)

    def packs(self, *, everything: bool) -> None:
        """Read every pack: its name, its footer, its chunks, and that they lie where the tables say."""
        wanted: dict[str, tuple[int, bytes]] = {}
        for generation in self.generations:
            for pack in generation.packs:
                wanted[pack.digest.hex()] = (pack.size, pack.dictionary)
        there = set(self.store.names("packs"))
        self._reached.update(f"packs/{name}" for name in wanted)
        missing = wanted.keys() - there
        names = sorted(there if everything else wanted.keys() & there)
        self.pack_count = len(names)
        damaged: dict[str, tuple[list[str], set[bytes]]] = {}
        total = sum(os.stat(self.store.path / "packs" / name).st_size for name in names)
        with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
            checks = pool.map(lambda name: _check_pack(self.store, name, wanted.get(name), self._located(name)), names)
            for name, (faults, lost, chunks, read) in zip(names, checks, strict=True):
                self.chunk_count += chunks
                self.bytes_read += read
                if faults:
                    damaged[name] = (faults, lost)
                if self._progress is not None:
                    self._progress("verifying", self.bytes_read, total)
        for name in missing:
            damaged[name] = (["it is missing from the store"], set(self._located(name)))
        self._tell(damaged)

    def _located(self, name: str) -> dict[bytes, Location]:
        rows = _PLACE.iter_unpack(self._places.get(name, b""))
        return {digest: Location(0, offset, stored, size, digest) for digest, offset, stored, size in rows}

    def _tell(self, damaged: dict[str, tuple[list[str], set[bytes]]]) -> None:
        for name, (faults, lost) in sorted(damaged.items()):
            versions, paths = [], {}
            for generation in self.generations:
                if generation.version is None or name not in {pack.digest.hex() for pack in generation.packs}:
                    continue
                versions.append(generation.name)
                for entry in self.store.manifest(generation.version.manifest).entries:
                    if entry.chunks and any(run.digest in lost for run in entry.each_chunk()):
                        paths[show_path(entry.path)] = True
            self.problems.append(
                Problem(f"packs/{name}", "; ".join(faults[:5]), tuple(versions), tuple(paths)[:PATHS_SHOWN], len(paths))
            )

    def strangers(self) -> None:
        """What lies in the store and no version refers to: checked against its name all the same."""
        for folder in ("versions", "manifests", "tables", "dictionaries", "deltas"):
            for name in sorted(self.store.names(folder)):
                file = f"{folder}/{name}"
                if file not in self._reached and not any(problem.file == file for problem in self.problems):
                    self._stranger(folder, name)
        unused = [name for name in self.store.names("packs") if f"packs/{name}" not in self._reached]
        if unused:
            self.notices.append(f"{len(unused)} packs are used by no version: 'sis image prune' removes them")

    def _delta(self, name: str) -> None:
        """A delta against its own digests; what nodes make with it they prove by the manifest's."""
        before, _, after = name.partition("-")
        try:
            opened = open_delta(self.store, before, after)
            assert opened is not None
            opened.bound(self._manifest(before), self._manifest(after))
            header = opened.header
            hasher = blake3()
            for piece in self.store.read(opened.name, header.items_offset, header.items_bytes):
                hasher.update(piece)
            self.bytes_read += header.size
            if hasher.digest() != header.items_digest:
                raise Corrupt("its items do not match their digest")
        except NotFound:
            self.notices.append(f"deltas/{name} leads between versions that are gone: 'sis image prune' removes it")
        except Corrupt as error:
            self.problems.append(Problem(f"deltas/{name}", error.message))

    def _manifest(self, version_id: str) -> Manifest:
        """What a version is, or nothing."""
        return Manifest(()) if version_id == NOTHING else self.store.manifest(self.store.version(version_id).manifest)

    def _stranger(self, folder: str, name: str) -> None:
        try:
            immutable_name(f"{folder}/{name}")
        except SisError:
            self.problems.append(Problem(f"{folder}/{name}", "not a file of a store"))
            return
        if folder == "deltas":
            self._delta(name)
            return
        try:
            _read_stranger(self.store, folder, name)
        except (Corrupt, NotFound) as error:
            self.problems.append(Problem(f"{folder}/{name}", error.message))
        else:
            self.notices.append(f"{folder}/{name} is used by no version: 'sis image prune' removes it")


def _read_stranger(store: LocalStore, folder: str, name: str) -> None:
    if folder == "versions":
        store.version(name)
    elif folder == "manifests":
        store.manifest(name)
    elif folder == "tables":
        store.table(name)
    else:
        store.dictionary(bytes.fromhex(name))


def _check_pack(
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
    """The chunks, of those the tables and the footer say are in a pack, that are not there whole."""
    everything = dict(located)
    dictionary = b""
    try:
        footer = read_footer(path)
        for row in footer.rows:
            everything.setdefault(row.digest, Location(0, row.offset, row.stored, row.size, row.digest))
        if footer.dictionary:
            dictionary = store.dictionary(footer.dictionary)
    except Corrupt as error:
        faults.append(error.message)
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


def _rows(places: bytes | bytearray) -> Iterator[bytes]:
    return (bytes(places[at : at + _PLACE.size]) for at in range(0, len(places), _PLACE.size))


def _digest_of_file(path: Path) -> str:
    hasher = blake3()
    with path.open("rb", buffering=0) as file:
        for piece in _pieces(file.read):
            hasher.update(piece)
    return hasher.hexdigest()


def _pieces(read: Callable[[int], bytes]) -> Iterable[bytes]:
    while piece := read(4 << 20):
        yield piece
