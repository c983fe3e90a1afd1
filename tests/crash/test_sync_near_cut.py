"""A step from one version to the next, cut off anywhere: every path is old or new, and another run does the rest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sis.image.deltas import making
from sis.image.kept.store import KeptStore
from sis.image.store.local import LocalStore
from sis.image.store.reference import parse, resolve
from sis.sync import engine, mend
from sis.sync.desired import desired_tree
from sis.sync.model import Outcome
from sis.sync.staging.source import documents_of, open_source
from sis.system import process
from tests.crash.test_sync_kill import must_be_old_or_new, states
from tests.sync_trees import Bench, make_bench, make_tree, rsync_differences

pytestmark = pytest.mark.root

ACTS = ("rename", "unlink", "fsync", "open", "link", "mkdir", "rmdir", "utime", "write")


def sync(bench: Bench, reference: str) -> Outcome:
    kept = KeptStore(bench.store, documents_of(bench.state))
    found = resolve(kept, parse(reference))
    source = open_source(kept, found.version_id, found.version)
    want = desired_tree(found.version.manifest, kept.manifest)
    return engine.sync(bench.root, want, policy=bench.policy, source=source, state=bench.state)


def cut_off(bench: Bench, reference: str, after: int) -> bool:
    """Sync in a child that ends hard before its `after`-th act on the file system. Whether it got so far."""
    child = os.fork()
    if child == 0:
        left = after

        def counted(act: Callable[..., object]) -> Callable[..., object]:
            def counting(*given: object, **more: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return act(*given, **more)

            return counting

        for name in ACTS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            sync(bench, reference)
        except BaseException:  # noqa: BLE001 - the child must not come back into the test
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_step_cut_off_anywhere_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    make_tree(one, files=12)
    (one / "etc/gone").write_text("gone in the next")
    process.run(["cp", "-a", one, two])
    (two / "etc/acl").write_bytes(b"other")
    (two / "etc/new").write_bytes(b"new" * 900)
    (two / "etc/gone").unlink()
    (two / "usr/bin/ping").chmod(0o711)
    bench = make_bench(tmp_path)
    store: LocalStore = bench.store
    for tree in (one, two):
        bench.commit(tree)
    ids = [resolve(store, parse(f"image@{number}")).version_id for number in (1, 2)]
    making.make(store, ids[0], ids[1], processes=1)
    sync(bench, "image@1")
    old, new = states(one), states(two)
    near = 0
    really = mend.survey_near

    def noted(*given: object) -> object:
        nonlocal near
        found = really(*given)  # type: ignore[arg-type]
        near += found is not None
        return found

    after = 0
    while True:
        shutil.rmtree(bench.root)
        shutil.rmtree(bench.state)
        bench.root.mkdir()
        sync(bench, "image@1")
        was_cut = cut_off(bench, "image@2", after)
        must_be_old_or_new(bench.root, old, new)
        if not was_cut:
            break
        monkeypatch.setattr(mend, "survey_near", noted)
        outcome = sync(bench, "image@2")
        monkeypatch.setattr(mend, "survey_near", really)
        assert outcome.in_sync
        assert rsync_differences(two, bench.root) == []
        assert sync(bench, "image@2").changes == ()
        after += 3
    assert near > 3
