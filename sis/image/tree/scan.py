"""A tree on disk → the entries of its manifest, the content of its files cut into chunks on the way."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sis.errors import NotFound
from sis.image.model import Entry
from sis.image.progress import Progress
from sis.image.tree.content import ChunkSink, Content
from sis.image.tree.found import IDENTITY, UNKNOWN, Found, ScanCache, path_of
from sis.image.tree.walk import Walk


@dataclass(frozen=True)
class Scan:
    """A scanned tree. `entries` is in manifest order; `notices` say what was left out and why."""

    entries: tuple[Entry, ...]
    identities: bytes
    notices: tuple[str, ...]
    bytes_read: int


def scan(
    root: Path,
    *,
    reuse: ScanCache | None = None,
    sink: ChunkSink | None = None,
    one_filesystem: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Read a whole tree. Files whose inode is as `reuse` knew it are not opened.

    Content goes to `sink`, if given, in path order; memory use does not depend on the size of files. Sockets and
    other file systems are left out with a notice. Raises NotFound for a missing root, SisError for a tree that
    changes while it is read.
    """
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"no such directory: {root}", hint="it must be there already") from error
    try:
        walk = Walk(handle, reuse, one_filesystem)
        walk.run()
        walk.found.sort(key=path_of)
        content = Content(handle, sink, threads or max(2, os.cpu_count() or 2), progress)
        content.read([found for found in walk.found if isinstance(found, Found)])
        identities = _identities(walk.found, reuse)
        return Scan(
            entries=_finish(walk.found),
            identities=identities,
            notices=tuple(walk.notices),
            bytes_read=content.bytes_done,
        )
    finally:
        os.close(handle)


def _identities(found: list[Entry | Found], reuse: ScanCache | None) -> bytes:
    """The IDENTITY rows of what was found, in order; of what is as it was they are in `reuse`, in the same order."""
    rows = io.BytesIO()
    at = -1
    for one in found:
        if isinstance(one, Found):
            rows.write(one.identity if one.settled else UNKNOWN)
            continue
        assert reuse is not None
        at += 1
        while reuse.entries[at] is not one:
            at += 1
        rows.write(reuse.identities[at * IDENTITY.size : (at + 1) * IDENTITY.size])
    return rows.getvalue()


def _finish(found: list[Entry | Found]) -> tuple[Entry, ...]:
    """The entries with their content and their hard-link groups, numbered by first appearance. Empties `found`."""
    members: dict[tuple[int, int], int] = {}
    for one in found:
        if isinstance(one, Found) and one.inode is not None:
            members[one.inode] = members.get(one.inode, 0) + 1
    numbers: dict[tuple[int, int], int] = {}
    firsts: dict[tuple[int, int], Entry] = {}
    entries = []
    found.reverse()
    while found:
        one = found.pop()
        if isinstance(one, Entry):
            entries.append(one)
            continue
        entry = one.entry
        if one.runs is not None:
            entry = msgspec.structs.replace(entry, chunks=bytes(one.runs))
        link = 0
        if one.inode is not None and members[one.inode] > 1:
            link = numbers.setdefault(one.inode, len(numbers) + 1)
            first = firsts.setdefault(one.inode, entry)
            if first is not entry:
                entry = msgspec.structs.replace(first, path=entry.path, link=link)
        if entry.link != link:
            entry = msgspec.structs.replace(entry, link=link)
        entries.append(entry)
    return tuple(entries)
