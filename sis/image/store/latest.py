"""The newest generation of an image as a commit finds it: what it is, and what of it the store has lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sis.errors import Corrupt, NotFound
from sis.image.documents import codec
from sis.image.model import PackRef, Ref, Version
from sis.image.names import digest_of
from sis.image.store import refs
from sis.image.store.local import LocalStore

_T = TypeVar("_T")


@dataclass(frozen=True)
class Latest:
    """The newest generation.

    id       None before the first commit
    number   of the generation, 0 before the first
    version  None where its record is lost
    packs    what it needs, as far as that is known
    lost     files of the store that it needs and that are missing or damaged; what is in packs is for `verify` to say
    """

    id: str | None = None
    number: int = 0
    version: Version | None = None
    packs: tuple[PackRef, ...] = ()
    lost: tuple[str, ...] = ()


def latest(store: LocalStore, ref: Ref | None, kept_record: Callable[[], bytes]) -> Latest:
    """Find out; its manifest is not looked at. A lost record is put back, if `kept_record` gives what it was.

    The caller is `writing`. Raises Corrupt for what is whole and yet not understood: a newer program wrote it.
    """
    if ref is None or not ref.generations:
        return Latest()
    number = refs.latest(ref)
    version_id = ref.generations[str(number)]
    lost = []
    file = f"versions/{version_id}"
    version = _unless_lost(store, file, lambda: store.version(version_id))
    if version is None:
        lost.append(file)
        record = kept_record()
        if digest_of(record) != version_id:
            return Latest(version_id, number, lost=tuple(lost))
        store.write_record(record)
        version = codec.decode_version(record)
    file = f"tables/{version.table}"
    table = _unless_lost(store, file, lambda: store.table(version.table))
    if table is None:
        return Latest(version_id, number, version, lost=(*lost, file))
    dictionaries = {pack.dictionary for pack in table.packs if pack.dictionary}
    needed = (f"dictionaries/{digest.hex()}" for digest in sorted(dictionaries))
    lost += [file for file in needed if not store.is_whole(file)]
    lost += [f"packs/{pack.digest.hex()}" for pack in table.packs if not _is_there(store, pack)]
    return Latest(version_id, number, version, table.packs, tuple(lost))


def _unless_lost(store: LocalStore, file: str, read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except (Corrupt, NotFound):
        if store.is_whole(file):
            raise
        return None


def _is_there(store: LocalStore, pack: PackRef) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return (store.path / f"packs/{pack.digest.hex()}").stat().st_size == pack.size
    return False
