"""Write rendered files beneath a root without following a link: decide first (`plan`), then act (`apply`).

For use alone, in a chroot or on a node. On a managed node the synchroniser does this, with the same values.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import fnmatch
import os
import posixpath
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from configurator.errors import ApplyRefused, ConfiguratorError
from configurator.rendered import RenderedFile

Action = Literal["create", "update", "replace", "metadata", "remove"]
Kind = Literal["file", "symlink", "dir", "absent", "other"]


class Present(msgspec.Struct, frozen=True, kw_only=True):
    """What lies at a path now."""

    kind: Kind = "absent"
    mode: int = 0
    uid: int = 0
    gid: int = 0
    content: bytes = b""
    target: str = ""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One path that is not as rendered. `update` changes content or target, `replace` the kind, `metadata` the rest."""

    action: Action
    want: RenderedFile
    present: Present
    what: tuple[str, ...] = ()


def plan(root: Path, files: Sequence[RenderedFile], owned: Sequence[str] = ()) -> tuple[Difference, ...]:
    """What differs beneath `root`, by path; nothing is changed.

    `owned` are path patterns of which `files` has every path there should be: others that match are to be removed.
    Raises ApplyRefused for a path that leads over a link, or through something that is no directory.
    """
    differences: list[Difference] = []
    with _opened_root(root) as top:
        for file in [*files, *_stale(top, files, owned)]:
            with _explained("read", file.path):
                present = _present(top, file.path)
            found = _compare(file, present)
            if found is not None:
                differences.append(Difference(action=found[0], want=file, present=present, what=found[1]))
    return tuple(sorted(differences, key=lambda difference: difference.want.path))


def apply(root: Path, differences: Sequence[Difference]) -> None:
    """Make each path of a plan as rendered: temporary file beside it, fsync, rename. Running it again is harmless.

    Raises ApplyRefused rather than follow a link or remove a directory that is not empty.
    """
    removals_last = sorted(differences, key=lambda difference: (difference.action == "remove", difference.want.path))
    with _opened_root(root) as top:
        for difference in removals_last:
            with _explained("write", difference.want.path):
                _write(top, difference)


def diff(differences: Sequence[Difference]) -> str:
    """The plan as text: unified diffs, what else differs as comment lines. What others may not read is not shown."""
    return "".join(line for difference in differences for line in _diff(difference))


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}
_LARGEST_FILE = 64 << 20


@contextlib.contextmanager
def _opened_root(root: Path) -> Iterator[int]:
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfiguratorError(f"cannot open {root}: {error.strerror}") from error
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _explained(verb: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "run this as root" if isinstance(error, PermissionError) else None
        raise ConfiguratorError(f"cannot {verb} {path}: {error.strerror}", hint=hint) from error


@contextlib.contextmanager
def _parent(top: int, path: str, *, make: bool = False) -> Iterator[int | None]:
    """The open directory that holds `path`, reached without following a link; None when it is not there."""
    handle = _walked(top, path, make)
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def _walked(top: int, path: str, make: bool) -> int | None:
    handle = os.dup(top)
    walked = ""
    for part in path.split("/")[1:-1]:
        walked += f"/{part}"
        try:
            below = _opened_below(handle, part, make)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            raise ApplyRefused(
                f"{path} is not written: {walked} is a link or no directory",
                hint="links are not followed; remove it, or render for a tree without it",
            ) from error
        finally:
            os.close(handle)
        if below is None:
            return None
        handle = below
    return handle


def _opened_below(handle: int, name: str, make: bool) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=handle)
    except FileNotFoundError:
        if not make:
            return None
    os.mkdir(name, 0o755, dir_fd=handle)
    below = os.open(name, _DIRECTORY, dir_fd=handle)
    os.fchmod(below, 0o755)
    return below


def _present(top: int, path: str) -> Present:
    name = posixpath.basename(path)
    with _parent(top, path) as parent:
        if parent is None:
            return Present()
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return Present()
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "other")
        return Present(
            kind=kind,
            mode=stat.S_IMODE(found.st_mode),
            uid=found.st_uid,
            gid=found.st_gid,
            content=_content(parent, name) if kind == "file" else b"",
            target=os.readlink(name, dir_fd=parent) if kind == "symlink" else "",
        )


def _content(parent: int, name: str) -> bytes:
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent), "rb") as file:
        return file.read(_LARGEST_FILE)


