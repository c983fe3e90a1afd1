"""The power goes while an install or a resync writes: every path is old or new, and the next run converges.

The last test shows that the others can fail.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sis.errors import SisError
from sis.sync import apply
from sis.system import process
from sis.system.beneath import Beneath
from tests.crash.power_cuts import Recorded, mounted, record
from tests.crash.test_sync_kill import State, must_be_old_or_new, states
from tests.sync_trees import Bench, make_bench, make_tree, rsync_differences

pytestmark = pytest.mark.root

CUTS = 25
SECONDS = 20.0
LEAST_CUTS = 8


@dataclass(frozen=True)
class FileSystem:
    """One the runs are tried on: how it is made, and how it is mounted while a run writes and after the cut."""

    mkfs: tuple[str, ...]
    size_bytes: int
    options: str = "rw"
    worst: str = "rw"


EXT4 = FileSystem(
    ("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"), 64 << 20, worst="noauto_da_alloc,commit=1"
)
"""Without the favours it does to programs that rename without fsync; its journal goes ahead of their data."""
XFS = FileSystem(("mkfs.xfs", "-q"), 300 << 20, options="nouuid", worst="nouuid")
"""The smallest there is. One mounted elsewhere with the same name (an earlier cut's) would keep the next away."""


@dataclass(frozen=True)
class Case:
    """A disk before a run; `old` and `new` are its root's paths before and after, `tree` what it is to be equal to."""

    kind: FileSystem
    bench: Bench
    disk: Path
    old: dict[bytes, State]
    new: dict[bytes, State]
    tree: Path


def made(tmp_path: Path, kind: FileSystem, *, installed: bool) -> Case:
    """A store with two versions, and a disk: with the first installed, or new."""
    trees = [make_tree(tmp_path / str(number), files=40, seed=number) for number in (1, 2)]
    (trees[0] / "etc/swap").write_text("was a file")
    (trees[1] / "etc/swap").mkdir()
    bench = make_bench(tmp_path, root=tmp_path / "nowhere")
    for tree in trees:
        bench.commit(tree)
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        file.truncate(kind.size_bytes)
    process.run([*kind.mkfs, disk])
    with mounted(disk, tmp_path / "first", options=kind.options) as mount:
        here = held(bench, mount)
        if installed:
            here.sync("image@1")
    return Case(kind, bench, disk, states(trees[0]) if installed else {}, states(trees[1]), trees[1])


def held(bench: Bench, mount: Path) -> Bench:
    """The bench with root and state on a mounted disk, as on a node."""
    (mount / "root").mkdir(exist_ok=True)
    (mount / "root").chmod(0o755)
    return Bench(bench.store, mount / "root", mount / "state", bench.policy)


@contextlib.contextmanager
def booted(case: Case, folder: Path, recorded: Recorded, at: int) -> Iterator[Bench]:
    """The bench on a disk as a cut before event `at` left it: mounting replays the journal, as the next boot does."""
    # A name of its own each time: a loop device that is still being let go of would show what it remembers.
    path = Path(tempfile.mkstemp(dir=folder, suffix=".img")[1])
    recorded.after_cut(at, random.Random(at), path)
    with mounted(path, folder / "cut", options=case.kind.options) as mount:
        yield held(case.bench, mount)
    # Whoever made a mount namespace meanwhile still has it mounted: its memory is to be free all the same.
    os.truncate(path, 0)
    path.unlink()


@pytest.fixture
def fast() -> Iterator[Path]:
    """A folder in memory: a cut costs a copy of the disk and a mount."""
    folder = Path("/dev/shm") / f"sis-cuts-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [EXT4, XFS], ids=["ext4", "xfs"])
@pytest.mark.parametrize("installed", [True, False], ids=["resync", "install"])
def test_a_cut_anywhere_leaves_old_or_new_and_the_next_run_converges(
    installed: bool, kind: FileSystem, tmp_path: Path, fast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "SHARED_FROM", 1)
    case = made(tmp_path, kind, installed=installed)
    recorded = record(case.disk, fast / "run", lambda mount: synced(case, mount), options=kind.worst)
    flushes = sum(event.data is None for event in recorded.events)
    assert flushes >= 3
    rng = random.Random(4)
    deadline = time.monotonic() + SECONDS
    cuts = 0
    for at in (len(recorded.events), *(rng.randrange(len(recorded.events)) for _ in range(CUTS))):
        if cuts >= LEAST_CUTS and time.monotonic() > deadline:
            break
        try:
            with booted(case, fast, recorded, at) as here:
                must_be_old_or_new(here.root, case.old, case.new)
                assert here.sync("image@2").in_sync
                assert rsync_differences(case.tree, here.root) == []
                assert here.sync("image@2").changes == ()
                assert not (here.root / ".sis-stage").exists()
        except (AssertionError, SisError) as error:
            raise AssertionError(f"cut before event {at} of {len(recorded.events)}: {error}") from error
        cuts += 1
    print(f"{cuts} cuts over {len(recorded.events)} events with {flushes} flushes")


@pytest.mark.timeout(600)
def test_a_run_that_does_not_flush_is_caught(fast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with every fsync taken out: were this to pass, the test above would prove nothing."""
    case = made(tmp_path, EXT4, installed=True)

    def unsafe(mount: Path) -> None:
        synced(case, mount)
        time.sleep(3)  # the journal is written meanwhile, the data is not
        os.sync()

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        patched.setattr(Beneath, "sync_filesystem", lambda *_: None)
        recorded = record(case.disk, fast / "run", unsafe, options=EXT4.worst)
    for at in range(len(recorded.events), 0, -1):
        try:
            with booted(case, fast, recorded, at) as here:
                must_be_old_or_new(here.root, case.old, case.new)
        except (AssertionError, SisError):
            return
    pytest.fail("no cut found that nothing is flushed")


def synced(case: Case, mount: Path) -> None:
    held(case.bench, mount).sync("image@2")
