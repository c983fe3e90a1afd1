"""Damaged stores, servers that break off, full disks: the old files stay, the message says why, the next run heals."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from sis.errors import Corrupt, Locked, NoSpace, NotFound, Refused, SisError, Unreachable
from sis.image.store.patience import Limits
from sis.image.store.remote import HttpStore
from sis.sync import engine, mend
from sis.sync.model import Outcome
from sis.sync.staging.source import ChunkSource
from sis.system import process
from tests.store_servers import Handler, serving
from tests.sync_trees import Bench, age, loop_mount, make_bench, rsync_differences

pytestmark = pytest.mark.root


def versions(where: Path, *, files: int = 12, size_bytes: int = 30_000) -> tuple[Bench, Path]:
    """A root at image@1, and the tree of image@2 in which every file has other content."""
    bench = make_bench(where)
    for number in (1, 2):
        rng = random.Random(number)
        tree = where / str(number)
        (tree / "d").mkdir(parents=True)
        for name in range(files):
            (tree / "d" / str(name)).write_bytes(rng.randbytes(size_bytes))
        age(tree)
        bench.commit(tree)
    bench.sync("image@1")
    return bench, where / "2"


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def packs_of(bench: Bench, reference: str) -> list[Path]:
    return [bench.store.path / "packs" / pack.digest.hex() for pack in bench.source(reference).table.packs]


def flip_bit(pack: Path) -> None:
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 4
    pack.write_bytes(data)


def cut_off(pack: Path) -> None:
    os.truncate(pack, pack.stat().st_size // 2)


def take_away(pack: Path) -> None:
    pack.unlink()


def empty(pack: Path) -> None:
    os.truncate(pack, 0)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_bit, r"pack [0-9a-f]{64}, offset \d+, chunk [0-9a-f]{12}: its content does not match its digest"),
        (cut_off, r"packs/[0-9a-f]{64} is cut off at \d+ bytes"),
        (empty, r"packs/[0-9a-f]{64} is cut off at \d+ bytes"),
        (take_away, r"packs/[0-9a-f]{64} is missing from the store"),
    ],
)
def test_a_damaged_pack_changes_nothing(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    bench, tree = versions(tmp_path)
    before = contents(bench.root)
    (pack,) = set(packs_of(bench, "image@2")) - set(packs_of(bench, "image@1"))
    good = pack.read_bytes()
    damage(pack)
    with pytest.raises(Corrupt, match=said):
        bench.sync("image@2")
    assert contents(bench.root / "d") == {name.removeprefix("d/"): data for name, data in before.items()}
    pack.write_bytes(good)
    assert bench.sync("image@2").in_sync
    assert rsync_differences(tree, bench.root) == []
    assert not (bench.root / ".sis-stage").exists()


def test_what_was_fetched_before_a_fault_is_not_fetched_again(tmp_path: Path) -> None:
    bench, tree = versions(tmp_path, files=200)
    whole = bench.sync("image@2", dry_run=True).totals.bytes_fetched
    (pack,) = set(packs_of(bench, "image@2")) - set(packs_of(bench, "image@1"))
    good = pack.read_bytes()
    cut_off(pack)
    with pytest.raises(Corrupt):
        bench.sync("image@2")
    pack.write_bytes(good)
    outcome = bench.sync("image@2")
    assert outcome.totals.bytes_fetched < 0.9 * whole
    assert outcome.totals.bytes_local > 0.1 * whole
    assert rsync_differences(tree, bench.root) == []


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[tuple[Bench, Path, Callable[..., Outcome], object]]:
    """A root synced over HTTP from a server that can be told to misbehave."""
    bench, tree = versions(tmp_path, files=60)
    with serving(bench.store.path) as server:
        server.only = "packs/"
        stores = []

        def sync(attempts: int = 3) -> Outcome:
            store = HttpStore(server.url, limits=Limits(connect_s=2, read_s=2, attempts=attempts, backoff_s=0.01))
            stores.append(store)
            local = bench.source("image@2")
            source = ChunkSource.of(store, local.content.manifest, local.table)
            want = bench.want("image@2")
            return engine.sync(bench.root, want, policy=bench.policy, source=source, state=bench.state)

        try:
            yield bench, tree, sync, server
        finally:
            for store in stores:
                store.close()


def break_off(handler: Handler, data: bytes) -> None:
    body, headers, status = handler.part(data)
    handler.send(status, body[: len(body) // 3], headers, length=len(body))
    handler.reset()


def other_bytes(handler: Handler, data: bytes) -> None:
    body, headers, status = handler.part(data)
    handler.send(status, bytes(len(body)), headers)


def too_short(handler: Handler, data: bytes) -> None:
    body, headers, status = handler.part(data)
    handler.send(status, body[:-100], headers)


def fails(handler: Handler, data: bytes) -> None:
    handler.send(503, b"overloaded")


@pytest.mark.parametrize("misbehave", [break_off, other_bytes, too_short, fails])
def test_one_bad_answer_is_survived(remote: tuple, misbehave: Callable[[Handler, bytes], None]) -> None:
    bench, tree, sync, server = remote
    server.answers = [misbehave]
    assert sync(attempts=4).in_sync
    assert rsync_differences(tree, bench.root) == []


@pytest.mark.parametrize(
    ("misbehave", "fault", "said"),
    [
        (fails, Unreachable, r"HTTP 503 \(3 attempts\)"),
        (other_bytes, Corrupt, r"its content does not match its digest|does not decompress|states another size"),
        (too_short, SisError, r"attempts|shorter|early"),
    ],
)
def test_a_server_that_stays_bad_changes_nothing(
    remote: tuple, misbehave: Callable[[Handler, bytes], None], fault: type[SisError], said: str
) -> None:
    bench, tree, sync, server = remote
    before = contents(bench.root)
    server.answers = [misbehave] * 500
    with pytest.raises(fault, match=said):
        sync()
    after = contents(bench.root)
    assert {name: data for name, data in after.items() if not name.startswith(".sis-stage")} == before
    server.answers = []
    assert sync().in_sync
    assert rsync_differences(tree, bench.root) == []


def test_a_server_gone_in_the_middle_is_told_and_the_next_run_goes_on(remote: tuple) -> None:
    bench, tree, sync, server = remote
    server.answers = [break_off] + [lambda handler, data: handler.reset()] * 500
    with pytest.raises(Unreachable, match=r"attempts"):
        sync(attempts=2)
    assert (bench.root / "d/0").read_bytes() == (tree.parent / "1/d/0").read_bytes()
    server.answers = []
    outcome = sync()
    assert outcome.totals.bytes_local > 0
    assert rsync_differences(tree, bench.root) == []
    assert not any(thread.name.startswith(("fetch-", "decode")) for thread in threading.enumerate())


def test_scattered_edits_of_a_large_file_move_little(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    tree = tmp_path / "tree"
    tree.mkdir()
    size = 64 << 20
    (tree / "large").write_bytes(random.Random(7).randbytes(size))
    age(tree)
    bench.commit(tree)
    bench.sync()
    rng = random.Random(8)
    before = (bench.root / "large").stat()
    with open(bench.root / "large", "r+b") as file:
        for _ in range(20):
            file.seek(rng.randrange(size))
            file.write(b"edited")
        file.truncate(size)
    os.utime(bench.root / "large", ns=(before.st_atime_ns, before.st_mtime_ns))
    outcome = bench.sync()
    assert outcome.totals.bytes_fetched < size / 20
    assert rsync_differences(tree, bench.root) == []
    data = (bench.root / "large").read_bytes()
    (bench.root / "large").write_bytes(data[:1000] + b"37 bytes put in near the beginning...." + data[1000:])
    outcome = bench.sync()
    assert 0 < outcome.totals.bytes_fetched < 1 << 20
    assert rsync_differences(tree, bench.root) == []


def test_a_local_source_that_changed_after_the_plan_is_fetched_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, tree = versions(tmp_path)
    bench.sync("image@2")
    (bench.root / "d/0").rename(bench.root / "d/moved")
    really = mend.make_ready

    def spoil_first(*given: object) -> int:
        (bench.root / "d/moved").write_bytes(b"gone")
        return really(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(mend, "make_ready", spoil_first)
    planned = bench.sync("image@2", dry_run=True).totals
    assert planned.bytes_fetched == 0
    outcome = bench.sync("image@2")
    assert outcome.totals.bytes_fetched > 0
    assert rsync_differences(tree, bench.root) == []


# Room.


def test_a_disk_too_small_is_refused_before_the_first_change(tmp_path: Path) -> None:
    bench, _tree = versions(tmp_path, files=40, size_bytes=200_000)
    with loop_mount(tmp_path / "disk", size_bytes=12 << 20, options=("-m", "0")) as disk:
        bench.root = disk / "root"
        bench.root.mkdir()
        bench.sync("image@1")
        before = contents(bench.root)
        with pytest.raises(NoSpace, match="not enough space, nothing was changed") as caught:
            bench.sync("image@2")
        assert "needs 8." in caught.value.details[0]
        assert "available" in caught.value.details[0]
        assert contents(bench.root) == before
        assert not (bench.root / ".sis-stage").exists()
        assert bench.sync("image@2", dry_run=True).changes


def test_the_prediction_is_close(tmp_path: Path) -> None:
    """What is said to be needed is what is then taken, within five percent."""
    bench, _tree = versions(tmp_path, files=300, size_bytes=20_000)
    for filesystem, size in (("ext4", 64 << 20), ("xfs", 320 << 20)):
        with loop_mount(tmp_path / "disk", filesystem=filesystem, size_bytes=size) as disk:
            bench.root, bench.state = disk / "root", tmp_path / filesystem
            bench.root.mkdir()
            os.sync()
            free = os.statvfs(disk)
            predicted = _predicted_by(bench)
            os.sync()
            taken = (free.f_bfree - os.statvfs(disk).f_bfree) * free.f_frsize
            assert abs(predicted - taken) < 0.05 * taken, (filesystem, predicted, taken)


def _predicted_by(bench: Bench) -> int:
    needed: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mend, "must_fit", lambda _tree, needs, _stage: needed.append(needs[0].size_bytes))
        bench.sync("image@2")
    return needed[0]


def test_no_inodes_left_is_refused(tmp_path: Path) -> None:
    bench, _tree = versions(tmp_path, files=100, size_bytes=10)
    (tmp_path / "disk").mkdir()
    process.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=60,size=8m", "tmpfs", tmp_path / "disk"])
    try:
        bench.root = tmp_path / "disk"
        with pytest.raises(NoSpace) as caught:
            bench.sync("image@1")
        assert "inodes, " in caught.value.details[0]
        assert list(bench.root.iterdir()) == []
    finally:
        process.run(["umount", tmp_path / "disk"])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_on_the_way_keeps_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    bench, tree = versions(tmp_path)
    before = contents(bench.root)
    really, calls = os.pwritev, iter(range(1000))

    def pwritev(handle: int, pieces: Sequence[bytes], offset: int) -> int:
        if next(calls) == 5:
            raise OSError(error, os.strerror(error))
        return really(handle, pieces, offset)

    with monkeypatch.context() as patch:
        patch.setattr("sis.sync.staging.hands.os.pwritev", pwritev)
        with pytest.raises(NoSpace if error == errno.ENOSPC else SisError, match=os.strerror(error)) as caught:
            bench.sync("image@2")
    assert "the files that were there are intact" in str(caught.value)
    assert contents(bench.root) == before
    assert not (bench.root / ".sis-stage").exists()
    assert bench.sync("image@2").in_sync
    assert rsync_differences(tree, bench.root) == []


def test_a_really_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preflight switched off: ENOSPC comes from the kernel."""
    bench, _tree = versions(tmp_path, files=40, size_bytes=200_000)
    with loop_mount(tmp_path / "disk", size_bytes=12 << 20, options=("-m", "0")) as disk:
        bench.root = disk / "root"
        bench.root.mkdir()
        bench.sync("image@1")
        before = contents(bench.root)
        monkeypatch.setattr(mend, "must_fit", lambda *_: None)
        with pytest.raises(NoSpace, match="No space left on device"):
            bench.sync("image@2")
        assert contents(bench.root) == before