def _compare(want: RenderedFile, present: Present) -> tuple[Action, tuple[str, ...]] | None:
    if want.kind == "absent":
        return None if present.kind == "absent" else ("remove", ())
    if present.kind == "absent":
        return "create", ()
    if present.kind != want.kind:
        return "replace", ("type",)
    what = [
        name
        for name, differs in (
            ("content", want.content != present.content),
            ("target", want.target != present.target),
            ("mode", want.kind != "symlink" and want.mode != present.mode),
            ("owner", (want.uid, want.gid) != (present.uid, present.gid)),
        )
        if differs
    ]
    if not what:
        return None
    return ("update" if {"content", "target"} & {*what} else "metadata"), tuple(what)


def _stale(top: int, files: Sequence[RenderedFile], owned: Sequence[str]) -> Iterator[RenderedFile]:
    rendered = {file.path for file in files}
    for pattern in owned:
        directory, name_pattern = posixpath.split(pattern)
        with _parent(top, pattern) as parent:
            names = os.listdir(parent) if parent is not None else []
        for name in sorted(names):
            path = f"{directory}/{name}"
            if fnmatch.fnmatchcase(name, name_pattern) and path not in rendered:
                yield RenderedFile(path=path, kind="absent", origin="stale")


def _write(top: int, difference: Difference) -> None:
    """Make one path as wanted. What lies there is looked at again: the plan may be old, or applied already."""
    want = difference.want
    name = posixpath.basename(want.path)
    with _parent(top, want.path, make=want.kind != "absent") as parent:
        if parent is None:
            return
        kind = _kind(parent, name)
        if kind == "dir" and want.kind != "dir":
            _remove_empty(parent, name, want.path)
        elif kind not in ("absent", want.kind) and want.kind in ("dir", "absent"):
            os.unlink(name, dir_fd=parent)
        if want.kind == "dir":
            _write_directory(parent, name, want)
        elif want.kind != "absent":
            _write_entry(parent, name, want)
        os.fsync(parent)


def _kind(parent: int, name: str) -> Kind:
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return "absent"
    return _KINDS.get(stat.S_IFMT(mode), "other")


def _remove_empty(parent: int, name: str, path: str) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise ApplyRefused(
            f"{path} is a directory that is not empty", hint="look at what is in it and remove it by hand"
        ) from error


def _write_directory(parent: int, name: str, want: RenderedFile) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    handle = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        os.fchown(handle, want.uid, want.gid)
        os.fchmod(handle, want.mode)
    finally:
        os.close(handle)


def _write_entry(parent: int, name: str, want: RenderedFile) -> None:
    temporary = f".sis-{secrets.token_hex(8)}"
    try:
        if want.kind == "symlink":
            os.symlink(want.target, temporary, dir_fd=parent)
            os.chown(temporary, want.uid, want.gid, dir_fd=parent, follow_symlinks=False)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o600, dir_fd=parent), "wb") as file:
                file.write(want.content)
                file.flush()
                os.fchown(file.fileno(), want.uid, want.gid)
                os.fchmod(file.fileno(), want.mode)
                os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=parent)
        raise


def _diff(difference: Difference) -> Iterator[str]:
    want, present = difference.want, difference.present
    yield f"# {difference.action} {want.path}{_described(difference)}\n"
    # A file in the way of a directory or link is not shown line by line: what it held does not matter then.
    if "file" not in (want.kind, present.kind) or want.content == present.content:
        return
    if (want.kind == "file" and not want.mode & 0o044) or (present.kind == "file" and not present.mode & 0o044):
        yield "# (content is private and not shown)\n"
        return
    before, after = (_lines(content) for content in (present.content, want.content))
    old = want.path if present.kind == "file" else "/dev/null"
    new = want.path if want.kind == "file" else "/dev/null"
    for line in difflib.unified_diff(before, after, old, new):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _described(difference: Difference) -> str:
    want, present = difference.want, difference.present
    words: list[str] = []
    if want.kind != present.kind and "absent" not in (want.kind, present.kind):
        words.append(f"{present.kind} → {want.kind}")
    if want.kind == "symlink":
        words.append(f"target {present.target!r} → {want.target!r}" if present.target else f"target {want.target!r}")
    if "mode" in difference.what:
        words.append(f"mode {present.mode:04o} → {want.mode:04o}")
    if "owner" in difference.what:
        words.append(f"owner {present.uid}:{present.gid} → {want.uid}:{want.gid}")
    return f" ({', '.join(words)})" if words else ""


def _lines(content: bytes) -> list[str]:
    """Lines as a terminal may see them: what is not printable is escaped."""
    text = content.decode("utf-8", "backslashreplace")
    return [
        "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in line) for line in text.splitlines(True)
    ]
