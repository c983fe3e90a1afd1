"""The short answer "nothing changed" is given when it is true, after the node's own noise too, and never otherwise."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sis.errors import Locked
from sis.image.policy import Policy
from sis.sync import engine, forked, mend
from sis.sync.model import LayerFile
from sis.sync.walk import index, still
from sis.sync.walk.listing import ROOT_PARENT, listing_of
from sis.system import process
from sis.system.beneath import Beneath
from tests.sync_trees import MUTATIONS, Bench, Mutation, acl, age, make_bench, make_tree

pytestmark = pytest.mark.root

POLICY = {"/var/log/**": "node", "/etc/machine-id": "node", "/opt/a/*.tmp": "ignore", "/etc/told": "report"}


@pytest.fixture(params=["one process"])
def held(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    if request.param == "two processes":
        monkeypatch.setattr(forked, "SHARED_FROM", 0)
        monkeypatch.setattr("sis.sync.forked.os.cpu_count", lambda: 2)
    tree = make_tree(tmp_path / "tree")
    (tree / "var/log/syslog").write_text("from the image")
    (tree / "var/log/deep").mkdir()
    (tree / "etc/machine-id").write_text("")
    age(tree)
    bench = make_bench(tmp_path, policy=POLICY)
    bench.commit(tree)
    bench.sync()
    return bench


@pytest.fixture
def only_short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """From the call on, the long way round is a failure."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the long way round was taken")

    def begin() -> None:
        monkeypatch.setattr(mend, "look", refuse)
        monkeypatch.setattr(mend, "make_equal", refuse)

    return begin


def test_an_untouched_tree_is_known_by_a_walk(held: Bench, only_short: Callable[[], None]) -> None:
    whole = held.check(full=True)
    only_short()
    assert held.check() == held.sync() == whole
    assert whole.totals.entries > 50
    assert whole.in_sync


@pytest.mark.parametrize("held", ["two processes"], indirect=True)
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_no_drift_is_overlooked(held: Bench, mutate: Mutation) -> None:
    mutate(held.root, random.Random(mutate.__name__))
    found = held.check(full=True)
    assert found.in_sync is (mutate.__name__ == "change_directory_time"), "whose time is not held, by the policy"
    assert found.changes == held.check().changes


def test_an_untouched_tree_is_verified_without_the_long_way(held: Bench, only_short: Callable[[], None]) -> None:
    (held.root / "var/log/syslog").write_text("the node's own")
    assert held.sync().in_sync
    only_short()
    (held.root / "var/log/syslog.1").write_text("new")
    assert held.check(full=True) == held.check()


@pytest.mark.parametrize("held", ["one process", "two processes"], indirect=True)
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_full_look_believes_nothing_remembered(held: Bench, mutate: Mutation, tmp_path: Path) -> None:
    """The index says of the spoilt tree that it was found so and right."""
    mutate(held.root, random.Random(mutate.__name__))
    remembered = index.read(held.state)
    assert remembered is not None
    assert remembered.still is not None
    listings = {ROOT_PARENT: listing_of([(b".", held.root.stat())])}
    with Beneath(held.root) as tree:
        for directory in remembered.listings.keys() - {ROOT_PARENT}:
            with contextlib.suppress(OSError), tree.directory(directory) as inner:
                listings[directory] = listing_of(still.members_of(inner.root, remembered.still.aside.get(directory)))
    told = index.load(held.state, remembered, b"", {})
    index.save(held.state, dataclasses.replace(told, listings=listings))
    assert held.check().in_sync, "believed"
    found = held.check(full=True)
    state, held.state = held.state, tmp_path / "another"
    assert [each for each in found.changes if each.policy == "enforce"] == [
        each for each in held.check().changes if each.policy == "enforce"
    ]
    held.state = state


def test_the_nodes_own_noise_keeps_the_short_answer(held: Bench, only_short: Callable[[], None]) -> None:
    root = held.root
    (root / "var/log/syslog").write_text("the node's own from now on")
    (root / "etc/machine-id").write_text("0123")
    assert held.sync().in_sync
    only_short()
    (root / "var/log/syslog").write_text("and it grows")
    (root / "etc/machine-id").unlink()
    (root / "var/log/syslog.1").write_text("new")
    (root / "var/log/deep/down").mkdir()
    (root / "var/log/deep/down/x").write_text("new")
    (root / "opt/a/scratch.tmp").write_text("ignored")
    assert held.check().in_sync
    (root / "var/log/syslog").unlink()
    (root / "var/log/syslog.1").unlink()
    assert held.sync().in_sync


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: (root / "etc/intruder").write_text("beside the machine's id"),
        lambda root: (root / "opt/a/intruder").write_text("beside what is ignored"),
        lambda root: (root / "var/log").chmod(0o777),
        lambda root: os.setxattr(root / "etc", "user.x", b"y"),
        lambda root: os.setxattr(root / "var/log", "system.posix_acl_default", acl(1000, 7)),
        lambda root: os.chown(root / "etc", 1, 1),
        lambda root: (root / "etc/acl").unlink(),
        lambda root: (root / "etc/acl").rename(root / "var/log/acl"),
        lambda root: (root / "usr").rename(root / "var/log/usr"),
        lambda root: (root / "var/empty/x").write_text("in a directory that was empty"),
        lambda root: (root / ".sis-stage").mkdir(),
        lambda root: root.chmod(0o700),
    ],
)
def test_what_hides_beside_the_nodes_own_is_found(held: Bench, spoil: Callable[[Path], object]) -> None:
    root = held.root
    (root / "etc/machine-id").write_text("0123")
    (root / "var/log/new").write_text("new")
    assert held.sync().in_sync
    spoil(root)
    told = held.sync()
    assert told.changes or not (root / ".sis-stage").exists()
    assert held.check(full=True).in_sync
    assert not (root / ".sis-stage").exists()


