"""What a node is held to: an image's manifest with the node's own layer laid over it, one tree."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from blake3 import blake3

from sis.errors import SisError
from sis.image.model import ANY_MTIME, Chunk, Entry, Kind, Manifest, pack_chunks
from sis.image.names import digest_of, show_path
from sis.sync.model import LayerFile
from sis.system.files import Xattrs

_LINKS_FOLLOWED_MAX = 40
_KINDS = {"file": Kind.FILE, "dir": Kind.DIR, "symlink": Kind.SYMLINK}


_FORMAT = b"sis tree 1\n"
"""In a tree's name; to be changed with what `lay_over` makes of the same manifest and layer."""


class Overlaid(msgspec.Struct, array_like=True, frozen=True):
    """Where a layer touches the manifest it is laid over: a change of the manifest there moves more than that path.

    asked        every path that was asked for to find the layer's places
    covers       places of what is not a directory, or is absent
    directories  places of directories
    """

    asked: tuple[bytes, ...] = ()
    covers: tuple[bytes, ...] = ()
    directories: tuple[bytes, ...] = ()


class Laid(NamedTuple):
    """What is in a desired tree."""

    entries: Mapping[bytes, Entry]
    blobs: Mapping[bytes, bytes]
    origins: Mapping[bytes, str]
    overlaid: Overlaid


@dataclass(frozen=True)
class DesiredTree:
    """A whole tree to be equal to; what is in it is put together when it is first asked for.

    digest  the tree's name: of manifest and layer, so that it is known before either is read
    layer   what is laid over the manifest
    """

    digest: bytes
    make: Callable[[], Laid] = field(repr=False)
    layer: tuple[LayerFile, ...] = field(default=(), repr=False)

    def digest_over(self, manifest: str) -> bytes:
        """The name of the tree that another manifest makes with the same layer."""
        return _digest_of(manifest, self.layer)

    @cached_property
    def _laid(self) -> Laid:
        return self.make()

    @property
    def entries(self) -> Mapping[bytes, Entry]:
        """By path, ascending; every parent of an entry is in it."""
        return self._laid.entries

    @property
    def blobs(self) -> Mapping[bytes, bytes]:
        """Content that is at hand (the layer's), by chunk digest."""
        return self._laid.blobs

    @property
    def origins(self) -> Mapping[bytes, str]:
        """By path, which renderer or site file made an entry of the layer."""
        return self._laid.origins

    @property
    def overlaid(self) -> Overlaid:
        return self._laid.overlaid


def lay_over(manifest: Manifest, layer: Sequence[LayerFile] = ()) -> DesiredTree:
    """The manifest with the files of `layer` in it.

    A layer path goes through the manifest's symlinked directories (`/lib` → `usr/lib`) but replaces a symlink that is
    its last component. Missing parents are added, 0755 root:root. Layer files are not held to a modification time.

    Raises SisError naming path and origin when a layer file cannot lie where it says.
    """
    laid = _lay(manifest, layer)
    return DesiredTree(_digest_of(digest_of(msgspec.msgpack.encode(manifest)), layer), lambda: laid, tuple(layer))


def desired_tree(digest: str, read: Callable[[str], Manifest], layer: Sequence[LayerFile] = ()) -> DesiredTree:
    """`lay_over` for the manifest of this digest, which is read when it is needed; faults are raised then."""
    return DesiredTree(_digest_of(digest, layer), lambda: _lay(read(digest), layer), tuple(layer))


def _digest_of(manifest: str, layer: Sequence[LayerFile]) -> bytes:
    return blake3(_FORMAT + bytes.fromhex(manifest) + msgspec.msgpack.encode(tuple(layer))).digest()


