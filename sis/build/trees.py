"""Trees of images: a new one is made beside the old one and takes its place in one step, or leaves nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from sis.system import files, locks

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


def place(state: Path, image: str) -> Path:
    """Where the last built tree of an image is."""
    return state / "trees" / image


@contextlib.contextmanager
def fresh(state: Path, image: str) -> Iterator[Path]:
    """A path beside the image's tree, on the same file system, for a new one; removed at the end if it is still there.

    Only one build of an image at a time: raises Locked. What a killed build left behind is removed first.
    """
    final = place(state, image)
    files.make_dirs(final.parent)
    with locks.hold(final.parent / f".{image}.lock", f"build of {image}"):
        for left in final.parent.glob(f".{image}.new-*"):
            _remove(left)
        new = final.parent / f".{image}.new-{secrets.token_hex(4)}"
        try:
            yield new
        finally:
            _remove(new)


def put_in_place(new: Path, final: Path) -> None:
    """`new` becomes `final`; an older tree there changes places with it, so that `final` is never missing."""
    if not final.exists():
        new.rename(final)
    elif _libc.renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(final), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(final))
    files.fsync_dir(final.parent)


def _remove(tree: Path, patience_s: float = 10.0) -> None:
    """Delete a tree. Programs that were just killed may still be writing their last files into it."""
    deadline = time.monotonic() + patience_s
    while tree.exists():
        try:
            shutil.rmtree(tree)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
