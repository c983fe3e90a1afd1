"""An older ref, though rightly signed, is refused by whoever has seen a newer one: a node, `sis-node sync`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sis.cli.node_main import main
from sis.errors import Refused
from sis.image import commit
from sis.image.kept.store import KeptStore
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.image.store.sign import Signer


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Two generations of an image; `stable` is the first."""
    tree = tmp_path / "tree"
    tree.mkdir()
    made = LocalStore(tmp_path / "head" / "store")
    for text in ("one", "two"):
        (tree / "motd").write_text(text)
        commit.commit(made, "compute", tree)
    move(made, 1)
    return made


def move(store: LocalStore, generation: int) -> None:
    with store.changing_ref("compute") as ref:
        assert ref is not None
        store.write_ref(refs.publish(ref, generation, "stable").ref)


def ref_file(store: LocalStore) -> Path:
    return store.path / "refs" / "compute"


def test_an_older_ref_is_refused_and_a_rollback_is_not(store: LocalStore, tmp_path: Path) -> None:
    key = store.signer().public
    old = ref_file(store).read_bytes()
    move(store, 2)
    newest = KeptStore(store, tmp_path / "kept").ref("compute", key=key)
    ref_file(store).write_bytes(old)
    for _ in range(2):
        with pytest.raises(Refused, match=rf"older than one seen before .* after {newest.sequence}") as told:
            KeptStore(store, tmp_path / "kept").ref("compute", key=key)
        assert "publish again" in (told.value.hint or "")
    assert KeptStore(store, tmp_path / "other").ref("compute", key=key).sequence < newest.sequence
    move(store, 2)
    with store.changing_ref("compute") as ref:
        assert ref is not None
        store.write_ref(refs.rollback(ref, "stable").ref)
    again = KeptStore(store, tmp_path / "kept").ref("compute", key=key)
    assert again.channels["stable"] == again.generations["1"]


def test_what_an_install_saw_is_remembered_on_its_disk(store: LocalStore, tmp_path: Path) -> None:
    key = store.signer().public
    old = ref_file(store).read_bytes()
    move(store, 2)
    kept = KeptStore(store)
    version = kept.ref("compute", key=key).channels["stable"]
    kept.settle(version, tmp_path / "disk")
    ref_file(store).write_bytes(old)
    with pytest.raises(Refused, match="older than one seen before"):
        KeptStore(store, tmp_path / "disk").ref("compute", key=key)


def test_only_what_the_pinned_key_signed_is_remembered(store: LocalStore, tmp_path: Path) -> None:
    """Else one who signs with a key of their own could shut a node off with a number out of this world."""
    key, other = store.signer().public, Signer.make()
    KeptStore(store, tmp_path / "kept").ref("compute")
    with pytest.raises(Refused, match="signed by another key"):
        KeptStore(store, tmp_path / "kept").ref("compute", key=other.public)
    (tmp_path / "kept/seen").mkdir(parents=True, exist_ok=True)
    (tmp_path / "kept/seen/compute").write_text(f"{1 << 52} {other.public}\n")
    assert KeptStore(store, tmp_path / "kept").ref("compute", key=key).channels
    for damaged in (b"", b"x", b"\xff 3", b"9" * 500):
        (tmp_path / "kept/seen/compute").write_bytes(damaged)
        assert KeptStore(store, tmp_path / "kept").ref("compute", key=key).channels


def test_a_sync_without_a_head_refuses_an_old_copy_of_the_store(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    words = ["--from", str(store.path), "--image", "compute@stable", "--root", str(tmp_path / "root")]
    words += ["--state", str(tmp_path / "state"), "--key", store.signer().public]
    old = ref_file(store).read_bytes()
    move(store, 2)
    assert CliRunner().invoke(main, ["sync", *words]).exit_code == 0
    assert (tmp_path / "root/motd").read_text() == "two"
    ref_file(store).write_bytes(old)
    for verb in ("check", "sync"):
        told = CliRunner().invoke(main, [verb, *words])
        assert told.exit_code == 5, told.output
        assert "the ref of compute is older than one seen before" in told.output
    assert (tmp_path / "root/motd").read_text() == "two"
