"""Bytes of a store that change on disk: every one is found, by the file that holds it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sis.image.commit import commit
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.image.store.reader import FOLDERS
from sis.image.verify import verify
from tests.image_trees import make_simple, noise

SEED = 20261122
ROUNDS = 400


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    top = tmp_path_factory.mktemp("rot")
    store = LocalStore(top / "state/store")
    tree = make_simple(top / "tree")
    (tree / "bin/tool").write_bytes(noise("small", 9000))
    (tree / "bin/same").write_bytes(b"text " * 3000)
    commit(store, "web", tree, policy=[("/tmp/**", "node")], lock={"bash": "1"}, note="a note")
    (tree / "more").write_bytes(noise("more", 12_000))
    commit(store, "web", tree)
    commit(store, "other", tree)
    with store.changing_ref("web") as ref:
        assert ref is not None
        store.write_ref(refs.publish(ref, 1, "stable").ref)
    assert verify(store).problems == ()
    return store


def files_of(store: LocalStore) -> list[Path]:
    return [store.path / folder / name for folder in FOLDERS for name in sorted(store.names(folder))]


def test_every_changed_byte_is_found_and_its_file_named(store: LocalStore) -> None:
    rng = random.Random(SEED)
    files = files_of(store)
    missed = []
    for round_number in range(ROUNDS):
        path = files[round_number % len(files)]
        good = path.read_bytes()
        at, value = rng.randrange(len(good)), rng.randrange(1, 256)
        path.write_bytes(good[:at] + bytes([good[at] ^ value]) + good[at + 1 :])
        file = f"{path.parent.name}/{path.name}"
        if file not in {problem.file for problem in verify(store).problems}:
            missed.append((file, at, value))
        path.write_bytes(good)
    assert missed == [], f"seed {SEED}"
    assert verify(store).problems == ()


@pytest.mark.parametrize("how", ["cut", "empty", "extend", "gone", "swapped"])
def test_files_cut_extended_swapped_or_gone(store: LocalStore, how: str) -> None:
    files = files_of(store)
    for number, path in enumerate(files):
        good = path.read_bytes()
        changed = {
            "cut": good[:-1],
            "empty": b"",
            "extend": good + b"\0",
            "gone": good,
            "swapped": files[number - 1].read_bytes(),
        }[how]
        path.write_bytes(changed)
        if how == "gone":
            path.unlink()
        found = verify(store)
        path.write_bytes(good)
        file = f"{path.parent.name}/{path.name}"
        if how == "gone" and path.parent.name == "refs":
            assert any("used by no version" in notice for notice in found.notices)
        else:
            assert file in {problem.file for problem in found.problems}, file
    assert verify(store).problems == ()
