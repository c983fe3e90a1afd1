"""The store in a local directory: written by one at a time, read by anyone at any time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from sis.errors import Corrupt, NotFound
from sis.image.documents import codec, manifest_out
from sis.image.documents.manifest_out import Named
from sis.image.documents.stored import DOCUMENT_BYTES_MAX, compress, document_of
from sis.image.model import ChunkTable, Manifest, PackRef, Ref, Version
from sis.image.names import IMAGE_NAME, digest_of
from sis.image.store import sign
from sis.image.store.packs import PackWriter
from sis.image.store.reader import FOLDERS, PIECE_BYTES, REF_BYTES_MAX, Beginning, DocumentStore, immutable_name
from sis.image.store.sign import Signer
from sis.system import locks
from sis.system.files import atomic_write, fsync_dir, is_temporary, make_dirs, read_at_most


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

    def is_whole(self, name: str) -> bool:
        """Whether a version, manifest, table or dictionary is there, and is what its name says."""
        folder, _, digest = name.partition("/")
        with contextlib.suppress(Corrupt):
            data = self.whole(immutable_name(name), DOCUMENT_BYTES_MAX)
            if data is not None and folder in ("manifests", "tables"):
                document_of(data, name, digest)
                return True
            return data is not None and digest_of(data) == digest
        return False

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
        return self.write_record(codec.encode_version(version))

    def write_record(self, data: bytes) -> str:
        """Store the canonical bytes of a version."""
        name = digest_of(data)
        self._write(f"versions/{name}", data)
        return name

    def write_manifest(self, manifest: Manifest, named: Named) -> None:
        """Store a manifest under the digest it was found to have."""
        name = f"manifests/{named.digest}"
        if not self.is_whole(name):
            manifest_out.write(self.path / immutable_name(name), manifest, named.size_bytes)

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
        if not self.is_whole(name):
            atomic_write(self.path / immutable_name(name), data)
