"""What may be asked of any store, and the part of it that is the same wherever its files lie."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from sis.errors import Corrupt, NotFound, SisError
from sis.image.documents import codec
from sis.image.documents.stored import DOCUMENT_BYTES_MAX, document_of
from sis.image.model import ChunkTable, Manifest, Ref, Version
from sis.image.names import IMAGE_NAME, digest_of
from sis.image.store.sign import DAMAGE_HINT, Opened, unseal

FOLDERS = ("refs", "versions", "manifests", "tables", "packs", "dictionaries", "deltas")

REF_BYTES_MAX = 4 << 20
VERSION_BYTES_MAX = 64 << 20
DICTIONARY_BYTES_MAX = 1 << 20
PIECE_BYTES = 1 << 20

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
        return unseal(data, image=image, key=key, seen_sequence=seen_sequence)

    def ref(self, image: str, *, key: str | None = None, seen_sequence: int = 0) -> Ref:
        return self.opened(image, key=key, seen_sequence=seen_sequence).ref

    def version(self, version_id: str) -> Version:
        name = immutable_name(f"versions/{version_id}")
        data = self.whole(name, VERSION_BYTES_MAX)
        if data is None:
            raise NotFound(f"no such version in the store: {version_id[:12]}", hint=DAMAGE_HINT)
        if digest_of(data) != version_id:
            raise Corrupt(f"{name} is damaged: it does not match its name", hint=DAMAGE_HINT)
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
            raise Corrupt(f"{name} is missing from the store", hint=DAMAGE_HINT)
        if digest_of(data) != digest.hex():
            raise Corrupt(f"{name} is damaged: it does not match its name", hint=DAMAGE_HINT)
        return data

    def _document(self, name: str, digest: str) -> tuple[bytes, bytes]:
        """A manifest or table as it is stored, and the canonical bytes that are in it."""
        stored = self.whole(immutable_name(name), DOCUMENT_BYTES_MAX)
        if stored is None:
            raise Corrupt(f"{name} is missing from the store", hint=DAMAGE_HINT)
        try:
            return stored, document_of(stored, name, digest)
        except Corrupt as error:
            raise Corrupt(error.message, hint=DAMAGE_HINT) from error

    def _no_image(self, image: str) -> NotFound:
        return NotFound(f"no such image: {image}")


def immutable_name(name: str) -> str:
    """`name`, if it is one of an immutable file of a store. Raises SisError otherwise."""
    if not _IMMUTABLE.fullmatch(name):
        raise SisError(f"not the name of a file of a store: {name[:100]!r}")
    return name
