"""Deltas that are wanted and not made yet: a file for each channel that moved, taken away when they are there.

First those from earlier versions; the one from nothing, for new nodes, takes minutes, and is wanted after them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sis.errors import NotFound
from sis.image.deltas import making
from sis.image.deltas.delta import NOTHING
from sis.image.deltas.making import Made
from sis.image.names import IMAGE_NAME
from sis.image.progress import Progress
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.image.store.refs import Moved
from sis.system.files import atomic_write, is_temporary

_FOLDER = ".work/wanted"
_WHOLE_FOLDER = ".work/wanted-whole"


def want(store: LocalStore, moved: Moved, channel: str) -> None:
    """Remember that a channel was moved, and deltas to where it points now are to be made."""
    mark = _mark(store, moved.ref.image, channel)
    mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    left = "" if moved.before is None else moved.ref.generations[str(moved.before)]
    atomic_write(mark, left.encode(), mode=0o600)


def wanted(store: LocalStore) -> tuple[tuple[str, str], ...]:
    """The (image, channel) pairs whose deltas are to be made, those that have waited longest first."""
    return _pairs(store, _FOLDER)


def wanted_whole(store: LocalStore) -> tuple[tuple[str, str], ...]:
    """The same for deltas from nothing."""
    return _pairs(store, _WHOLE_FOLDER)


def _pairs(store: LocalStore, folder: str) -> tuple[tuple[str, str], ...]:
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in (store.path / folder).iterdir():
            image, _, channel = path.name.partition("@")
            if not is_temporary(path.name) and IMAGE_NAME.fullmatch(image):
                with contextlib.suppress(FileNotFoundError):
                    found.append((path.stat().st_mtime_ns, image, channel))
    return tuple((image, channel) for _, image, channel in sorted(found))


def make_wanted(store: LocalStore, image: str, channel: str, *, progress: Progress | None = None) -> Iterator[Made]:
    """Make the deltas to where a channel points; until it stays there. Then at most the one from nothing is wanted.

    They lead from what it pointed to before, the version it was rolled back from among them. Raises NotFound for an
    image or channel that is no more, and forgets it.
    """
    mark = _mark(store, image, channel)
    made_for = ""
    while True:
        now = _pointed_to(store, image, channel, mark)
        if now == made_for:
            if making.is_worth_whole(store, now) and not making.is_there(store, NOTHING, now):
                whole = _mark(store, image, channel, _WHOLE_FOLDER)
                whole.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                atomic_write(whole, b"", mode=0o600)
            mark.unlink(missing_ok=True)
            return
        left = mark.read_text() if mark.exists() else ""
        yield from making.make_for_channel(store, image, channel, now, left=left, progress=progress)
        made_for = now


def make_whole(store: LocalStore, image: str, channel: str, *, progress: Progress | None = None) -> Made | None:
    """Make the delta from nothing to where a channel points, if it lacks; none is wanted then. Raises NotFound."""
    mark = _mark(store, image, channel, _WHOLE_FOLDER)
    now = _pointed_to(store, image, channel, mark)
    made = making.make(store, NOTHING, now, progress=progress) if making.is_worth_whole(store, now) else None
    mark.unlink(missing_ok=True)
    return made


def _pointed_to(store: LocalStore, image: str, channel: str, mark: Path) -> str:
    """The version a channel points to; the mark of one that is no more is removed. Raises NotFound."""
    refs.check_image_name(image)
    try:
        channels = store.ref(image).channels
        now = channels.get(channel)
        if now is None:
            raise NotFound.of("channel", f"{image}@{channel}", (f"{image}@{known}" for known in channels))
    except NotFound:
        mark.unlink(missing_ok=True)
        raise
    return now


def _mark(store: LocalStore, image: str, channel: str, folder: str = _FOLDER) -> Path:
    return store.path / folder / f"{image}@{channel}"