def _lay(manifest: Manifest, layer: Sequence[LayerFile]) -> Laid:
    entries = {entry.path: entry for entry in manifest.entries}
    blobs: dict[bytes, bytes] = {}
    origins: dict[bytes, str] = {}
    asked: set[bytes] = set()
    covers: set[bytes] = set()
    for file in layer:
        path = _place_of(file, entries, asked)
        if file.kind == "absent":
            covers.add(path)
            _take_out(entries, path)
            continue
        if file.kind != "dir":
            covers.add(path)
            _take_out(entries, path)
        _add_parents(entries, path)
        entries[path] = _entry_of(file, path, entries.get(path), blobs)
        origins[path] = file.origin
    in_order = {path: entries[path] for path in sorted(entries)} if layer else entries
    directories = origins.keys() - covers
    overlaid = Overlaid(tuple(sorted(asked)), tuple(sorted(covers)), tuple(sorted(directories)))
    return Laid(MappingProxyType(in_order), MappingProxyType(blobs), MappingProxyType(origins), overlaid)


def _entry_of(file: LayerFile, path: bytes, replaced: Entry | None, blobs: dict[bytes, bytes]) -> Entry:
    kind = _KINDS[file.kind]
    chunks, size, target, mode = b"", 0, b"", file.mode & 0o7777
    xattrs: Xattrs = ()
    if kind is Kind.FILE and file.content:
        digest, size = blake3(file.content).digest(), len(file.content)
        blobs[digest] = file.content
        chunks = pack_chunks([Chunk(digest, size)])
    elif kind is Kind.SYMLINK:
        target, mode = os.fsencode(file.target), 0o777
        if not target or b"\0" in target:
            raise _fault(file, "a symlink needs a target")
    elif replaced is not None and replaced.kind is Kind.DIR:
        xattrs = replaced.xattrs
    return Entry(
        path=path,
        kind=kind,
        mode=mode,
        uid=file.uid,
        gid=file.gid,
        mtime_ns=ANY_MTIME,
        size=size,
        chunks=chunks,
        target=target,
        xattrs=xattrs,
    )


def _place_of(file: LayerFile, entries: Mapping[bytes, Entry], asked: set[bytes]) -> bytes:
    """Where in the tree `file.path` is, its directories' symlinks followed within the tree.

    What that depends on is added to `asked`.
    """
    raw = os.fsencode(file.path)
    steps = raw.strip(b"/").split(b"/")
    if not raw.startswith(b"/") or b"\0" in raw or any(step in (b"", b".", b"..") for step in steps):
        raise _fault(file, "not an absolute path without '.' and '..'")
    done: list[bytes] = []
    left = steps[::-1]
    links = 0
    while left:
        step = left.pop()
        if step in (b"", b"."):
            continue
        if step == b"..":
            del done[-1:]
            continue
        here = b"/".join((*done, step))
        asked.add(here)
        entry = entries.get(here)
        if entry is None or not left or entry.kind is Kind.DIR:
            done.append(step)
        elif entry.kind is Kind.SYMLINK:
            links += 1
            if links > _LINKS_FOLLOWED_MAX:
                raise _fault(file, f"too many symlinks at {show_path(here)}")
            if entry.target.startswith(b"/"):
                done.clear()
            left.extend(entry.target.split(b"/")[::-1])
        else:
            raise _fault(file, f"{show_path(here)} is not a directory in the image")
    return b"/".join(done)


def _add_parents(entries: dict[bytes, Entry], path: bytes) -> None:
    parent = path.rpartition(b"/")[0]
    while parent and parent not in entries:
        entries[parent] = Entry(path=parent, kind=Kind.DIR, mode=0o755, uid=0, gid=0, mtime_ns=ANY_MTIME)
        parent = parent.rpartition(b"/")[0]


def _take_out(entries: dict[bytes, Entry], path: bytes) -> None:
    taken = entries.pop(path, None)
    if taken is not None and taken.kind is Kind.DIR:
        below = path + b"/"
        for inner in [other for other in entries if other.startswith(below)]:
            del entries[inner]


def _fault(file: LayerFile, why: str) -> SisError:
    made_by = f" (from {file.origin})" if file.origin else ""
    return SisError(f"cannot lay {file.path}{made_by} over the image: {why}")
