"""Which old self a new file has, what items are made of, and what a node keeps."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from sis.errors import UsageFault
from sis.image.commit import commit
from sis.image.deltas import making, patches
from sis.image.deltas.delta import NOTHING
from sis.image.deltas.pairs import Pairing
from sis.image.deltas.plan import WHOLE_BYTES_MAX, plan_whole
from sis.image.documents.tables import novel_chunks
from sis.image.kept.store import KeptStore
from sis.image.model import Chunk, Entry, Kind, Manifest, Ref, pack_chunks
from sis.image.prune import apply, plan
from sis.image.store.local import LocalStore
from sis.image.verify import verify
from tests.delta_trees import items, rows


def entry(path: str, *chunks: tuple[int, int]) -> Entry:
    """A file of chunks given as (name of the content, size)."""
    runs = [Chunk(bytes([number]) * 32, size) for number, size in chunks]
    return Entry(path.encode(), Kind.FILE, 0o644, 0, 0, 0, sum(size for _, size in chunks), pack_chunks(runs))


def tree(*entries: Entry) -> Manifest:
    root = Entry(b".", Kind.DIR, 0o755, 0, 0, 0)
    return Manifest((root, *sorted(entries, key=lambda each: each.path)))


def built_twice(rng: random.Random, calls: int) -> tuple[bytes, bytes]:
    """A program, and the same with all it calls a little further behind."""
    code = [(b"\0\0" + rng.randbytes(14), rng.randrange(1 << 24)) for _ in range(calls)]
    old, new = (b"".join(each + (to + by).to_bytes(4, "little") for each, to in code) for by in (0, 64))
    return old, new


def old_self(old: Manifest, new: Manifest, path: str) -> str | None:
    wanted = next(each for each in new.entries if each.path == path.encode())
    number = Pairing(rows(old), rows(new), [new.entries.index(wanted)]).old_self(wanted)
    return None if number is None else old.entries[number].path.decode()


def test_the_same_path_comes_first() -> None:
    old = tree(entry("a", (1, 100)), entry("b", (2, 100)))
    new = tree(entry("a", (2, 100), (3, 5)))
    assert old_self(old, new, "a") == "a"


def test_shared_content_comes_before_a_like_name() -> None:
    old = tree(entry("x/lib1.so", (1, 100)), entry("y/other", (2, 900), (3, 50)), entry("z/less", (3, 50)))
    new = tree(entry("x/lib2.so", (2, 900), (4, 50)))
    assert old_self(old, new, "x/lib2.so") == "y/other"


def test_modules_are_paired_across_kernel_releases() -> None:
    old = tree(
        entry("lib/modules/6.1.0-50-amd64/kernel/net/e1000.ko", (1, 100)),
        entry("lib/modules/6.1.0-50-amd64/kernel/net/e2000.ko", (2, 40)),
    )
    new = tree(entry("lib/modules/6.1.0-56-amd64/kernel/net/e1000.ko", (3, 101)))
    assert old_self(old, new, new.entries[1].path.decode()) == old.entries[1].path.decode()


def test_names_and_sizes_come_last() -> None:
    old = tree(entry("one/tool", (1, 100)), entry("two/tool", (2, 180)), entry("three/tool", (3, 9000)))
    assert old_self(old, tree(entry("four/tool", (4, 170))), "four/tool") == "two/tool"
    assert old_self(old, tree(entry("four/tool", (4, 100_000))), "four/tool") is None
    assert old_self(old, tree(entry("four/nothing", (4, 100))), "four/nothing") is None


def test_a_file_that_is_gone_is_a_better_old_self_than_one_that_stays() -> None:
    old = tree(entry("a/f1", (1, 100)), entry("a/f2", (2, 100)))
    new = tree(entry("a/f1", (1, 100)), entry("a/f3", (3, 100)))
    assert old_self(old, new, "a/f3") == "a/f2"


def test_long_files_are_patched_from_where_the_new_bytes_lie() -> None:
    pieces = [(number, 100_000) for number in range(1, 200)]
    old = tree(entry("big", *pieces))
    assert old.entries[1].size > WHOLE_BYTES_MAX
    edited = [*pieces[:120], (250, 90_000), *pieces[121:]]
    (work,) = items(old, tree(entry("big", *edited)), lambda path: True)
    (stretch,) = work.base
    assert stretch.offset <= 120 * 100_000
    assert stretch.offset + stretch.length >= 121 * 100_000
    assert stretch.length < 200_000


def test_items_from_nothing_are_in_solid_runs() -> None:
    rng = random.Random(1)
    files = []
    for number in range(6000):
        runs = [Chunk(rng.randbytes(32), rng.randrange(1, 60_000)) for _ in range(3)]
        files.append(Entry(b"%06d" % number, Kind.FILE, 0o644, 0, 0, 0, sum(it[1] for it in runs), pack_chunks(runs)))
    whole = tree(*files)
    runs_found = list(plan_whole(novel_chunks(tree(), whole)))
    works = [work for run in runs_found for work in run]
    assert [chunk.digest for work in works for chunk in work.chunks] == [
        chunk.digest for entry in whole.entries for chunk in entry.each_chunk()
    ]
    assert all(1 << 20 <= work.output_bytes < 2 << 20 for work in works[:-1])
    lengths = [sum(work.output_bytes for work in run) for run in runs_found]
    assert len(lengths) == 4
    assert max(lengths) - min(lengths) < 8 << 20
    assert list(plan_whole(())) == []


def test_what_nodes_keep_as_their_own_shares_no_item() -> None:
    old = tree(*(entry(f"f{number}", (number, 100)) for number in range(1, 5)))
    new = tree(*(entry(f"f{number}", (number + 50, 100)) for number in range(1, 5)))
    assert len(items(old, new, lambda path: True)) == 1
    assert len(items(old, new, lambda path: path != b"f2")) == 3


def test_the_smallest_way_is_taken() -> None:
    rng = random.Random(1)
    noise = rng.randbytes(100_000)
    assert patches.encode(b"", noise)[0] == patches.PLAIN
    assert patches.encode(noise, rng.randbytes(50_000))[0] == patches.PLAIN
    method, payload = patches.encode(noise, noise[:500] + b"x" + noise[500:])
    assert (method, len(payload) < 200) == (patches.PREFIX, True)
    program, moved = built_twice(rng, 8_000)
    assert patches.encode(program, moved)[0] == patches.BSDIFF


def test_bsdiff_is_tried_only_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(patches, "_bsdiff", lambda base, data: tried.append(len(base)) or bytes(len(data)))
    rng = random.Random(1)
    program, moved = built_twice(rng, 20_000)
    patches.encode(program, moved)
    assert tried == [len(program)]
    patches.encode(program, program[:-5] + b"other")
    patches.encode(program, rng.randbytes(50_000))
    patches.encode(program * 4, moved[:50_000])
    patches.encode(program.replace(b"\0", b" "), moved.replace(b"\0", b" "))
    assert len(tried) == 1


def test_the_versions_nodes_are_likely_to_be_at() -> None:
    ids = {str(number): f"{number:064}" for number in range(1, 8)}
    ref = Ref(
        image="i",
        sequence=1,
        updated="2026-01-01T00:00:00Z",
        generations={key: value for key, value in ids.items() if key != "3"},
        channels={"stable": ids["5"]},
        history={"stable": (ids["6"], ids["4"], ids["5"], ids["3"], ids["2"], ids["1"])},
    )
    assert making.earlier(ref, "stable", ids["6"]) == (ids["5"], ids["4"], ids["2"])
    assert making.earlier(ref, "testing", ids["6"]) == ()


def versions(where: Path, count: int = 2) -> tuple[LocalStore, list[str]]:
    store = LocalStore(where / "store")
    ids = []
    for number in range(count):
        folder = where / str(number)
        folder.mkdir()
        (folder / "f").write_bytes(bytes([number]) * 5000)
        ids.append(commit(store, "image", folder).version_id)
    return store, ids


def test_a_delta_is_made_once(tmp_path: Path) -> None:
    store, (one, two) = versions(tmp_path)
    made = making.make(store, one, two)
    assert made is not None
    assert made.before == "image@1"
    assert made.size_bytes == (store.path / f"deltas/{one}-{two}").stat().st_size
    assert sum(items for items, _, _ in made.by_method.values()) == made.items == 1
    assert making.make(store, one, two) is None
    with pytest.raises(UsageFault, match="a delta needs two versions"):
        making.make(store, one, one)
    assert [name for name in os.listdir(store.path / "deltas") if name.startswith(".")] == []


def test_verify_reads_deltas_and_prune_takes_them_with_their_versions(tmp_path: Path) -> None:
    store, (one, two) = versions(tmp_path)
    making.make(store, one, two)
    assert verify(store).problems == ()
    path = store.path / f"deltas/{one}-{two}"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    (problem,) = verify(store).problems
    assert problem.file == f"deltas/{one}-{two}"
    assert problem.fault == "its items do not match their digest"
    path.write_bytes(good[:-1])
    (problem,) = verify(store).problems
    assert "bytes long, not" in problem.fault
    path.write_bytes(good)
    apply(store, plan(store, keep=1))
    assert not path.exists()


def test_what_is_kept_is_that_of_the_version_applied(tmp_path: Path) -> None:
    store, ids = versions(tmp_path, 3)
    folder = tmp_path / "documents"
    for version_id in ids:
        kept = KeptStore(store, folder)
        version = kept.version(version_id)
        kept.manifest(version.manifest)
        kept.table(version.table)
    assert len(os.listdir(folder / "versions")) == 3
    kept.settle(ids[2])
    assert os.listdir(folder / "versions") == [ids[2]]
    assert len(os.listdir(folder / "manifests")) == len(os.listdir(folder / "tables")) == 1
    assert KeptStore(store, folder).applied == ids[2]


def test_what_is_read_before_there_is_a_place_to_keep_it_is_kept_later(tmp_path: Path) -> None:
    store, (one, _) = versions(tmp_path)
    kept = KeptStore(store)
    version = kept.version(one)
    kept.manifest(version.manifest)
    kept.settle(one, tmp_path / "documents")
    again = KeptStore(LocalStore(tmp_path / "empty"), tmp_path / "documents")
    assert again.manifest(again.version(one).manifest).entries
    assert again.applied == one


def test_what_was_learnt_is_kept_before_the_tree_is_equal_to_it(tmp_path: Path) -> None:
    """As for a node that is staged now and put in place when its head is out of reach."""
    store, (one, two) = versions(tmp_path)
    making.make(store, one, two)
    folder = tmp_path / "documents"
    kept = KeptStore(store, folder)
    kept.version(one)
    kept.settle(one)
    staged = KeptStore(store, folder)
    new = staged.version(two)
    assert staged.delta(two) is not None
    staged.keep_documents(two)
    assert not (folder / "tables" / new.table).exists(), "only what it can be made of"
    alone = KeptStore(LocalStore(folder), folder)
    assert alone.manifest(new.manifest) == store.manifest(new.manifest)
    assert alone.table(new.table) == store.table(new.table)
    alone.settle(two)
    assert KeptStore(LocalStore(folder), folder).applied == two


def test_a_first_version_needs_no_older_one_for_its_table(tmp_path: Path) -> None:
    store, (one, _) = versions(tmp_path)
    making.make(store, NOTHING, one)
    folder = tmp_path / "documents"
    kept = KeptStore(store, folder)
    version = kept.version(one)
    assert kept.delta(one) is not None
    kept.settle(one)
    assert not (folder / "tables").exists()
    assert KeptStore(LocalStore(folder), folder).table(version.table) == store.table(version.table)


def test_the_newer_documents_come_out_of_the_delta(tmp_path: Path) -> None:
    store, (one, two) = versions(tmp_path)
    making.make(store, one, two)
    kept = KeptStore(store, tmp_path / "documents")
    version = kept.version(one)
    kept.manifest(version.manifest)
    kept.table(version.table)
    kept.settle(one)
    new = store.version(two)
    for name in (f"versions/{two}", f"manifests/{new.manifest}", f"tables/{new.table}"):
        (store.path / name).unlink()
    learnt = KeptStore(store, tmp_path / "documents")
    assert learnt.version(two) == new
    assert len(learnt.manifest(new.manifest).entries) == 2
    assert learnt.table(new.table).packs
    delta = learnt.delta(two)
    assert delta is not None
    assert len(delta.items) == 1
    assert learnt.notices == ()


def test_many_items_are_made_in_processes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = []
    for processes in (1, 2):
        where = tmp_path / str(processes)
        store = LocalStore(where / "store")
        ids = []
        for number in (1, 2):
            rng = random.Random(3)
            folder = where / str(number)
            folder.mkdir(parents=True)
            for name in range(6):
                (folder / str(name)).write_bytes(rng.randbytes(210_000) + bytes([number]) * 50)
                os.utime(folder / str(name), ns=(0, 10**18))
            os.utime(folder, ns=(0, 10**18))
            ids.append(commit(store, "image", folder).version_id)
        monkeypatch.setattr(making, "_IN_PROCESS_BYTES", 0)
        made = making.make(store, ids[0], ids[1], processes=processes)
        assert made is not None
        assert made.items > 1
        raw = (store.path / f"deltas/{ids[0]}-{ids[1]}").read_bytes()
        stores.append(raw[-sum(stored for _, stored, _ in made.by_method.values()) :])
    assert stores[0] == stores[1]
