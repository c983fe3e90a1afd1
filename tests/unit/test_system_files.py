from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from sis.errors import Locked
from sis.system import files, locks


def test_an_atomic_write_replaces_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    old = os.umask(0o077)
    try:
        files.atomic_write(path, b"one")
        files.atomic_write(path, b"two", mode=0o600)
        assert path.read_bytes() == b"two"
        assert path.stat().st_mode & 0o777 == 0o600
        files.atomic_write(path, b"three")
        assert path.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(old)
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    files.atomic_write(path, b"old")

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "no luck")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="no luck"):
        files.atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_bounded_read_takes_no_memory_for_its_bound(tmp_path: Path) -> None:
    """`file.read(1 << 30)` makes a buffer of that size first: more than a small node has."""
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    tracemalloc.start()
    try:
        assert files.read_at_most(path, 1 << 40) == b"12345"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert files.read_at_most(path, 5) == b"12345"
    assert files.read_at_most(path, 4) is None


def test_temporary_names_are_known_again() -> None:
    name = files.temporary_beside(Path("/x/web")).name
    assert files.is_temporary(name)
    assert not files.is_temporary("web")


@pytest.mark.parametrize("open_one", [files.open_beneath, files.open_stepwise])
def test_no_link_is_followed(tmp_path: Path, open_one: Callable[[int, bytes, int], int]) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(b"inside")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "a/b/to-file").symlink_to("file")
    (tmp_path / "a/up").symlink_to("../..")
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    before = len(os.listdir("/proc/self/fd"))
    try:
        handle = open_one(root, b"a/b/file", os.O_RDONLY)
        assert os.read(handle, 10) == b"inside"
        assert not os.get_inheritable(handle)
        os.close(handle)
        os.close(open_one(root, b".", os.O_RDONLY | os.O_DIRECTORY))
        for path in (b"link/b/file", b"a/b/to-file", b"a/up/x", b"a/b/file/x"):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                open_one(root, path, os.O_RDONLY)
            assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR), path
        for path in (b"../x", b"a/../../x", b"/etc/passwd"):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                open_one(root, path, os.O_RDONLY)
            assert caught.value.errno == errno.EXDEV, path
        with pytest.raises(FileNotFoundError):
            open_one(root, b"a/nothing", os.O_RDONLY)
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(root)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ([], []),
        ([(0, 10)], [(0, 10, False)]),
        ([(0, 4096), (1 << 20, 4096)], [(0, 4096, False), (4096, (1 << 20) - 4096, True), (1 << 20, 4096, False)]),
        ([(1 << 20, 5)], [(0, 1 << 20, True), (1 << 20, 5, False)]),
    ],
)
def test_runs_of_a_file(tmp_path: Path, layout: list[tuple[int, int]], expected: list[tuple[int, int, bool]]) -> None:
    with (tmp_path / "f").open("wb+") as file:
        for offset, length in layout:
            file.seek(offset)
            file.write(b"d" * length)
        file.flush()
        size = os.fstat(file.fileno()).st_size
        assert list(files.runs_of(file.fileno(), size)) == expected


def test_a_file_that_is_one_hole(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb+") as file:
        file.truncate(1 << 40)
        assert list(files.runs_of(file.fileno(), 1 << 40)) == [(0, 1 << 40, True)]


def test_xattrs_are_sorted_and_those_of_file_systems_left_out(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    os.setxattr(path, b"user.b", b"2")
    os.setxattr(path, b"user.a", b"\0\xff")
    expected = ((b"user.a", b"\0\xff"), (b"user.b", b"2"))
    assert files.read_xattrs(os.fsencode(path)) == expected
    (tmp_path / "link").symlink_to("f")
    assert files.read_xattrs(os.fsencode(tmp_path / "link")) == ()
    handle = os.open(path, os.O_RDONLY)
    parent = os.open(tmp_path, os.O_RDONLY)
    try:
        assert files.read_xattrs(handle) == expected
        assert files.read_xattrs(files.member_path(parent, b"f")) == expected
    finally:
        os.close(handle)
        os.close(parent)


def test_a_lock_is_one_at_a_time_and_names_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.hold(path, "first work"):
        with pytest.raises(Locked, match=rf"held by process {os.getpid()} on .* \(first work\) since"):
            locks.hold(path, "second").__enter__()
        with pytest.raises(Locked):
            locks.hold(path, "third", wait_s=0.1).__enter__()
    with locks.hold(path, "next"):
        pass


def test_a_lock_of_a_killed_owner_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import sys, time; from pathlib import Path; from sis.system import locks\n"
        "with locks.hold(Path(sys.argv[1]), 'dying'): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(Locked, match=f"process {child.pid} .*dying"):
            locks.hold(path, "mine").__enter__()
        child.send_signal(signal.SIGKILL)
        child.wait()
        with locks.hold(path, "mine"):
            assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_lock_file_with_nonsense_in_it_still_locks(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"\xff\xfe nonsense")
    with locks.hold(path, "mine"):
        path.write_bytes(b"[1]")
        with pytest.raises(Locked, match="held by another process"):
            locks.hold(path, "other").__enter__()
