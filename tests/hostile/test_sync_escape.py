"""Nobody leads us out: links planted in the way, directories flipped while we work, paths with .. in them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.errors import SisError
from sis.image.model import Entry, Kind
from sis.sync import engine
from sis.sync.desired import DesiredTree, Laid, Overlaid
from sis.system import beneath, process
from sis.system.beneath import Beneath
from sis.system.files import open_stepwise
from tests.sync_trees import Bench, changes_of, make_bench, make_tree, rsync_differences

pytestmark = pytest.mark.root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    (path / "b").mkdir(parents=True)
    (path / "secret").write_text("secret")
    (path / "b/file1").write_text("theirs")
    path.chmod(0o711)
    return path


def snapshot(path: Path) -> list[tuple[object, ...]]:
    seen = []
    for at in sorted((path, *path.rglob("*"))):
        status = at.lstat()
        content = at.read_bytes() if at.is_file() else b""
        seen.append(
            (at, status.st_mode, status.st_uid, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink, content)
        )
    return seen


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Bench, Path]]:
    tree = make_tree(tmp_path / "tree")
    bench = make_bench(tmp_path)
    bench.commit(tree)
    bench.sync()
    return bench, tree


@pytest.mark.parametrize("planted", ["opt", "opt/a", "etc", "usr/bin", "var/log", ".sis-stage", "boot"])
def test_a_planted_link_is_replaced_not_followed(held: tuple[Bench, Path], outside: Path, planted: str) -> None:
    bench, tree = held
    before = snapshot(outside)
    if (bench.root / planted).exists():
        (bench.root / planted).rename(bench.root / "usr/moved-away")
    os.symlink(outside, bench.root / planted)
    (bench.root / "usr/lib/big").write_bytes(b"drift")
    found = bench.check()
    if planted != ".sis-stage":
        assert changes_of(found)[f"/{planted}"] == ("replace", ("type",))
    assert bench.sync().in_sync
    assert snapshot(outside) == before
    assert rsync_differences(tree, bench.root) == []


FLIP = """
import ctypes, os, sys
rename = ctypes.CDLL(None).renameat2
one, other = os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2])
while True:
    rename(-100, one, -100, other, 2)
"""


def test_a_directory_flipped_while_we_work_leads_nowhere(held: tuple[Bench, Path], outside: Path) -> None:
    """Another process swaps a directory with a link to the outside, as fast as it can."""
    bench, tree = held
    before = snapshot(outside)
    os.symlink(outside, bench.root / "opt/decoy")
    done = 0
    with process.running([sys.executable, "-c", FLIP, bench.root / "opt/a", bench.root / "opt/decoy"]):
        for number in range(40):
            for name in (b"opt/a/b/file1", b"opt/a/new", b"opt/a/b/c"):
                with contextlib.suppress(OSError), Beneath(bench.root) as held_root:
                    held_root.remove_tree(name)
            with contextlib.suppress(SisError):
                done += len(bench.sync(full=bool(number % 2)).changes)
    assert done > 10
    assert snapshot(outside) == before
    bench.sync()
    assert bench.sync().in_sync
    assert snapshot(outside) == before
    assert rsync_differences(tree, bench.root) == []


@pytest.mark.parametrize("path", [b"../escaped", b"a/../../escaped", b"/etc/escaped", b"a//b", b"", b"a/.", b"a\0b"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: bytes) -> None:
    bench = make_bench(tmp_path)
    bench.commit(make_tree(tmp_path / "tree", files=1))
    root = Entry(path=b".", kind=Kind.DIR, mode=0o755, uid=0, gid=0, mtime_ns=0)
    evil = Entry(path=path, kind=Kind.FILE, mode=0o644, uid=0, gid=0, mtime_ns=0)
    want = DesiredTree(bytes(32), lambda: Laid({b".": root, path: evil}, {}, {}, Overlaid()))
    with pytest.raises(SisError, match="not a path beneath the root"):
        engine.sync(bench.root, want, policy=bench.policy, source=bench.source(), state=bench.state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys", "node", "root", "store", "tree"]


def test_every_way_to_write_stops_at_a_link(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "real/file").write_text("x")
    os.symlink(outside, root / "way")
    os.symlink("real", root / "inner")
    before = snapshot(outside)
    metadata = {"uid": 1, "gid": 1, "mode": 0o777, "xattrs": ((b"user.x", b"y"),), "mtime_ns": 5}
    with Beneath(root) as tree:
        for way in (b"way", b"inner"):
            for act in (
                lambda way: tree.create(way + b"/new"),
                lambda way: tree.mkdir(way + b"/new"),
                lambda way: tree.symlink(b"x", way + b"/new"),
                lambda way: tree.mknod(way + b"/new", stat.S_IFIFO),
                lambda way: tree.link(b"real/file", way + b"/new"),
                lambda way: tree.link(way + b"/secret", b"real/new"),
                lambda way: tree.rename(b"real/file", way + b"/new"),
                lambda way: tree.exchange(b"real/file", way + b"/secret"),
                lambda way: tree.unlink(way + b"/secret"),
                lambda way: tree.rmdir(way + b"/b"),
                lambda way: tree.set_metadata(way + b"/secret", **metadata),
                lambda way: tree.set_mtime(way + b"/secret", 5),
                lambda way: tree.open(way + b"/secret"),
                lambda way: tree.open(way),
                lambda way: tree.lstat(way + b"/secret"),
                lambda way: tree.names_in(way),
                lambda way: tree.readlink(way + b"/x"),
                lambda way: tree.xattrs(way + b"/secret"),
                lambda way: tree.sync_filesystem(way),
            ):
                with pytest.raises(OSError, match=r"symbolic links|Not a directory") as caught:
                    act(way)
                assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR), act
        with pytest.raises(OSError, match="symbolic links"):
            tree.remove_tree(b"way/b")
        tree.set_metadata(b"way", uid=1, gid=1, mode=0o777, xattrs=(), mtime_ns=5)
        assert os.lstat(root / "way").st_mtime_ns == 5
        tree.remove_tree(b"way")
        tree.remove_tree(b"gone")
    assert snapshot(outside) == before
    assert (root / "real/file").read_text() == "x"


def test_old_kernels_walk_a_component_at_a_time(
    held: tuple[Bench, Path], outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, tree = held
    monkeypatch.setattr(beneath, "open_beneath", open_stepwise)
    before = snapshot(outside)
    (bench.root / "opt/a").rename(bench.root / "opt/was")
    os.symlink(outside, bench.root / "opt/a")
    assert bench.sync().in_sync
    assert snapshot(outside) == before
    assert rsync_differences(tree, bench.root) == []


def test_a_very_deep_tree(tmp_path: Path) -> None:
    """Deeper than PATH_MAX lets a path be: found as extra, and removed."""
    bench = make_bench(tmp_path)
    bench.commit(make_tree(tmp_path / "tree", files=1))
    bench.sync()
    here = os.open(bench.root, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert bench.sync().in_sync
    assert rsync_differences(tmp_path / "tree", bench.root) == []


def test_removing_a_tree_stays_on_its_file_system(tmp_path: Path) -> None:
    (tmp_path / "root/a/mnt").mkdir(parents=True)
    process.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "root/a/mnt"])
    try:
        (tmp_path / "root/a/mnt/keep").write_text("keep")
        with Beneath(tmp_path / "root") as tree, pytest.raises(OSError, match="another file system"):
            tree.remove_tree(b"a")
        assert (tmp_path / "root/a/mnt/keep").read_text() == "keep"
    finally:
        process.run(["umount", tmp_path / "root/a/mnt"])
