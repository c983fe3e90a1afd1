"""Find content this node already has: in verified files anywhere, and in drifted ones by cutting them anew."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence, Set

from sis.image.model import DIGEST_BYTES, RUN_BYTES, Entry, Kind
from sis.image.tree import chunk
from sis.sync.planning.difference import Comparison, Difference
from sis.sync.planning.planned import LocalContent, Source
from sis.sync.walk.look import run_matches
from sis.sync.walk.observe import Observed
from sis.system.beneath import Beneath
from sis.system.files import runs_of

_UNREADABLE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.EACCES)


def locate(
    tree: Beneath, observed: Observed, comparison: Comparison, making: Sequence[Difference], needed: Set[bytes]
) -> LocalContent:
    """Where on this node the chunks `needed` for the files to be made are. Reads the drifted files; changes nothing."""
    if not needed:
        return LocalContent({}, {})
    anywhere = _in_verified_files(observed, needed)
    in_place: dict[bytes, dict[bytes, int]] = {}
    for difference in making:
        found = difference.found
        if found is None or found.entry is None or found.entry.kind is not Kind.FILE or not found.entry.size:
            continue
        if found.content_known:
            offsets = _offsets(found.entry, needed)
        elif _is_worth_cutting(difference):
            offsets = dict(_in_drifted_file(tree, difference, needed))
        else:
            continue
        if offsets:
            in_place[difference.path] = offsets
    for path, offsets in in_place.items():
        for digest, offset in offsets.items():
            anywhere.setdefault(digest, Source(path, offset))
    _in_unknown_files(tree, making, comparison, needed, anywhere)
    return LocalContent(anywhere, in_place)


def _in_verified_files(observed: Observed, needed: Set[bytes]) -> dict[bytes, Source]:
    anywhere: dict[bytes, Source] = {}
    for path, found in observed.found.items():
        entry = found.entry
        if entry is None or not entry.chunks:
            continue
        raw = entry.chunks
        if len(raw) == RUN_BYTES:
            digest = raw[:DIGEST_BYTES]
            if digest in needed:
                anywhere.setdefault(digest, Source(path, 0))
        else:
            for digest, offset in _offsets(entry, needed).items():
                anywhere.setdefault(digest, Source(path, offset))
    return anywhere


def _offsets(entry: Entry, needed: Set[bytes]) -> dict[bytes, int]:
    raw = entry.chunks
    digests = [raw[at : at + DIGEST_BYTES] for at in range(0, len(raw), RUN_BYTES)]
    if needed.isdisjoint(digests):
        return {}
    found: dict[bytes, int] = {}
    at = 0
    for piece in entry.each_chunk():
        if piece.digest in needed:
            found.setdefault(piece.digest, at)
        at += piece.size_bytes
    return found


def _is_worth_cutting(difference: Difference) -> bool:
    """A file of one chunk whose content differs does not hold that chunk at its place."""
    assert difference.want is not None
    return len(difference.want.chunks) > RUN_BYTES


def _in_drifted_file(tree: Beneath, difference: Difference, needed: Set[bytes]) -> Iterator[tuple[bytes, int]]:
    """Chunks that are still at their place, then those an insertion or removal has moved."""
    assert difference.want is not None
    try:
        handle = tree.open(difference.path)
    except OSError as error:
        if error.errno in _UNREADABLE:
            return
        raise
    try:
        missing: set[bytes] = set()
        at = 0
        for piece in difference.want.each_chunk():
            if piece.digest in needed:
                if run_matches(handle, at, piece.size_bytes, piece.digest):
                    yield piece.digest, at
                else:
                    missing.add(piece.digest)
            at += piece.size_bytes
        if missing:
            yield from _cut(handle, missing)
    finally:
        os.close(handle)


def _in_unknown_files(
    tree: Beneath,
    making: Iterable[Difference],
    comparison: Comparison,
    needed: Set[bytes],
    anywhere: dict[bytes, Source],
) -> None:
    """Look into files that are about to be removed and are as long as one that is missing: it was moved, perhaps."""
    unknown = [
        (difference.path, found.entry.size)
        for difference in comparison.to_do
        if difference.want is None
        and (found := difference.found) is not None
        and found.entry is not None
        and found.entry.kind is Kind.FILE
        and not found.content_known
    ]
    if not unknown:
        return
    lengths = {
        difference.want.size
        for difference in making
        if difference.want is not None and any(piece.digest not in anywhere for piece in difference.want.each_chunk())
    }
    for path, size in unknown:
        if size not in lengths:
            continue
        try:
            handle = tree.open(path)
        except OSError as error:
            if error.errno in _UNREADABLE:
                continue
            raise
        try:
            for digest, offset in _cut(handle, needed):
                anywhere.setdefault(digest, Source(path, offset))
        finally:
            os.close(handle)


def _cut(handle: int, wanted: Set[bytes]) -> Iterator[tuple[bytes, int]]:
    """The wanted chunks of a file, and where they are. Each stretch of data is cut on its own, as a commit cuts it."""
    for run in list(runs_of(handle, os.fstat(handle).st_size)):
        if run.hole:
            continue
        os.lseek(handle, run.offset, os.SEEK_SET)
        at, end = run.offset, run.offset + run.length
        for piece in chunk.cut_stream(lambda size, end=end: _read_up_to(handle, size, end)):  # type: ignore[misc]
            digest = chunk.digest(piece)
            if digest in wanted:
                yield digest, at
            at += len(piece)


def _read_up_to(handle: int, size: int, end: int) -> bytes:
    return os.read(handle, min(size, end - os.lseek(handle, 0, os.SEEK_CUR)))
