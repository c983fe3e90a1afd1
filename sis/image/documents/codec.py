"""Values ⇄ canonical bytes, strictly: what decodes is well-formed, and equal values have equal bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec.structs import force_setattr

from sis.errors import Corrupt
from sis.image.documents.wellformed import check_manifest, check_ref, check_table, check_version, refuse_newer
from sis.image.model import ChunkTable, Entry, Manifest, Ref, Version

_manifest_decoder = msgspec.msgpack.Decoder(Manifest)
_table_decoder = msgspec.msgpack.Decoder(ChunkTable)
_encoder = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder(order="sorted")
_T = TypeVar("_T")

_MANY_ENTRIES = 1 << 16
"""From which on it is worth the time that memory is saved."""


def encode_manifest(manifest: Manifest, *, checked: bool = False) -> bytes:
    """The canonical bytes. Raises Corrupt if the manifest is not well-formed, unless it was `checked` before."""
    if not checked:
        check_manifest(manifest)
    return _encoder.encode(manifest)


def decode_manifest(data: bytes, *, checked: bool = False) -> Manifest:
    """The manifest of canonical bytes. Raises Corrupt for anything that is not exactly that.

    `checked`: bytes with this digest were decoded before and found to be well-formed.
    """
    manifest = _decode(_manifest_decoder, data, "manifest")
    if not checked:
        check_manifest(manifest)
        _must_be_canonical(_encoder.encode(manifest), data, "manifest")
    if len(manifest.entries) >= _MANY_ENTRIES:
        _share_values(manifest.entries)
    return manifest


def _share_values(entries: Iterable[Entry]) -> None:
    """Let decoded entries have equal values in common: 100 bytes less for each."""
    none = (0, 0)
    modes: dict[int, int] = {}
    for entry in entries:
        # Frozen for whoever reads them; an equal value in place of another is nothing a reader can see.
        force_setattr(entry, "mode", modes.setdefault(entry.mode, entry.mode))
        if entry.rdev == none:
            force_setattr(entry, "rdev", none)


def array_header(count: int) -> bytes:
    """How the canonical bytes of an array begin."""
    if count < 16:
        return bytes([0x90 | count])
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def encode_table(table: ChunkTable, *, checked: bool = False) -> bytes:
    """The canonical bytes; as for `encode_manifest`."""
    if not checked:
        check_table(table)
    return _encoder.encode(table)


def decode_table(data: bytes, *, checked: bool = False) -> ChunkTable:
    """The chunk table of canonical bytes; that it fits its manifest is for `tables.chunk_locations` to say.

    `checked` as for `decode_manifest`.
    """
    table = _decode(_table_decoder, data, "chunk table")
    if not checked:
        check_table(table)
        _must_be_canonical(_encoder.encode(table), data, "chunk table")
    return table


def encode_version(version: Version) -> bytes:
    check_version(version)
    return _json.encode(version)


def decode_version(data: bytes) -> Version:
    """A version record. Fields this program does not know are kept out of the value but not refused."""
    version = _decode_json(data, Version, "version")
    check_version(version)
    return version


def encode_ref(ref: Ref) -> bytes:
    check_ref(ref)
    return _json.encode(ref)


def decode_ref(data: bytes) -> Ref:
    ref = _decode_json(data, Ref, "ref")
    check_ref(ref)
    return ref


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes, what: str) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
        refuse_newer(_peek_format(data), what)
        raise Corrupt(f"{what} is malformed: {error}") from error


def _decode_json(data: bytes, kind: type[_T], what: str) -> _T:
    try:
        value = msgspec.json.decode(data, type=kind)
        plain = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
        refuse_newer(_peek_json_format(data), what)
        raise Corrupt(f"{what} is malformed: {error}") from error
    _must_be_canonical(_json.encode(plain), data, what)
    return value


def _must_be_canonical(encoded: bytes, data: bytes, what: str) -> None:
    if encoded != data:
        raise Corrupt(f"{what} is not in its canonical form")


def _peek_format(data: bytes) -> object:
    """The format number of bytes that are not ours, when they at least have our outermost shape: last of an array."""
    try:
        raw: Any = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, RecursionError, OverflowError, ValueError):
        return None
    return raw[-1] if isinstance(raw, list) and raw else None


def _peek_json_format(data: bytes) -> object:
    try:
        raw: Any = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError):
        return None
    return raw.get("format") if isinstance(raw, dict) else None
