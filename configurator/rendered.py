"""One rendered path as a value, and the rules every text file follows: header line, UTF-8, a line end at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec


class RenderedFile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`path` is absolute; `content` belongs to files, `target` to symlinks; `origin` is the renderer's name."""

    path: str
    kind: Literal["file", "symlink", "dir", "absent"] = "file"
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    content: bytes = b""
    target: str = ""
    origin: str = ""


def header(origin: str) -> str:
    """The first line of every text file whose readers allow comments."""
    return f"# managed by sis ({origin}): do not edit, changes are undone at the next resync"


def text_file(path: str, origin: str, lines: Iterable[str], *, mode: int = 0o644) -> RenderedFile:
    """A file with the header and `lines` below it."""
    return plain_file(path, origin, [header(origin), *lines], mode=mode)


def plain_file(path: str, origin: str, lines: Iterable[str], *, mode: int = 0o644) -> RenderedFile:
    """A file of `lines` and nothing else: its readers know no comments."""
    return RenderedFile(path=path, mode=mode, content="".join(f"{line}\n" for line in lines).encode(), origin=origin)


def directory(path: str, origin: str, *, mode: int) -> RenderedFile:
    return RenderedFile(path=path, kind="dir", mode=mode, origin=origin)


def symlink(path: str, origin: str, target: str) -> RenderedFile:
    return RenderedFile(path=path, kind="symlink", mode=0o777, target=target, origin=origin)