def test_an_owned_path_that_becomes_a_directory_is_looked_into(held: Bench) -> None:
    (held.root / "etc/machine-id").write_text("0123")
    held.sync()
    (held.root / "etc/machine-id").unlink()
    (held.root / "etc/machine-id/x").mkdir(parents=True)
    assert held.check().changes == held.check(full=True).changes


def test_a_told_difference_is_told_every_time(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=3)
    (tree / "etc/told").write_text("x")
    bench = make_bench(tmp_path, policy=POLICY)
    bench.commit(tree)
    bench.sync()
    (bench.root / "etc/told").write_text("y")
    for _ in range(3):
        assert [change.path for change in bench.sync().changes] == ["/etc/told"]
    (bench.root / "etc/told").write_text("other")
    assert bench.check().changes[0].what == ("content", "size", "mtime")


def test_other_terms_are_judged_anew(held: Bench) -> None:
    (held.root / "var/log/added").write_text("x")
    assert held.check().in_sync
    held.policy = Policy()
    assert not held.check().in_sync


def test_another_layer_is_another_tree(held: Bench) -> None:
    layer = (LayerFile(path="/etc/hostname", content=b"n1\n"),)
    assert not held.check(layer=layer).in_sync
    assert held.sync(layer=layer).totals.created == 1
    assert held.check(layer=layer).in_sync
    assert not held.check(layer=(LayerFile(path="/etc/hostname", content=b"n2\n"),)).in_sync


def test_mounts_that_come_and_go_are_seen(held: Bench, tmp_path: Path, only_short: Callable[[], None]) -> None:
    inner = held.root / "opt/a"
    process.run(["mount", "--bind", inner, inner])
    try:
        told = held.check()
        assert any("lie below mount points" in notice for notice in told.notices)
        assert held.sync().notices == told.notices
    finally:
        process.run(["umount", inner])
    (inner / "intruder").write_text("put there while a mount hid it")
    assert "/opt/a/intruder" in {change.path for change in held.sync().changes}
    (held.root / "var/log/deep/mnt").mkdir()
    held.sync()
    only_short()
    process.run(["mount", "-t", "tmpfs", "none", held.root / "var/log/deep/mnt"])
    try:
        with pytest.raises(AssertionError, match="long way"):
            held.check()
    finally:
        process.run(["umount", held.root / "var/log/deep/mnt"])


def test_a_walker_that_dies_costs_only_the_short_answer(held: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "SHARED_FROM", 0)
    monkeypatch.setattr("sis.sync.forked.os.cpu_count", lambda: 2)
    monkeypatch.setattr("sis.sync.forked.threading.active_count", lambda: 1)
    mine, really = os.getpid(), still._changed

    def die(*given: object) -> object:
        if os.getpid() != mine:
            os._exit(1)
        return really(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(still, "_changed", die)
    taken: list[int] = []
    look = mend.look
    monkeypatch.setattr(mend, "look", lambda *given, **more: (taken.append(1), look(*given, **more))[1])
    assert held.check().in_sync
    assert taken


@pytest.mark.parametrize("held", ["two processes"], indirect=True)
def test_a_run_can_begin_before_it_is_known_what_it_is_held_to(held: Bench, only_short: Callable[[], None]) -> None:
    only_short()
    with engine.begin(held.root, held.state, changing=True) as begun:
        with pytest.raises(Locked), engine.begin(held.root, held.state, changing=True):
            pass
        assert held.check().in_sync, "which holds nothing"
        assert held.sync(begun=begun) == held.check()


@pytest.mark.parametrize("held", ["two processes"], indirect=True)
def test_what_was_begun_on_other_terms_is_of_no_use(held: Bench) -> None:
    (held.root / "var/log/syslog").write_text("the node's own")
    assert held.sync().in_sync
    held.policy = Policy(())
    with engine.begin(held.root, held.state) as begun:
        found = held.check(begun=begun)
    assert "/var/log/syslog" in {change.path for change in found.changes}
    assert found == held.check()


@pytest.mark.parametrize("held", ["two processes"], indirect=True)
def test_what_was_begun_and_is_not_wanted_any_more_leaves_nothing(held: Bench) -> None:
    with pytest.raises(ZeroDivisionError), engine.begin(held.root, held.state, changing=True):
        _ = 1 / 0
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert held.sync().in_sync


def test_an_interrupted_run_is_taken_up(held: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (held.state / "intent").write_bytes(b"")
    taken: list[int] = []
    look = mend.look
    monkeypatch.setattr(mend, "look", lambda *given, **more: (taken.append(1), look(*given, **more))[1])
    assert held.check().in_sync
    assert taken
