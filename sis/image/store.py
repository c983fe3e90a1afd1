"""Stores: where versions lie. What a reader may ask of any store, and the store in a local directory."""

from __future__ import annotations

import contextlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from sis.errors import Corrupt, NotFound, SisError
from sis.image import sign
from sis.image.documents import codec, manifest_out
from sis.image.documents.manifest_out import Named
from sis.image.documents.stored import DOCUMENT_BYTES_MAX, compress, document_of
from sis.image.model import ChunkTable, Manifest, PackRef, Ref, Version
from sis.image.names import IMAGE_NAME, digest_of
from sis.image.packs import DICTIONARY_BYTES_MAX, PackWriter
from sis.image.sign import Opened, Signer
from sis.system import locks
from sis.system.files import atomic_write, fsync_dir, is_temporary, make_dirs, read_at_most

REF_BYTES_MAX = 4 << 20
VERSION_BYTES_MAX = 64 << 20
PIECE_BYTES = 1 << 20

FOLDERS = ("refs", "versions", "manifests", "tables", "packs", "dictionaries", "deltas")

_IMMUTABLE = re.compile(
    r"(?:versions|manifests|tables|packs|dictionaries)/[0-9a-f]{64}|deltas/[0-9a-f]{64}-[0-9a-f]{64}"
)


class Store(Protocol):
    """What a reader asks of a store. Everything returned has been checked against the name it was asked by."""

    def opened(self, image: str, *, key: str | None = None, seen_sequence: int = 0) -> Opened: ...
    def ref(self, image: str, *, key: str | None = None, seen_sequence: int = 0) -> Ref: ...
    def version(self, version_id: str) -> Version: ...
    def manifest(self, digest: str) -> Manifest: ...
    def table(self, digest: str) -> ChunkTable: ...
    def dictionary(self, digest: bytes) -> bytes: ...
    def begin(self, name: str, limit: int) -> Beginning | None: ...
    def read(self, name: str, offset: int, length: int) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class Beginning(NamedTuple):
    """The first bytes of a file, and how long all of it is."""

    data: bytes
    size_bytes: int


class Tagged(NamedTuple):
    """A file as it is now with its entity tag; `data` None: it is the one the caller has."""

    data: bytes | None
    tag: str | None


class DocumentStore(ABC):
    """The part of a store that is the same wherever its files lie: fetch a named file whole, check it, decode it."""

    @abstractmethod
    def whole(self, name: str, limit: int) -> bytes | None:
        """The file `name` ("manifests/<hex>"), at most `limit` bytes; None if there is none. Raises Unreachable."""

    def whole_unless(self, name: str, limit: int, tag: str | None) -> Tagged | None:  # noqa: ARG002
        """Like `whole` for a file that may change, unless it still is the one that had the entity tag `tag`.

        None if there is none. A store that knows no tags gives it every time.
        """
        data = self.whole(name, limit)
        return None if data is None else Tagged(data, None)

    @abstractmethod
    def begin(self, name: str, limit: int) -> Beginning | None:
        """At most the first `limit` bytes of an immutable file, and its length; None if there is none."""

    @abstractmethod
    def read(self, name: str, offset: int, length: int) -> Iterator[bytes]:
        """A range of an immutable file, in pieces. Raises Corrupt if the file is missing or ends before the range."""

    def close(self) -> None:  # noqa: B027 - most stores hold nothing open
        """Let go of connections."""

    def opened(self, image: str, *, key: str | None = None, seen_sequence: int = 0) -> Opened:
        """An image's ref and how far it can be trusted; see `sign.unseal`. Raises NotFound for an unknown image."""
        data = self.whole(f"refs/{image}", REF_BYTES_MAX) if IMAGE_NAME.fullmatch(image) else None
        if data is None:
            raise self._no_image(image)
        return sign.unseal(data, image=image, key=key, seen_sequence=seen_sequence)

    def ref(self, image: str, *, key: str | None = None, seen_sequence: int = 0) -> Ref:
        return self.opened(image, key=key, seen_sequence=seen_sequence).ref

    def version(self, version_id: str) -> Version:
        name = immutable_name(f"versions/{version_id}")
        data = self.whole(name, VERSION_BYTES_MAX)
        if data is None:
            raise NotFound(f"no such version in the store: {version_id[:12]}")
        if digest_of(data) != version_id:
            raise Corrupt(f"{name} is damaged: it does not match its name")
        return codec.decode_version(data)

    def manifest(self, digest: str) -> Manifest:
        return codec.decode_manifest(self.manifest_bytes(digest))

    def manifest_bytes(self, digest: str) -> bytes:
        """The bytes of a manifest; that it is well-formed is for who decodes them to see to."""
        return self._document(f"manifests/{digest}", digest)[1]

    def table(self, digest: str) -> ChunkTable:
        return codec.decode_table(self._document(f"tables/{digest}", digest)[1])

    def dictionary(self, digest: bytes) -> bytes:
        """The zstd dictionary some packs were made with."""
        name = f"dictionaries/{digest.hex()}"
        data = self.whole(name, DICTIONARY_BYTES_MAX)
        if data is None:
            raise Corrupt(f"{name} is missing from the store")
        if digest_of(data) != digest.hex():
            raise Corrupt(f"{name} is damaged: it does not match its name")
        return data

    def _document(self, name: str, digest: str) -> tuple[bytes, bytes]:
        """A manifest or table as it is stored, and the canonical bytes that are in it."""
        stored = self.whole(immutable_name(name), DOCUMENT_BYTES_MAX)
        if stored is None:
            raise Corrupt(f"{name} is missing from the store")
        return stored, document_of(stored, name, digest)

    def _no_image(self, image: str) -> NotFound:
        return NotFound(f"no such image: {image}")


