"""Files on the way: which are being made ready, what each still lacks, and which wait for a chunk."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
from blake3 import blake3

from sis.image.model import DIGEST_BYTES, HOLE, RUN_BYTES, Entry
from sis.sync.planning.planned import NewFile, Part


class Making(msgspec.Struct, gc=False):
    """One file on the way; done when it lacks nothing.

    number      its place among all
    mount       of the file system it is on
    name        in the staging directory
    is_resumed  an earlier run has left some of it
    is_ready    all of it is there, with its metadata
    lacks       pieces that are to come: runs of its content, and one for all that is copied on this node
    awaited     what it lacked to begin with, or when the round began
    copied      runs that are on this node, or in the layer
    """

    number: int
    entry: Entry
    mount: bytes
    name: bytes
    is_in_tree: bool
    is_resumed: bool = False
    is_ready: bool = False
    lacks: int = 0
    awaited: int = 0
    copied: tuple[Part, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether one chunk is all of it, and nothing of it is there yet."""
        return len(self.entry.chunks) == RUN_BYTES and not self.is_resumed


Place = tuple[Making, int]
"""A file, and the offset in it."""


@dataclass
class Makings:
    """The files on the way.

    every    those that are not ready yet, by number
    waiting  by digest the place, or the places, a chunk is to be written to
    asked    digests that are waited for since they were last taken from here
    to_copy  what is to be copied on this node, likewise
    """

    every: dict[int, Making] = field(default_factory=dict)
    to_copy: list[Making] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)
    waiting: dict[bytes, Place | list[Place]] = field(default_factory=dict)
    begun: int = 0

    def add(self, file: NewFile, mount: bytes) -> Making:
        making = Making(self.begun, file.entry, mount, name_of(file), bool(file.tree))
        self.every[self.begun] = making
        self.begun += 1
        return making

    def require(self, making: Making, file: NewFile, blobs: Mapping[bytes, bytes]) -> None:
        """All of a file is to come."""
        digest = file.entry.chunks[:DIGEST_BYTES]
        if making.is_whole and not file.sources and digest != HOLE and digest not in blobs:
            making.lacks = making.awaited = 1
            self._wait(digest, making, 0)
        else:
            self.require_parts(making, (part for part in file.parts() if part.chunk.digest != HOLE), blobs)

    def require_parts(self, making: Making, parts: Iterable[Part], blobs: Mapping[bytes, bytes]) -> None:
        """These runs of a file are to come; what is on this node, or nothing at all, is one piece of work."""
        copied = []
        for part in parts:
            if part.source is not None or part.chunk.digest in blobs:
                copied.append(part)
            else:
                making.lacks += 1
                self._wait(part.chunk.digest, making, part.offset)
        if copied or not making.lacks:
            making.copied = tuple(copied)
            making.lacks += 1
            self.to_copy.append(making)
        making.awaited = making.lacks

    def wait_again(self, number: int, digest: bytes, offset: int) -> None:
        """A run that was to be copied is not on this node any more: it is to come in the next round."""
        making = self.every[number]
        making.lacks += 1
        self._wait(digest, making, offset)

    def begin_round(self) -> None:
        """All that is waited for is to be asked for anew."""
        for making in self.every.values():
            making.awaited = making.lacks
        self.asked = list(self.waiting)

    def take_asked(self) -> tuple[list[bytes], list[Making]]:
        """What is waited for, and what is to be copied, since this was last taken."""
        asked, copies = self.asked, self.to_copy
        self.asked, self.to_copy = [], []
        return asked, copies

    def arrived(self, digests: Iterable[bytes]) -> Iterator[Making]:
        """Chunks are where they belong. The files they are in, once for each."""
        for digest in digests:
            for making, _offset in places(self.waiting.pop(digest, [])):
                yield making

    def _wait(self, digest: bytes, making: Making, offset: int) -> None:
        """Most chunks are waited for once: these take no list."""
        known = self.waiting.get(digest)
        if known is None:
            self.waiting[digest] = (making, offset)
            self.asked.append(digest)
        elif isinstance(known, list):
            known.append((making, offset))
        else:
            self.waiting[digest] = [known, (making, offset)]


def places(waiting: Place | list[Place]) -> Iterable[Place]:
    return waiting if isinstance(waiting, list) else (waiting,)


def name_of(file: NewFile) -> bytes:
    """The name a file has in its staging directory: the same for the same path and content."""
    return name_in(file.tree, file.entry.path) if file.tree else staged_name(file.entry)


def staged_name(entry: Entry) -> bytes:
    """The name of what is made ready to go where a directory is already."""
    told = blake3(entry.path)
    told.update(b"\0")
    told.update(entry.chunks)
    return told.hexdigest()[:32].encode()


def name_in(tree: bytes, path: bytes) -> bytes:
    """Where what is to be `path` is made ready with the new directory `tree` (itself perhaps)."""
    return tree_name(tree) + path[len(tree) :]


@functools.lru_cache(maxsize=4096)
def tree_name(path: bytes) -> bytes:
    return blake3(b"tree\0" + path).hexdigest()[:32].encode()
