"""What docs/format.md allows of manifests, chunk tables, versions and refs; the first thing it does not is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn, get_args

from sis.errors import Corrupt, TooNew
from sis.image.model import (
    DIGEST_BYTES,
    FORMAT,
    HOLE,
    RUN,
    RUN_BYTES,
    TABLE_ROW,
    ChunkTable,
    Entry,
    Manifest,
    PolicyVerb,
    Ref,
    Version,
)
from sis.image.names import CHANNEL_NAME, HEX_DIGEST, IMAGE_NAME, NAME_BYTES_MAX, PATH_BYTES_MAX, show_path

CHUNK_BYTES_MAX = 16 << 20
"""The longest chunk a reader accepts; what the writer makes is in `tree.chunk`."""

FILE_BYTES_MAX = (1 << 63) - 1
VERBS = get_args(PolicyVerb)

_ID_MAX = (1 << 32) - 1
_MTIME_MAX = (1 << 63) - 1
_XATTR_NAME_MAX = 255
_XATTR_VALUE_MAX = 65536
_TARGET_MAX = 4095
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


def check_manifest(manifest: Manifest) -> None:
    """Raise Corrupt at the first thing docs/format.md §2 does not allow, naming the path."""
    must_be_our_format(manifest.format, "manifest")
    check_entries(manifest.entries)


def check_entries(entries: Iterable[Entry]) -> None:
    """`check_manifest` of all entries of one, which are asked for one after the other."""
    directories = {b"."}
    groups: dict[int, Entry] = {}
    members: dict[int, int] = {}
    before = b""
    root_seen = False
    for entry in entries:
        path, kind = entry.path, entry.kind
        if path <= before:
            _refuse_order(path, before)
        before = path
        if path == b".":
            root_seen = True
            if kind != 2:
                _refuse(path, "the root is not a directory")
        else:
            parent = check_path(path)
            if (parent or b".") not in directories or parent == b"." or path[0] == 47:
                _refuse(path, "its directory is not in the manifest before it")
            if kind == 2:
                directories.add(path)
        check_entry(entry)
        link = entry.link
        if link:
            first = groups.get(link)
            if first is None:
                if kind == 2:
                    _refuse(path, "a directory with a hard link")
                if link != len(groups) + 1:
                    _refuse(path, f"hard-link group {link} out of turn")
                groups[link] = entry
                members[link] = 1
            else:
                if not same_inode(first, entry):
                    _refuse(path, f"hard link to {show_path(first.path)}, yet not the same in all")
                members[link] += 1
    if not root_seen:
        raise Corrupt("manifest: no root directory")
    for link, count in members.items():
        if count < 2:
            _refuse(groups[link].path, "a hard-link group of one")


def check_path(path: bytes) -> bytes:
    """What is before the last name in the path of an entry other than the root. Raises Corrupt if it is no path."""
    parent, _, name = path.rpartition(b"/")
    if not name or name == b"." or name == b".." or len(name) > NAME_BYTES_MAX or b"\0" in name:
        _refuse(path, "not a path")
    if len(path) > PATH_BYTES_MAX:
        _refuse(path, f"longer than {PATH_BYTES_MAX} bytes")
    return parent


def check_entry(entry: Entry) -> None:
    """Raise Corrupt at what is not allowed of an entry alone, its path and its hard links left out."""
    path, kind = entry.path, entry.kind
    if not 0 <= entry.mode <= 0o7777:
        _refuse(path, f"mode {entry.mode:#o}")
    if not (0 <= entry.uid <= _ID_MAX and 0 <= entry.gid <= _ID_MAX):
        _refuse(path, f"owner {entry.uid}:{entry.gid}")
    if not -_MTIME_MAX <= entry.mtime_ns <= _MTIME_MAX:
        _refuse(path, f"modification time {entry.mtime_ns}")
    if kind == 1:
        if entry.size or entry.chunks:
            _check_runs(entry)
    elif entry.size or entry.chunks:
        _refuse(path, "content in what is not a file")
    if kind == 3:
        target = entry.target
        if not target or len(target) > _TARGET_MAX or b"\0" in target:
            _refuse(path, "not a symlink target")
    elif entry.target:
        _refuse(path, "a target in what is not a symlink")
    if entry.rdev != (0, 0):
        major, minor = entry.rdev
        if kind not in (4, 5):
            _refuse(path, "a device number in what is not a device")
        if not (0 <= major <= 0xFFF and 0 <= minor <= 0xFFFFF):
            _refuse(path, f"device number {major}:{minor}")
    if entry.xattrs:
        _check_xattrs(entry)


def same_inode(one: Entry, other: Entry) -> bool:
    """Whether two entries agree in everything that is the inode's and not the name's."""
    return (
        one.kind == other.kind
        and one.mode == other.mode
        and one.uid == other.uid
        and one.gid == other.gid
        and one.mtime_ns == other.mtime_ns
        and one.size == other.size
        and one.chunks == other.chunks
        and one.target == other.target
        and one.rdev == other.rdev
        and one.xattrs == other.xattrs
    )


def check_table(table: ChunkTable) -> None:
    """Raise Corrupt unless every row lies in one of the packs, and packs are listed once, in order of first use."""
    must_be_our_format(table.format, "chunk table")
    names = set()
    for pack in table.packs:
        if len(pack.digest) != DIGEST_BYTES or len(pack.dictionary) not in (0, DIGEST_BYTES):
            raise Corrupt("chunk table: a pack's name is not a digest")
        if pack.digest in names:
            raise Corrupt(f"chunk table: pack {pack.digest.hex()} is listed twice")
        if not 0 < pack.size <= FILE_BYTES_MAX:
            raise Corrupt(f"chunk table: pack {pack.digest.hex()} of {pack.size} bytes")
        names.add(pack.digest)
    if len(table.rows) % TABLE_ROW.size:
        raise Corrupt("chunk table: half a row")
    sizes = [pack.size for pack in table.packs]
    used = 0
    for number, offset, stored, size in table.each_row():
        if number >= used:
            if number != used or number >= len(sizes):
                raise Corrupt(f"chunk table: pack number {number} out of turn")
            used += 1
        if not 0 < stored <= size <= CHUNK_BYTES_MAX:
            raise Corrupt(f"chunk table: {size} bytes stored in {stored}")
        if offset + stored > sizes[number]:
            raise Corrupt(f"chunk table: a chunk lies behind the end of pack {table.packs[number].digest.hex()}")
    if used != len(sizes):
        raise Corrupt("chunk table: a pack nothing lies in")


def check_version(version: Version) -> None:
    must_be_our_format(version.format, "version")
    _must_match(IMAGE_NAME, version.image, "version: image name")
    if not 1 <= version.generation <= 1 << 53:
        raise Corrupt(f"version: generation {version.generation}")
    for name, value in (("manifest", version.manifest), ("table", version.table), ("parent", version.parent)):
        if value is not None or name != "parent":
            _must_match(HEX_DIGEST, value or "", f"version: {name}")
    _must_match(_TIME, version.created, "version: time of creation")
    if min(version.entries, version.content_bytes, version.stored_bytes) < 0:
        raise Corrupt("version: a negative size")
    for pattern, verb in version.policy:
        if not pattern or verb not in VERBS:
            raise Corrupt(f"version: policy {pattern!r}: {verb!r}")


def check_ref(ref: Ref) -> None:
    must_be_our_format(ref.format, "ref")
    _must_match(IMAGE_NAME, ref.image, "ref: image name")
    if not 1 <= ref.sequence <= 1 << 53:
        raise Corrupt(f"ref: sequence number {ref.sequence}")
    _must_match(_TIME, ref.updated, "ref: time of update")
    if ref.expires is not None:
        _must_match(_TIME, ref.expires, "ref: time of expiry")
    for generation, version_id in ref.generations.items():
        if not generation.isascii() or not generation.isdigit() or str(int(generation)) != generation:
            raise Corrupt(f"ref: generation {generation!r}")
        _must_match(HEX_DIGEST, version_id, f"ref: generation {generation}")
    known = set(ref.generations.values())
    for channel, version_id in ref.channels.items():
        _must_match(CHANNEL_NAME, channel, "ref: channel name")
        if version_id not in known:
            raise Corrupt(f"ref: channel {channel} names a version that is none of its generations")
    for channel, ids in ref.history.items():
        _must_match(CHANNEL_NAME, channel, "ref: channel name")
        if not known.issuperset(ids):
            raise Corrupt(f"ref: the history of {channel} names a version that is none of its generations")


def _check_runs(entry: Entry) -> None:
    chunks = entry.chunks
    if len(chunks) % RUN_BYTES:
        _refuse(entry.path, "half a chunk")
    total = 0
    hole_before = False
    for digest, size in RUN.iter_unpack(chunks):
        if digest == HOLE:
            if hole_before or size == 0:
                _refuse(entry.path, "a hole that is not one run")
            hole_before = True
        else:
            if not 0 < size <= CHUNK_BYTES_MAX:
                _refuse(entry.path, f"a chunk of {size} bytes")
            hole_before = False
        total += size
    if total != entry.size or total > FILE_BYTES_MAX:
        _refuse(entry.path, f"{entry.size} bytes, but its chunks hold {total}")


def _check_xattrs(entry: Entry) -> None:
    before = b""
    for name, value in entry.xattrs:
        if name <= before:
            _refuse(entry.path, "xattrs out of order")
        if len(name) > _XATTR_NAME_MAX or b"\0" in name or b"." not in name:
            _refuse(entry.path, f"xattr name {name!r}")
        if len(value) > _XATTR_VALUE_MAX:
            _refuse(entry.path, f"an xattr of {len(value)} bytes")
        before = name


def must_be_our_format(number: int, what: str) -> None:
    refuse_newer(number, what)
    if number != FORMAT:
        raise Corrupt(f"{what} has format {number}; this program reads format {FORMAT}")


def refuse_newer(number: object, what: str) -> None:
    if isinstance(number, int) and number > FORMAT:
        raise TooNew(f"{what} has format {number}; this program reads format {FORMAT}")


def _must_match(pattern: re.Pattern[str], value: str, what: str) -> None:
    if not pattern.fullmatch(value):
        raise Corrupt(f"{what} is {value[:80]!r}")


def _refuse_order(path: bytes, before: bytes) -> NoReturn:
    if path == before:
        _refuse(path, "is there twice" if path else "an empty path")
    _refuse(path, f"out of order, after {show_path(before)}")


def _refuse(path: bytes, fault: str) -> NoReturn:
    raise Corrupt(f"manifest: {show_path(path[:PATH_BYTES_MAX])}: {fault}")
