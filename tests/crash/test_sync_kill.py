"""Kill a sync anywhere and run it again: every path was old or new, and it converges."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.sync import apply
from sis.sync.staging import ready
from tests.sync_trees import Bench, loop_mount, make_bench, make_tree, rsync_differences

pytestmark = pytest.mark.root

State = tuple[object, ...]

RANDOM_KILLS = 100
RANDOM_SECONDS = 40.0
SYSCALLS = (
    "openat,mkdirat,symlinkat,mknodat,linkat,renameat,renameat2,rename,unlinkat,write,pwrite64,copy_file_range,ftruncate,"
    "chown,chmod,fchown,fchmod,setxattr,fsetxattr,utimensat,fsync,syncfs"
)
SAMPLED_KILLS = 24
_SHADOWS = "trusted.SGI_ACL_"
"""XFS shows an ACL twice."""


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some files are begun while others are written already, so that it is killed between portions too."""
    monkeypatch.setattr(ready, "FIRST_PORTION", 16)
    monkeypatch.setattr(ready, "PORTION_MAX", 32)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Bench, Path, Path]]:
    """Two trees that differ in many ways, and a root on a disk of its own that is equal to the first."""
    trees = []
    for number in (1, 2):
        tree = make_tree(tmp_path / str(number), files=160, seed=number)
        trees.append(tree)
    (trees[1] / "opt/a/tool3").unlink()
    os.symlink("x", trees[1] / "opt/a/tool3")
    (trees[1] / "etc/swap").mkdir()
    (trees[0] / "etc/swap").write_text("was a file")
    (trees[1] / "var/log/dir").write_text("was a directory")
    (trees[0] / "var/log/dir").mkdir()
    (trees[0] / "var/log/dir/x").write_text("x")
    with loop_mount(tmp_path / "disk", size_bytes=96 << 20) as disk:
        bench = make_bench(tmp_path, root=disk / "root")
        for tree in trees:
            bench.commit(tree)
        bench.sync("image@1")
        yield bench, trees[0], trees[1]


def argv(bench: Bench, reference: str) -> list[str]:
    given = (bench.store.path, reference, bench.root, bench.state)
    return [sys.executable, "-m", "tests.crash.sync_once", *map(str, given)]


