"""What the last commit of an image saw, kept in the store: its files are not read again, and its record is known."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import msgspec

from sis.errors import Corrupt, NotFound
from sis.image.documents import codec
from sis.image.model import FORMAT, Version
from sis.image.store.local import LocalStore
from sis.image.tree.found import IDENTITY, ScanCache


@dataclass(frozen=True)
class Seen:
    """The tree as it was. `manifest` is the digest of the manifest that it was read from, which is whole."""

    manifest: str
    cache: ScanCache


class _File(msgspec.Struct, frozen=True, array_like=True):
    manifest: str
    identities: bytes
    format: int = FORMAT
    record: bytes = b""


def read(store: LocalStore, image: str) -> Seen | None:
    """What was seen, if the store still has that manifest, whole."""
    kept = _kept(store, image)
    if kept is not None:
        with contextlib.suppress(Corrupt, NotFound):
            entries = store.manifest(kept.manifest).entries
            if len(kept.identities) == len(entries) * IDENTITY.size:
                return Seen(kept.manifest, ScanCache(entries, kept.identities))
    return None


def record_of(store: LocalStore, image: str) -> bytes:
    """The bytes of the version that the last commit made or found; b"" where these were not kept."""
    kept = _kept(store, image)
    return b"" if kept is None else kept.record


def write(store: LocalStore, version: Version, identities: bytes) -> None:
    kept = _File(version.manifest, identities, record=codec.encode_version(version))
    store.cache(_name(version.image), msgspec.msgpack.encode(kept))


def lacks_ref(store: LocalStore, version: Version) -> bool:
    """Whether the ref of a version's image is lost. The first version of an image may be what a killed commit left."""
    if version.image in store.images():
        return False
    return version.generation > 1 or _kept(store, version.image) is not None


def _kept(store: LocalStore, image: str) -> _File | None:
    data = store.cached(_name(image))
    if data is not None:
        with contextlib.suppress(msgspec.MsgspecError):
            kept = msgspec.msgpack.decode(data, type=_File)
            return kept if kept.format == FORMAT else None
    return None


def _name(image: str) -> str:
    return f"scan-{image}"
