"""Files are asked for ahead of reading, where the disk has to be read; whatever else is there stays as it is."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.sync.walk import ahead
from sis.sync.walk.ahead import Ahead

_CONTENT = b"x" * 200_000


def _of_string(name: str) -> tuple[int, str]:
    return 0, name


def _is_in_memory(path: Path) -> bool:
    """By mincore(2): a read that waits for nothing (RWF_NOWAIT) would have the kernel read ahead."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), len(_CONTENT), access=mmap.ACCESS_COPY) as mapped:
        pages = ctypes.create_string_buffer(-(-len(_CONTENT) // mmap.PAGESIZE))
        address = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None).mincore(ctypes.byref(address), ctypes.c_size_t(len(_CONTENT)), pages)
        del address
        assert not failed
        return all(page & 1 for page in pages.raw)


def _forget(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, of whose content nothing is in memory."""
    for name in "abc":
        (tmp_path / name).write_bytes(_CONTENT)
        _forget(tmp_path / name)
    if _is_in_memory(tmp_path / "a"):
        pytest.skip("this file system keeps everything in memory")
    return tmp_path


@pytest.fixture
def handle(folder: Path) -> Iterator[int]:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    yield opened
    os.close(opened)


def test_what_is_on_the_disk_is_asked_for(folder: Path, handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_blocks_read", itertools.count().__next__)
    assert list(Ahead().of(handle, ["a", "b", "c"], _of_string)) == ["a", "b", "c"]
    given_up = time.monotonic() + 10
    while not all(_is_in_memory(folder / name) for name in "abc"):
        assert time.monotonic() < given_up
        time.sleep(0.01)


def test_nothing_is_asked_for_while_the_disk_is_not_read(
    folder: Path, handle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_blocks_read", lambda: 7)
    assert list(Ahead().of(handle, iter("abc"), _of_string)) == ["a", "b", "c"]
    time.sleep(0.05)
    assert not any(_is_in_memory(folder / name) for name in "abc")


def test_a_directory_of_many_files_is_asked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes | str] = []
    monkeypatch.setattr(ahead, "_blocks_read", itertools.count().__next__)
    monkeypatch.setattr(ahead, "_ask", lambda _, name: asked.append(name))
    members = Ahead().of(-1, map(str, range(1000)), lambda name: (-int(name), name) if name != "3" else None)
    assert next(members) == "0"
    assert asked == [str(number) for number in range(127, -1, -1) if number != 3]
    assert list(members) == [str(number) for number in range(1, 1000)]
    assert len(asked) == 999


def test_what_is_no_file_any_more_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_blocks_read", itertools.count().__next__)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "directory").mkdir()
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    names = ["pipe", "link", "directory", "gone", "x" * 300]
    assert list(Ahead().of(handle, names, _of_string)) == names
    os.close(handle)
