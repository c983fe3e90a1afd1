"""The order in which a tree is changed, what several threads do of it, and what someone else does meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sis.errors import Refused, SisError
from sis.sync import apply, mend
from sis.system import process
from sis.system.beneath import Beneath
from tests.sync_trees import Bench, changes_of, make_bench, rsync_differences

pytestmark = pytest.mark.root

GONE = 300


@pytest.fixture
def held(tmp_path: Path) -> tuple[Bench, Path]:
    """A root equal to the first of two trees, and the second: directories are emptied and go, files move about."""
    for number in (1, 2):
        tree = tmp_path / str(number)
        for name in ("bin", "boot", "keep/inner", "old/deep/deeper"):
            (tree / name).mkdir(parents=True)
        (tree / "bin/tool").write_text(str(number))
        (tree / "boot/vmlinuz-1").write_text(str(number))
        (tree / "keep/data").write_text(str(number))
        (tree / "keep/timed").write_text("timed")
        os.utime(tree / "keep/timed", ns=(number * 10**18, number * 10**18))
    for number in range(GONE):
        (tmp_path / "1" / ("keep", "old", "old/deep", "old/deep/deeper")[number % 4] / f"gone{number}").write_text("x")
    (tmp_path / "1/boot/config-1").write_text("x")
    process.run(["rm", "-r", tmp_path / "2/old"])
    bench = make_bench(tmp_path)
    for number in (1, 2):
        bench.commit(tmp_path / str(number))
    bench.sync("image@1")
    return bench, tmp_path / "2"


def recorded(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[tuple[str, bytes]]:
    """What is done beneath a root from now on, in order: the name of the act and its last path."""
    acts: list[tuple[str, bytes]] = []

    def noting(name: str, act: Callable[..., object]) -> Callable[..., object]:
        def note(tree: Beneath, *paths: bytes) -> object:
            acts.append((name, paths[-1] if isinstance(paths[-1], bytes) else paths[0]))
            return act(tree, *paths)

        return note

    for name in names:
        monkeypatch.setattr(Beneath, name, noting(name, getattr(Beneath, name)))
    return acts


@pytest.mark.parametrize("shared_from", [1, GONE * 2])
def test_what_goes_goes_last_and_the_machine_can_boot_throughout(
    held: tuple[Bench, Path], monkeypatch: pytest.MonkeyPatch, shared_from: int
) -> None:
    bench, tree = held
    with monkeypatch.context() as patch:
        patch.setattr(apply, "SHARED_FROM", shared_from)
        acts = recorded(patch, "rename", "unlink", "rmdir", "set_mtime", "sync_filesystem")
        assert bench.sync("image@2").in_sync
    assert rsync_differences(tree, bench.root) == []

    def at(name: str, *, boot: bool = False) -> list[int]:
        return [n for n, (act, path) in enumerate(acts) if act == name and path.startswith(b"boot/") == boot]

    placed = [acts[n][1] for n in at("rename")]
    assert placed == [b"keep/data", b"bin/tool"]
    assert len(at("unlink")) == GONE
    assert max(at("rename")) < min(at("unlink")) < max(at("unlink")) < min(at("rmdir"))
    assert [acts[n][1] for n in at("rmdir")] == [b"old/deep/deeper", b"old/deep", b"old"]
    barriers = [n for n, (act, _) in enumerate(acts) if act == "sync_filesystem"]
    for before, after in (
        (max(at("rmdir")), at("rename", boot=True)[0]),
        (at("rename", boot=True)[0], at("unlink", boot=True)[0]),
    ):
        assert any(before < barrier < after for barrier in barriers)
    assert acts[-1][0] == "sync_filesystem"
    assert bench.sync("image@2").changes == ()


def test_a_file_a_thread_cannot_remove_is_named(held: tuple[Bench, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, tree = held
    monkeypatch.setattr(apply, "SHARED_FROM", 1)
    stays = bench.root / "old/deep/gone2"
    process.run(["chattr", "+i", stays])
    try:
        with pytest.raises(Refused, match="Operation not permitted") as caught:
            bench.sync("image@2")
        assert "gone2" in caught.value.message
        assert "chattr -i" in str(caught.value)
        assert (bench.root / "keep/data").read_text() == "2"
        assert (bench.root / "boot/vmlinuz-1").read_text() == "1", "no phase begins before the one before is done"
    finally:
        process.run(["chattr", "-i", stays])
    assert bench.sync("image@2").in_sync
    assert rsync_differences(tree, bench.root) == []


def test_a_disk_that_fails_at_the_last_barrier_is_told(
    held: tuple[Bench, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is in place, but may not be on the disk: nothing is remembered, and the next run does what is left."""
    bench, tree = held
    really = Beneath.sync_filesystem

    def failing(root: Beneath, path: bytes) -> None:
        if (bench.root / "old").exists() or (bench.root / ".sis-stage").exists():
            really(root, path)
        else:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with monkeypatch.context() as patch:
        patch.setattr(Beneath, "sync_filesystem", failing)
        with pytest.raises(SisError, match="Input/output error"):
            bench.sync("image@2")
    assert bench.sync("image@2").in_sync
    assert rsync_differences(tree, bench.root) == []
    assert bench.sync("image@2").changes == ()


@pytest.mark.parametrize("act", ["edit", "delete", "replace"])
def test_what_is_changed_after_the_look_is_told_and_not_taken_for_what_was_seen(
    held: tuple[Bench, Path], monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """Only its time was to be set: with that, the other content would have passed for the image's."""
    bench, tree = held
    path = bench.root / "keep/timed"
    really = mend.make_ready

    def meanwhile(*given: object) -> int:
        if act != "edit":
            path.unlink()
        if act != "delete":
            path.write_text("other")
        return really(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(mend, "make_ready", meanwhile)
        outcome = bench.sync("image@2")
    assert not outcome.in_sync
    assert "/keep/timed was changed by someone else meanwhile: run it again" in outcome.notices
    again = bench.sync("image@2")
    assert again.in_sync
    assert changes_of(again)["/keep/timed"][0] == ("create" if act == "delete" else "update")
    assert rsync_differences(tree, bench.root) == []
    assert bench.sync("image@2").changes == ()