def test_a_read_only_root_is_refused(tmp_path: Path) -> None:
    bench, _tree = versions(tmp_path)
    process.run(["mount", "--bind", bench.root, bench.root])
    try:
        process.run(["mount", "-o", "remount,bind,ro", bench.root])
        with pytest.raises(Refused, match="Read-only file system") as caught:
            bench.sync("image@2")
        assert "mount -o remount,rw" in str(caught.value)
    finally:
        process.run(["umount", bench.root])


def test_an_immutable_file_is_named(tmp_path: Path) -> None:
    bench, _tree = versions(tmp_path)
    process.run(["chattr", "+i", bench.root / "d/3"])
    try:
        with pytest.raises(Refused, match="Operation not permitted") as caught:
            bench.sync("image@2")
        assert "chattr -i" in str(caught.value)
    finally:
        process.run(["chattr", "-i", bench.root / "d/3"])
    assert bench.sync("image@2").in_sync


# Two at once.


def test_a_second_sync_of_one_root_is_told_who_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, _tree = versions(tmp_path)
    told: list[SisError] = []
    really = mend.make_ready

    def meanwhile(*given: object) -> int:
        for state in (bench.state, tmp_path / "elsewhere"):
            with pytest.raises(Locked) as caught:
                engine.sync(bench.root, bench.want(), policy=bench.policy, source=bench.source(), state=state)
            told.append(caught.value)
        return really(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(mend, "make_ready", meanwhile)
    assert bench.sync("image@2").in_sync
    assert f"process {os.getpid()}" in told[0].message
    assert f"sync of {bench.root}" in told[0].message
    assert told[1].message == f"another sync of {bench.root} is under way"


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    bench, _tree = versions(tmp_path)
    shutil.rmtree(bench.root)
    with pytest.raises(NotFound, match="no such directory"):
        bench.sync("image@2")


def test_a_store_that_stalls_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pack cannot be read while another never comes: the fault is told at once."""
    bench, tree = versions(tmp_path)
    shutil.copytree(tmp_path / "1/d", tree / "e")
    bench.commit(tree)
    bench.root, bench.state = tmp_path / "fresh", tmp_path / "other"
    bench.root.mkdir()
    monkeypatch.setattr("sis.sync.staging.crew._LEAVE_AFTER_S", 0.1)
    release = threading.Event()
    asked: list[str] = []
    came_back: list[str] = []

    def read(name: str, offset: int, length: int) -> Iterator[bytes]:
        asked.append(name)
        if len(asked) == 1:
            release.wait(240)
            came_back.append(name)
        raise Unreachable("gone")
        yield b""

    source = bench.source()
    assert len(source.table.packs) == 2
    monkeypatch.setattr(source.store, "read", read)
    with pytest.raises(Unreachable, match="gone"):
        engine.sync(bench.root, bench.want(), policy=bench.policy, source=source, state=bench.state)
    assert came_back == []
    release.set()
    assert len(asked) == 2
