"""A dictionary for small chunks: trained where it pays, used again by later versions, kept by nodes."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from sis.image.commit import commit
from sis.image.deltas import making, reading
from sis.image.documents.tables import chunk_locations
from sis.image.kept.store import KeptStore
from sis.image.store.local import LocalStore
from sis.image.store.packs import decode
from sis.image.tree import dictionary
from sis.image.verify import verify

WORDS = [f"word{number}".encode() for number in range(900)]


def alike(rng: random.Random) -> bytes:
    """Text of a few phrases, as small files of one kind are."""
    phrases = [b"import " + b" ".join(WORDS[at : at + 9]) + b"\n" for at in range(0, 900, 9)]
    return b"".join(rng.choice(phrases) for _ in range(20)) + rng.randbytes(30)


def write(root: Path, count: int, seed: int) -> Path:
    rng = random.Random(seed)
    root.mkdir()
    for number in range(count):
        (root / f"f{number}").write_bytes(alike(rng))
    (root / "long").write_bytes(b"".join(alike(rng) for _ in range(40)))
    return root


@pytest.fixture(autouse=True)
def small_trees_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionary, "TREE_BYTES_MIN", 100_000)
    monkeypatch.setattr(dictionary, "DICTIONARY_BYTES", 16 << 10)


def contents(store: LocalStore, version_id: str) -> dict[bytes, bytes]:
    version = store.version(version_id)
    manifest, table = store.manifest(version.manifest), store.table(version.table)
    found = {}
    for digest, location in chunk_locations(manifest, table).items():
        pack = table.packs[location.pack]
        stored = b"".join(store.read(f"packs/{pack.digest.hex()}", location.offset, location.stored))
        found[digest] = decode(stored, location, store.dictionary(pack.dictionary) if pack.dictionary else b"")
    return found


def test_it_saves_and_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    first = commit(store, "image", write(tmp_path / "1", 300, 1))
    (pack,) = store.table(first.version.table).packs
    assert os.listdir(store.path / "dictionaries") == [pack.dictionary.hex()]
    assert len(contents(store, first.version_id)) > 300
    monkeypatch.setattr(dictionary, "TREE_BYTES_MIN", 1 << 40)
    without = commit(LocalStore(tmp_path / "other"), "image", tmp_path / "1")
    assert first.version.stored_bytes < 0.8 * without.version.stored_bytes
    assert first.version.manifest == without.version.manifest
    second = commit(store, "image", write(tmp_path / "2", 5, 2))
    assert {each.dictionary for each in store.table(second.version.table).packs} == {pack.dictionary}
    assert verify(store).problems == ()
    made = making.make(store, first.version_id, second.version_id)
    assert made is not None
    assert reading.open_delta(store, first.version_id, second.version_id) is not None


def test_a_node_keeps_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    done = commit(store, "image", write(tmp_path / "1", 300, 1))
    (pack,) = store.table(done.version.table).packs
    kept = KeptStore(store, tmp_path / "documents")
    kept.manifest(kept.version(done.version_id).manifest)
    content = kept.dictionary(pack.dictionary)
    kept.settle(done.version_id)
    (store.path / "dictionaries" / pack.dictionary.hex()).unlink()
    assert KeptStore(store, tmp_path / "documents").dictionary(pack.dictionary) == content


def test_noise_gets_none(tmp_path: Path) -> None:
    rng = random.Random(1)
    assert dictionary.train([rng.randbytes(1000) for _ in range(300)]) == b""
    assert dictionary.train([]) == b""
    root = tmp_path / "1"
    root.mkdir()
    for number in range(150):
        (root / str(number)).write_bytes(rng.randbytes(1000))
    store = LocalStore(tmp_path / "store")
    commit(store, "image", root)
    assert os.listdir(store.path / "dictionaries") == []


def test_a_lost_dictionary_ends_with_its_use(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    commit(store, "image", write(tmp_path / "1", 300, 1))
    (lost,) = (store.path / "dictionaries").iterdir()
    lost.unlink()
    second = commit(store, "image", write(tmp_path / "2", 5, 2))
    assert [pack.dictionary for pack in store.table(second.version.table).packs] == [b""]
    assert len(dictionary.chosen(range(10_000))) == 2500
