"""Whether a tree is, byte for byte, what the last run left: every file read, every attribute looked at.

Of what is remembered only the list of directories to look into is used; what is in them is compared with the desired
tree itself. As `still`, this answers "yes" or "I do not know".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from sis.image.model import Entry, Kind
from sis.sync.forked import in_two, is_worth_it
from sis.sync.rules import parents_of
from sis.sync.walk.ahead import Ahead
from sis.sync.walk.listing import ROOT_PARENT, ListedRows, joined, packed, place_of, row_of
from sis.sync.walk.look import READ_BYTES, Member, equal_file
from sis.sync.walk.still import Known, is_harmless, surroundings_are_known
from sis.system.beneath import Beneath


class _Seen(msgspec.Struct, array_like=True):
    """What came of looking into some directories; not all of them if something was not as desired.

    changed  those whose listing is not as remembered
    several  (inode, device, path) of everything but directories that has more than one name
    entries  how many paths are as desired
    """

    is_equal: bool
    changed: list[bytes]
    several: list[tuple[int, int, bytes]]
    entries: int


_seen_decoder = msgspec.msgpack.Decoder(_Seen)


def is_as_left(
    tree: Beneath,
    wanted: Mapping[bytes, Entry],
    known: Known,
    mounted: frozenset[bytes],
    is_ignored: Callable[[bytes], bool],
) -> bool:
    """Whether everything held is as desired and, the node's own aside, nothing else is there."""
    try:
        if not surroundings_are_known(tree, known, mounted):
            return False
        seen = _look_at_all(tree, wanted, known)
        if seen is None or not all(each.is_equal for each in seen):
            return False
        if not is_harmless(tree, known, [path for each in seen for path in each.changed]):
            return False
    except OSError:
        return False
    if sum(each.entries for each in seen) != len(wanted) and not _are_accounted_for(wanted, known, is_ignored):
        return False
    return _are_linked(wanted, [name for each in seen for name in each.several])


def _look_at_all(tree: Beneath, wanted: Mapping[bytes, Entry], known: Known) -> list[_Seen] | None:
    directories = list(known.listings)

    def look(numbers: Iterator[int]) -> _Seen:
        return _look_into(tree, wanted, known, map(directories.__getitem__, numbers))

    if not is_worth_it(known.still.entries):
        return [look(iter(range(len(directories))))]
    told = in_two(len(directories), lambda numbers: msgspec.msgpack.encode(look(numbers)))
    return None if told is None else [_seen_decoder.decode(each) for each in told]


def _look_into(tree: Beneath, wanted: Mapping[bytes, Entry], known: Known, directories: Iterable[bytes]) -> _Seen:
    seen = _Seen(True, [], [], 0)
    look = _Look(wanted, known, seen)
    for directory in directories:
        if directory == ROOT_PARENT:
            is_equal = look.at_root(tree.root)
        else:
            handle = tree.open_directory(directory)
            try:
                is_equal = look.into(handle, directory)
            finally:
                os.close(handle)
        if not is_equal:
            seen.is_equal = False
            break
    return seen


class _Look:
    """Looks into one directory after another, and notes what is `seen`. False is told of one with a difference."""

    def __init__(self, wanted: Mapping[bytes, Entry], known: Known, seen: _Seen) -> None:
        self._wanted = wanted
        self._known = known
        self._seen = seen
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._ahead = Ahead()

    def at_root(self, root: int) -> bool:
        status, want = os.fstat(root), self._wanted.get(b".")
        if want is None or not self._is_equal(root, b".", want, status):
            return False
        self._seen.entries += 1
        if joined([packed(b".", row_of(status))]) != self._known.listings[ROOT_PARENT]:
            self._seen.changed.append(ROOT_PARENT)
        return True

    def into(self, handle: int, directory: bytes) -> bool:
        wanted, buffer, several = self._wanted, self._buffer, self._seen.several
        aside = self._known.still.aside.get(directory) or {}
        prefix = b"" if directory == b"." else directory + b"/"
        found: list[bytes] = []
        strangers = 0
        with os.scandir(handle) as members:
            for member in self._ahead.of(handle, members, _file_of):
                name = member.name.encode("utf-8", "surrogateescape")
                if name in aside and aside[name] is member.is_dir(follow_symlinks=False):
                    continue
                path = prefix + name
                want = wanted.get(path)
                if want is not None and want.kind is Kind.FILE and member.is_file(follow_symlinks=False):
                    status = equal_file(handle, name, want, buffer)
                    if status is None:
                        return False
                else:
                    status = member.stat(follow_symlinks=False)
                    if want is None:
                        strangers += 1
                    elif not self._is_equal(handle, path, want, status):
                        return False
                found.append(packed(name, row_of(status)))
                if status.st_nlink > 1 and want is not None and want.kind is not Kind.DIR:
                    several.append((status.st_ino, status.st_dev, path))
        self._seen.entries += len(found) - strangers
        if joined(found) == self._known.listings[directory]:
            return not strangers
        self._seen.changed.append(directory)
        return True

    def _is_equal(self, directory: int, path: bytes, want: Entry, status: os.stat_result) -> bool:
        member = Member(directory, place_of(path)[1], path, status, self._buffer)
        return member.is_equal(want, mtime=path not in self._known.still.restless)


def _file_of(member: os.DirEntry[str]) -> tuple[int, str] | None:
    return (member.inode(), member.name) if member.is_file(follow_symlinks=False) else None


def _are_accounted_for(wanted: Mapping[bytes, Entry], known: Known, is_ignored: Callable[[bytes], bool]) -> bool:
    """Whether every desired path was looked at, or is one that is not: the node's own, ignored, on another device."""
    listed, still = ListedRows(known.listings), known.still
    absent, uncrossed = frozenset(still.absent), frozenset(still.uncrossed)

    def is_accounted_for(path: bytes) -> bool:
        directory, name = place_of(path)
        if name in listed.within(directory) or name in still.aside.get(directory, ()) or path in absent:
            return True
        return is_ignored(path) or not uncrossed.isdisjoint((path, *parents_of(path)))

    return all(map(is_accounted_for, wanted))


def _are_linked(wanted: Mapping[bytes, Entry], several: Iterable[tuple[int, int, bytes]]) -> bool:
    """Whether exactly the names of a hard-link group are one inode."""
    names: dict[tuple[int, int], list[bytes]] = {}
    inode_of: dict[bytes, tuple[int, int]] = {}
    for inode, device, path in several:
        names.setdefault((inode, device), []).append(path)
        inode_of[path] = (inode, device)
    for paths in names.values():
        groups = {wanted[path].link for path in paths}
        if len(paths) > 1 and (len(groups) > 1 or 0 in groups):
            return False
    inodes: dict[int, set[tuple[int, int] | None]] = {}
    for path, entry in wanted.items():
        if entry.link:
            inodes.setdefault(entry.link, set()).add(inode_of.get(path))
    return all(len(each) == 1 and None not in each for each in inodes.values())
