"""New nodes that take all of a version as one delta from nothing: sound, damaged, and where files are there already."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.image.commit import commit
from sis.image.deltas import making
from sis.image.deltas.delta import HEADER, NOTHING, name_of
from sis.image.deltas.making import Made
from sis.image.kept.store import KeptStore
from sis.image.verify import verify
from sis.sync.staging.source import documents_of
from tests.delta_trees import DeltaBench, make_versions
from tests.sync_trees import rsync_differences

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> DeltaBench:
    """Made once; each test empties the root."""
    where = tmp_path_factory.mktemp("whole")
    bench = DeltaBench(where, *make_versions(where, big_bytes=5 << 20))
    assert make_whole(bench, 0).reused == 0
    return bench


@pytest.fixture
def bench(prepared: DeltaBench) -> Iterator[DeltaBench]:
    """A root with nothing in it, and nothing remembered."""
    good = whole(prepared).read_bytes()
    shutil.rmtree(prepared.root)
    shutil.rmtree(prepared.bench.state, ignore_errors=True)
    prepared.root.mkdir()
    yield prepared
    whole(prepared).write_bytes(good)


def make_whole(bench: DeltaBench, number: int) -> Made:
    made = making.make(bench.bench.store, NOTHING, bench.ids[number], processes=1)
    assert made is not None
    return made


def whole(bench: DeltaBench, number: int = 0) -> Path:
    return bench.bench.store.path / name_of(NOTHING, bench.ids[number])


def test_everything_comes_in_one_file(bench: DeltaBench, tmp_path: Path) -> None:
    packs = bench.bench.store.path / "packs"
    hidden = packs.rename(tmp_path / "packs")
    try:
        outcome = bench.sync("image@1")
    finally:
        hidden.rename(packs)
    assert outcome.in_sync
    assert outcome.notices == ()
    assert rsync_differences(bench.one, bench.root) == []
    assert outcome.totals.bytes_delta == outcome.totals.bytes_fetched > 0
    assert outcome.totals.bytes_delta < whole(bench).stat().st_size
    assert KeptStore(bench.store, documents_of(bench.bench.state)).applied == bench.ids[0]


def test_the_documents_come_with_it(bench: DeltaBench, tmp_path: Path) -> None:
    version = bench.bench.store.version(bench.ids[0])
    store = bench.bench.store.path
    for name in (f"versions/{bench.ids[0]}", f"manifests/{version.manifest}", f"tables/{version.table}"):
        shutil.copy(store / name, tmp_path / name.partition("/")[0])
        (store / name).unlink()
    try:
        assert bench.sync("image@1").in_sync
    finally:
        for name in (f"versions/{bench.ids[0]}", f"manifests/{version.manifest}", f"tables/{version.table}"):
            shutil.copy(tmp_path / name.partition("/")[0], store / name)


@pytest.mark.parametrize("where", [0, HEADER.size - 3, HEADER.size + 40, 0.3, 0.6, 0.999])
def test_damaged_anywhere_never_a_wrong_byte(bench: DeltaBench, where: float) -> None:
    data = bytearray(whole(bench).read_bytes())
    data[int(where * len(data)) if isinstance(where, float) else where] ^= 4
    whole(bench).write_bytes(data)
    outcome = bench.sync("image@1")
    assert outcome.in_sync
    assert outcome.notices
    assert rsync_differences(bench.one, bench.root) == []


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_cut_off_anywhere(bench: DeltaBench, keep: float) -> None:
    data = whole(bench).read_bytes()
    whole(bench).write_bytes(data[: int(len(data) * keep)])
    assert bench.sync("image@1").in_sync
    assert rsync_differences(bench.one, bench.root) == []


def test_the_delta_of_another_version_is_refused(bench: DeltaBench) -> None:
    whole(bench, 1).unlink(missing_ok=True)
    make_whole(bench, 1)
    whole(bench).write_bytes(whole(bench, 1).read_bytes())
    outcome = bench.sync("image@1")
    assert outcome.in_sync
    assert rsync_differences(bench.one, bench.root) == []


def test_what_is_there_already_is_not_fetched(bench: DeltaBench) -> None:
    bench.sync("image@1")
    shutil.rmtree(bench.bench.state)
    (bench.root / "usr/lib/libbig.so").unlink()
    outcome = bench.sync("image@1")
    assert rsync_differences(bench.one, bench.root) == []
    assert outcome.totals.bytes_fetched < 600_000


def test_the_next_version_is_mostly_copied_and_verify_knows_it(bench: DeltaBench) -> None:
    whole(bench, 1).unlink(missing_ok=True)
    two = make_whole(bench, 1)
    assert two.before == "nothing"
    assert verify(bench.bench.store).problems == ()
    assert bench.sync("image@2").in_sync
    assert rsync_differences(bench.two, bench.root) == []


def test_work_of_one_delta_serves_the_next(bench: DeltaBench, tmp_path: Path) -> None:
    store = bench.bench.store
    first = making.make(store, *bench.ids, processes=1)
    assert first is None or first.reused == 0
    three = tmp_path / "3"
    shutil.copytree(bench.two, three, symlinks=True, ignore=lambda _, names: [n for n in names if "fifo" in n])
    (three / "etc/new").write_bytes(b"other")
    third = commit(store, "image", three).version_id
    made = making.make(store, bench.ids[0], third, processes=1)
    assert made is not None
    assert made.reused > made.items // 2
    bench.sync("image@1")
    assert bench.sync("image@3").totals.bytes_delta > 0
    assert rsync_differences(three, bench.root, "fifo", "fifo2", "null", "loop") == []
