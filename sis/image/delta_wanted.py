"""Deltas that are wanted and not made yet: a file for each channel that moved, taken away when they are there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sis.errors import NotFound
from sis.image import codec, delta_make, refs
from sis.image.delta_make import Made, Progress
from sis.image.refs import Moved
from sis.image.store import LocalStore
from sis.system.files import atomic_write, is_temporary

_FOLDER = ".work/wanted"


def want(store: LocalStore, moved: Moved, channel: str) -> None:
    """Remember that a channel was moved, and deltas to where it points now are to be made."""
    mark = _mark(store, moved.ref.image, channel)
    mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    left = "" if moved.before is None else moved.ref.generations[str(moved.before)]
    atomic_write(mark, left.encode(), mode=0o600)


def wanted(store: LocalStore) -> tuple[tuple[str, str], ...]:
    """The (image, channel) pairs whose deltas are to be made, those that have waited longest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in (store.path / _FOLDER).iterdir():
            image, _, channel = path.name.partition("@")
            if not is_temporary(path.name) and codec.IMAGE_NAME.fullmatch(image):
                with contextlib.suppress(FileNotFoundError):
                    found.append((path.stat().st_mtime_ns, image, channel))
    return tuple((image, channel) for _, image, channel in sorted(found))


def make_wanted(
    store: LocalStore, image: str, channel: str, *, progress: Progress | None = None, gently: bool = False
) -> Iterator[Made]:
    """Make the deltas to where a channel points; until it stays there. Nothing is wanted of it then.

    They lead from what it pointed to before, the version it was rolled back from among them. Raises NotFound for an
    image or channel that is no more, and forgets it.
    """
    refs.check_image_name(image)
    mark = _mark(store, image, channel)
    made_for = ""
    while True:
        try:
            now = store.ref(image).channels.get(channel)
            if now is None:
                raise NotFound(f"{image} has no channel {channel}")
        except NotFound:
            mark.unlink(missing_ok=True)
            raise
        if now == made_for:
            mark.unlink(missing_ok=True)
            return
        left = mark.read_text() if mark.exists() else ""
        yield from delta_make.make_for_channel(store, image, channel, now, left=left, progress=progress, gently=gently)
        made_for = now


def _mark(store: LocalStore, image: str, channel: str) -> Path:
    return store.path / _FOLDER / f"{image}@{channel}"