class LocalStore(DocumentStore):
    """A store in a directory. Reading needs no lock: what has a digest for a name never changes.

    Refs are signed with `key`, by default `keys/image.key` beside the store (STATE/store, STATE/keys).
    """

    def __init__(self, path: Path, *, key: Path | None = None) -> None:
        self.path = path
        self.key = key if key is not None else path.parent / "keys" / "image.key"
        self._work = path / ".work"

    # --- reading

    def images(self) -> list[str]:
        """The names of all images, sorted."""
        return sorted(name for name in self.names("refs") if IMAGE_NAME.fullmatch(name))

    def names(self, folder: str) -> list[str]:
        """The files of one of FOLDERS, unsorted; half-written ones left out."""
        try:
            return [name for name in os.listdir(self.path / folder) if not is_temporary(name)]
        except FileNotFoundError:
            return []

    def whole(self, name: str, limit: int) -> bytes | None:
        try:
            data = read_at_most(self.path / name, limit)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Corrupt(f"{self.path / name} cannot be read: {error.strerror}") from error
        if data is None:
            raise Corrupt(f"{self.path / name} is longer than {limit} bytes")
        return data

    def begin(self, name: str, limit: int) -> Beginning | None:
        try:
            with open(self.path / immutable_name(name), "rb") as file:
                return Beginning(file.read(limit), os.fstat(file.fileno()).st_size)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Corrupt(f"{name} cannot be read: {error.strerror}") from error

    def read(self, name: str, offset: int, length: int) -> Iterator[bytes]:
        path = self.path / immutable_name(name)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Corrupt(f"{name} is missing from the store") from error
        try:
            while length:
                piece = os.pread(handle, min(length, PIECE_BYTES), offset)
                if not piece:
                    raise Corrupt(f"{name} is cut off at {offset} bytes")
                yield piece
                offset += len(piece)
                length -= len(piece)
        except OSError as error:
            raise Corrupt(f"{name} cannot be read at {offset} bytes: {error.strerror}") from error
        finally:
            os.close(handle)

    def _no_image(self, image: str) -> NotFound:
        return NotFound.of("image", image, self.images())

    # --- writing

    def prepare(self) -> None:
        """Make the directories of a store that is about to be written."""
        for folder in FOLDERS:
            make_dirs(self.path / folder)
        make_dirs(self._work, mode=0o700)
        make_dirs(self._work / "tmp", mode=0o700)

    @contextlib.contextmanager
    def writing(self, purpose: str, *, wait_s: float = 0.0) -> Iterator[None]:
        """Be the only one who adds or removes versions. What a killed writer left half-written is removed first."""
        self.prepare()
        with locks.hold(self._work / "store.lock", purpose, wait_s=wait_s):
            for leftover in (self._work / "tmp").iterdir():
                leftover.unlink()
            for folder in (".work", *FOLDERS):
                if folder != "refs":
                    self._remove_half_written(folder)
            yield

    @contextlib.contextmanager
    def making_deltas(self, *, wait_s: float = 0.0) -> Iterator[Path]:
        """Be the only one who makes deltas; gives a folder, empty, to make them in. Commits may go on meanwhile."""
        self.prepare()
        folder = self._work / "deltas"
        make_dirs(folder, mode=0o700)
        with locks.hold(self._work / "deltas.lock", "making deltas", wait_s=wait_s):
            for leftover in folder.iterdir():
                leftover.unlink()
            yield folder

    @contextlib.contextmanager
    def changing_ref(self, image: str, *, wait_s: float = 10.0) -> Iterator[Ref | None]:
        """Hold the refs still; gives the image's ref as it is now, or None."""
        self.prepare()
        with locks.hold(self._work / "refs.lock", f"change of the ref of {image}", wait_s=wait_s):
            self._remove_half_written("refs")
            data = self.whole(f"refs/{image}", REF_BYTES_MAX)
            yield None if data is None else sign.unseal(data, image=image, key=self._pinned()).ref

    def signer(self) -> Signer:
        """The key that signs this store's refs; made on first use."""
        return sign.load_or_make(self.key)

    def write_ref(self, ref: Ref) -> None:
        """Make a ref the current one. The caller holds `changing_ref`."""
        atomic_write(self.path / "refs" / ref.image, sign.seal(ref, self.signer()))

    def write_version(self, version: Version) -> str:
        data = codec.encode_version(version)
        name = digest_of(data)
        self._write(f"versions/{name}", data)
        return name

    def write_manifest(self, manifest: Manifest, named: Named) -> None:
        """Store a manifest under the digest it was found to have."""
        path = self.path / immutable_name(f"manifests/{named.digest}")
        if not path.exists():
            manifest_out.write(path, manifest, named.size_bytes)

    def write_table(self, table: ChunkTable) -> str:
        data = codec.encode_table(table)
        name = digest_of(data)
        self._write(f"tables/{name}", compress(data))
        return name

    def write_dictionary(self, data: bytes) -> bytes:
        """Store a zstd dictionary; returns its digest."""
        name = digest_of(data)
        self._write(f"dictionaries/{name}", data)
        return bytes.fromhex(name)

    def new_pack(self, number: int, dictionary: bytes = b"") -> PackWriter:
        """A pack to fill; `place_pack` gives it its name. `dictionary` is the digest of the one its frames need."""
        return PackWriter(self._work / "tmp" / f"{os.getpid()}-{number}.pack", dictionary)

    def place_pack(self, writer: PackWriter) -> PackRef:
        done = writer.finish()
        writer.path.rename(self.path / "packs" / done.digest.hex())
        fsync_dir(self.path / "packs")
        return done

    def remove(self, name: str) -> int:
        """Remove an immutable file; returns the bytes freed."""
        path = self.path / immutable_name(name)
        size = path.stat().st_size
        path.unlink()
        return size

    def cached(self, name: str) -> bytes | None:
        """What `cache` kept under a name; never needed, only faster."""
        return self.whole(f".work/{name}.cache", DOCUMENT_BYTES_MAX)

    def cache(self, name: str, data: bytes) -> None:
        atomic_write(self._work / f"{name}.cache", data, mode=0o600)

    def _remove_half_written(self, folder: str) -> None:
        for name in os.listdir(self.path / folder):
            if is_temporary(name):
                (self.path / folder / name).unlink()

    def _pinned(self) -> str | None:
        return self.signer().public if self.key.exists() else None

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / immutable_name(name)
        if not path.exists():
            atomic_write(path, data)


def immutable_name(name: str) -> str:
    """`name`, if it is one of an immutable file of a store. Raises SisError otherwise."""
    if not _IMMUTABLE.fullmatch(name):
        raise SisError(f"not the name of a file of a store: {name[:100]!r}")
    return name


def open_store(where: str, *, attempts: int | None = None, ticket: str = "") -> DocumentStore:
    """A store to read: a head's URL, the URL of a plain copy of a store, or a directory (a store or a state).

    `attempts` is how often in a row a server may fail to answer before it is given up; the waits between grow to 10 s.
    `ticket` says to a head who asks.
    """
    if where.startswith(("http://", "https://")):
        from sis.image.patience import Limits
        from sis.image.remote import HttpStore

        return HttpStore(where, limits=Limits(attempts=attempts) if attempts is not None else None, ticket=ticket)
    path = Path(where)
    for candidate in (path, path / "store"):
        if (candidate / "refs").is_dir():
            return LocalStore(candidate)
    raise NotFound(f"no store at {where}", hint="a directory with refs/, versions/ and packs/ in it, or a URL")