def states(root: Path) -> dict[bytes, State]:
    """By path: what is there, content and metadata."""
    top = os.fsencode(root)
    seen: dict[bytes, State] = {}
    for path, directories, files in os.walk(top):
        for inner in (*directories, *files):
            at = path + b"/" + inner
            status = os.lstat(at)
            content = b""
            if stat.S_ISREG(status.st_mode):
                with open(at, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(at)
            names = sorted(name for name in os.listxattr(at, follow_symlinks=False) if not name.startswith(_SHADOWS))
            xattrs = tuple((name, os.getxattr(at, name, follow_symlinks=False)) for name in names)
            seen[at[len(top) + 1 :]] = (status.st_mode, status.st_uid, status.st_gid, content, xattrs)
        directories[:] = [name for name in directories if not os.path.islink(path + b"/" + name)]
    return seen


def must_be_old_or_new(root: Path, old: dict[bytes, State], new: dict[bytes, State]) -> None:
    here = states(root)
    for path in {*old, *new, *here}:
        if path == b".sis-stage" or path.startswith(b".sis-stage/"):
            continue
        assert here.get(path) in (old.get(path), new.get(path)), path


def killed_after(bench: Bench, reference: str, seconds: float) -> bool:
    """Sync in a child that is killed after `seconds`. Whether it was still at work."""
    child = os.fork()
    if child == 0:
        try:
            bench.sync(reference)
        except BaseException:  # noqa: BLE001 - the child must not come back into the test
            os._exit(1)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sigkill_at_random_moments(held: tuple[Bench, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, one, two = held
    sides = [(one, "image@1", states(one)), (two, "image@2", states(two))]
    started = time.monotonic()
    bench.sync("image@2")
    whole = time.monotonic() - started
    rng = random.Random(1)
    side, kills, partial = 0, 0, 0
    deadline = time.monotonic() + RANDOM_SECONDS
    while kills < RANDOM_KILLS and time.monotonic() < deadline:
        tree, reference, new = sides[side]
        old = sides[1 - side][2]
        monkeypatch.setattr(ready, "MUCH_FILES", 0 if kills % 2 else 1 << 30)
        monkeypatch.setattr(apply, "SHARED_FROM", 1 if kills % 4 < 2 else 1 << 30)
        if killed_after(bench, reference, rng.uniform(0.1, 1.1) * whole):
            kills += 1
            must_be_old_or_new(bench.root, old, new)
            here = states(bench.root)
            partial += any(here.get(path) == old.get(path) for path in differing(old, new)) and any(
                here.get(path) == new.get(path) for path in differing(old, new)
            )
        else:
            whole *= 0.9  # measured on a busier machine than it is now
        if kills % 4 == 3:
            bench.sync(reference)
            assert rsync_differences(tree, bench.root) == []
        if states(bench.root) == new:
            side = 1 - side
    assert kills >= RANDOM_KILLS // 10
    tree, reference, _ = sides[side]
    assert bench.sync(reference).in_sync
    assert rsync_differences(tree, bench.root) == []
    assert bench.sync(reference).changes == ()
    assert not (bench.root / ".sis-stage").exists()
    print(f"{kills} kills, {partial} in the middle of placing")


def differing(old: dict[bytes, State], new: dict[bytes, State]) -> list[bytes]:
    return [path for path in {*old, *new} if old.get(path) != new.get(path)]


@pytest.mark.timeout(600)
def test_sigkill_at_sampled_system_calls(held: tuple[Bench, Path, Path], tmp_path: Path) -> None:
    """The n-th call that changes anything, for n sampled over all of them."""
    bench, one, two = held
    old, new = states(one), states(two)
    log = tmp_path / "trace"
    trace = ["strace", "-f", "-qq", "-o", str(log)]
    done = subprocess.run(
        [*trace, "-e", f"trace={SYSCALLS}", *argv(bench, "image@2")], capture_output=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr.decode()
    calls = dict.fromkeys(SYSCALLS.split(","), 0)
    for name in re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE):
        calls[name] = calls.get(name, 0) + 1
    points = [(name, number) for name, count in calls.items() if name != "openat" for number in range(1, count + 1)]
    assert len(points) > 500
    names = sorted({name for name, _ in points})
    rng = random.Random(2)
    chosen = [(name, rng.randint(1, calls[name])) for name in names] + rng.sample(points, SAMPLED_KILLS)
    killed = 0
    for name, number in chosen[:SAMPLED_KILLS]:
        bench.sync("image@1")
        inject = f"inject={name}:signal=SIGKILL:when={number}"
        done = subprocess.run(
            [*trace, "-e", f"trace={name}", "-e", inject, *argv(bench, "image@2")],
            capture_output=True,
            cwd=Path(__file__).parents[2],
        )
        killed += done.returncode != 0
        must_be_old_or_new(bench.root, old, new)
        assert bench.sync("image@2").in_sync
        assert rsync_differences(two, bench.root) == [], (name, number)
        assert not (bench.root / ".sis-stage").exists()
    assert killed > SAMPLED_KILLS // 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("is_much", [False, True])
def test_sigkill_of_a_first_sync(
    held: tuple[Bench, Path, Path], monkeypatch: pytest.MonkeyPatch, is_much: bool
) -> None:
    """Whole new directories are made ready beside the root: none of their names appears before all is in them.

    What is much is made ready by processes of its own, which end with the one that is killed.
    """
    monkeypatch.setattr(ready, "MUCH_FILES", 0 if is_much else 1 << 30)
    bench, _, two = held
    new = states(two)
    bench.root, bench.state = bench.root.parent / "fresh", bench.state.parent / "fresh"
    rng = random.Random(3)
    resumed, whole = 0, 0.0
    for attempt in range(4):
        bench.root.mkdir()
        started = time.monotonic()
        if attempt:
            for _ in range(4):
                killed = killed_after(bench, "image@2", rng.uniform(0.05, 0.7) * whole)
                must_be_old_or_new(bench.root, {}, new)
                resumed += killed
                if not killed:
                    whole *= 0.7  # measured on a busier machine than it is now
                    break
        assert bench.sync("image@2").in_sync
        whole = whole or time.monotonic() - started
        assert rsync_differences(two, bench.root) == []
        assert bench.sync("image@2").changes == ()
        assert not (bench.root / ".sis-stage").exists()
        shutil.rmtree(bench.root)
        shutil.rmtree(bench.state)
    assert resumed
