"""Whose paths are whose: enforce, report, ignore, node; the layer; mounts; the previous kernel."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sis.disk.model import Disk, DiskChoice, Layout, Partition
from sis.errors import SisError
from sis.image.store.reference import parse, resolve
from sis.node.held import Held
from sis.sync.model import LayerFile
from sis.system import process
from sis.wire import Desired
from tests.sync_trees import Bench, age, changes_of, loop_mount, make_bench, rsync_differences

pytestmark = pytest.mark.root

POLICY = {
    "/log/**": "node",
    "/id": "node",
    "/told": "report",
    "/told.d/**": "report",
    "/tmp/**": "ignore",
    "/tmp/held": "enforce",
}


def small_tree(where: Path, **files: str) -> Path:
    for name, content in {
        "etc/a": "a",
        "etc/b": "b",
        **{name.replace("__", "/"): text for name, text in files.items()},
    }.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    age(where)
    return where


@pytest.fixture
def held(tmp_path: Path) -> Bench:
    bench = make_bench(tmp_path, policy=POLICY)
    tree = small_tree(tmp_path / "one", log__old="1", id="none", told="x", tmp__held="held", tmp__x="x")
    (tree / "told.d").mkdir()
    age(tree)
    bench.commit(tree, "image")
    bench.sync("image@1")
    return bench


def test_node_paths_are_created_once_and_then_the_nodes(held: Bench, tmp_path: Path) -> None:
    root = held.root
    assert (root / "id").read_text() == "none"
    (root / "id").write_text("mine")
    (root / "log/new").write_text("new")
    assert held.check("image@1").in_sync
    held.commit(
        small_tree(tmp_path / "two", log__old="2", id="other", told="x", tmp__held="held", log__more="m"), "image"
    )
    outcome = held.sync("image@2")
    assert (root / "id").read_text() == "mine"
    assert (root / "log/old").read_text() == "2", "followed while untouched"
    assert (root / "log/more").read_text() == "m"
    assert (root / "log/new").exists()
    assert outcome.in_sync
    assert held.sync("image@2").changes == ()
    held.sync("image@1")
    assert (root / "log/old").read_text() == "1"
    assert not (root / "log/more").exists(), "dropped by the image, untouched by the node"
    (root / "log/old").unlink()
    held.sync("image@2")
    assert not (root / "log/old").exists(), "removed by the node: its own"
    (root / "id").write_text("other")
    held.sync("image@2")
    held.sync("image@1")
    assert (root / "id").read_text() == "other", "the node's own from its first change, whatever it becomes"


def test_a_node_path_that_was_there_before_us_is_the_nodes(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=POLICY)
    (bench.root / "id").write_text("was here")
    bench.commit(small_tree(tmp_path / "one", id="none"))
    bench.sync()
    assert (bench.root / "id").read_text() == "was here"
    assert (bench.root / "etc/a").read_text() == "a"


def test_reported_paths_are_told_and_left(held: Bench) -> None:
    (held.root / "told").write_text("changed")
    (held.root / "told.d/extra").write_text("extra")
    for outcome in (held.check("image@1"), held.sync("image@1")):
        told = changes_of(outcome)
        assert told["/told"][0] == "update"
        assert told["/told.d/extra"] == ("remove", ())
        assert {change.policy for change in outcome.changes} == {"report"}
        assert outcome.totals.reported == 2
        assert outcome.in_sync
    assert (held.root / "told").read_text() == "changed"
    assert (held.root / "told.d/extra").exists()


def test_ignored_paths_are_not_looked_at_but_for_what_is_held_below(held: Bench) -> None:
    assert not (held.root / "tmp/x").exists()
    assert (held.root / "tmp/held").read_text() == "held"
    (held.root / "tmp/other/deep").mkdir(parents=True)
    (held.root / "tmp/held").unlink()
    assert changes_of(held.sync("image@1")) == {"/tmp/held": ("create", ())}
    assert (held.root / "tmp/other/deep").is_dir()


def test_a_directory_the_image_drops_stays_while_the_node_has_something_in_it(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy={"/data/own/**": "node"})
    bench.commit(small_tree(tmp_path / "one", data__own__x="x", data__theirs="t"))
    bench.sync()
    (bench.root / "data/own/mine").write_text("mine")
    bench.commit(small_tree(tmp_path / "two"))
    outcome = bench.sync()
    assert set(changes_of(outcome)) == {"/data/own/x", "/data/theirs"}
    assert (bench.root / "data/own/mine").read_text() == "mine"
    assert bench.sync().changes == ()
    bench.commit(small_tree(tmp_path / "three", data="a file now"))
    outcome = bench.sync()
    assert changes_of(outcome) == {"/data": ("keep", ("type",))}
    assert not outcome.in_sync
    assert outcome.notices == ("/data stays a directory: below it is what the policy leaves to the node",)
    assert (bench.root / "data/own/mine").read_text() == "mine"


def test_what_the_node_made_of_a_directory_does_not_stop_the_rest(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy={"/srv/**": "node", "/srv/a/held": "enforce", "/srv/b/held": "enforce"})
    bench.commit(small_tree(tmp_path / "one", srv__a__x="x", srv__b__x="x", srv__c__x="x"))
    bench.sync("image@1")
    for name in ("a", "b", "c"):
        shutil.rmtree(bench.root / "srv" / name)
    (bench.root / "srv/b").write_text("a file now")
    held = {f"srv__{name}": "held" for name in ("a__held", "b__held", "c__new")}
    bench.commit(small_tree(tmp_path / "two", etc__a="A", srv__a__x="x", srv__b__x="x", srv__c__x="x", **held))
    outcome = bench.sync("image@2")
    assert (bench.root / "etc/a").read_text() == "A"
    assert [path.name for path in (bench.root / "srv/a").iterdir()] == ["held"], "made again for what is enforced"
    assert (bench.root / "srv/b").read_text() == "a file now"
    assert not (bench.root / "srv/c").exists()
    assert not outcome.in_sync
    assert changes_of(outcome)["/srv/b/held"] == ("keep", ())
    assert outcome.notices == ("/srv/b/held cannot be placed: the node made something else of its directory",)
    assert set(changes_of(bench.sync("image@2"))) == {"/srv/b/held"}


def test_an_interrupted_run_does_not_make_a_node_path_the_nodes(
    held: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its files were placed and before the index was written, it has followed the image all the same."""
    for number in (2, 3):
        tree = small_tree(tmp_path / str(number), log__old=str(number), told="x", tmp__held="held")
        held.commit(tree)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sis.sync.mend.Remembering.finish", killed)
        with pytest.raises(KeyboardInterrupt):
            held.sync("image@2")
    assert (held.root / "log/old").read_text() == "2"
    held.sync("image@3")
    assert (held.root / "log/old").read_text() == "3"


def test_the_layer_is_part_of_what_is_held(held: Bench) -> None:
    layer = (
        LayerFile(path="/etc/hostname", content=b"n001\n", origin="renderers/hostname"),
        LayerFile(path="/etc/a", content=b"ours", mode=0o600, uid=1, gid=2),
        LayerFile(path="/new/dir/link", kind="symlink", target="/etc/a"),
        LayerFile(path="/etc/b", kind="absent"),
        LayerFile(path="/etc/empty", kind="dir", mode=0o700),
    )
    outcome = held.sync("image@1", layer)
    root = held.root
    assert outcome.totals.bytes_fetched == 0
    assert (root / "etc/hostname").read_text() == "n001\n"
    owned = (root / "etc/a").stat()
    assert (owned.st_uid, owned.st_gid) == (1, 2)
    assert os.readlink(root / "new/dir/link") == "/etc/a"
    assert not (root / "etc/b").exists()
    assert held.sync("image@1", layer).changes == ()
    os.utime(root / "etc/hostname")
    assert held.check("image@1", layer).in_sync, "no time is held for rendered files"
    (root / "etc/hostname").write_text("n002\n")
    assert set(changes_of(held.check("image@1", layer))) == {"/etc/hostname"}
    held.sync("image@1")
    assert not (root / "new").exists()
    assert (root / "etc/b").read_text() == "b"


def test_other_file_systems_are_not_crossed_unless_named(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    bench.commit(small_tree(tmp_path / "one", mnt__data__x="image", mnt__data__y="image"))
    with loop_mount(tmp_path / "disk", size_bytes=16 << 20) as disk:
        (bench.root / "mnt/data").mkdir(parents=True)
        process.run(["mount", "--bind", disk, bench.root / "mnt/data"])
        try:
            (disk / "theirs").write_text("theirs")
            outcome = bench.sync()
            assert [path.name for path in disk.iterdir()] == ["theirs"]
            assert outcome.notices == (
                (
                    "2 entries of the image lie below mount points that the disk layout does not name (/mnt/data);"
                    " they were left alone"
                ),
            )
            assert bench.sync().changes == ()
            outcome = bench.sync(mounts=frozenset({b"mnt/data"}))
            assert sorted(path.name for path in disk.iterdir()) == ["x", "y"]
            assert "/mnt/data/theirs" in changes_of(outcome)
            assert rsync_differences(tmp_path / "one", bench.root) == []
            assert bench.sync(mounts=frozenset({b"mnt/data"})).changes == ()
        finally:
            process.run(["umount", bench.root / "mnt/data"])
    assert bench.sync().in_sync
    assert rsync_differences(tmp_path / "one", bench.root) == []


def test_what_is_on_a_kept_partition_is_the_nodes_own(tmp_path: Path) -> None:
    """A disk layout with `mount: /scratch, keep: true`: of what is there nothing goes, at an install or at a resync."""
    bench = make_bench(tmp_path)
    bench.commit(small_tree(tmp_path / "one", scratch__README="the image's"))
    partitions = tuple(
        Partition(role="data", label=name, filesystem="ext4", mount=f"/{name}", keep=name == "scratch")
        for name in ("scratch", "var")
    )
    disk = Disk(choice=DiskChoice(), partitions=partitions)
    resolved = resolve(bench.store, parse("image"))
    held = Held(
        Desired(
            node="n1",
            image="image",
            channel=None,
            generation=1,
            version=resolved.version_id,
            store="store",
            layer=(),
            layout=Layout(name="l", disks=(disk,)),
        ),
        resolved.version,
        bench.want(),
        bench.source(),
    )
    assert held.mounts == {b"scratch", b"var"}
    assert [held.policy.verb(path) for path in (b"scratch", b"scratch/a/b", b"var/a")] == ["enforce", "node", "enforce"]
    (bench.root / "scratch").mkdir()
    (tmp_path / "disk").mkdir()
    process.run(["mount", "--bind", tmp_path / "disk", bench.root / "scratch"])
    try:
        (bench.root / "scratch/results").mkdir()
        (bench.root / "scratch/results/one").write_text("months of work")
        for _ in range(2):
            assert held.sync(bench.root, bench.state).in_sync
            assert (bench.root / "scratch/results/one").read_text() == "months of work"
            assert (bench.root / "scratch/README").read_text() == "the image's"
        (bench.root / "scratch/README").write_text("edited")
        assert held.check(bench.root, bench.state).changes == ()
    finally:
        process.run(["umount", bench.root / "scratch"])


def test_a_bind_mounted_file_is_left_alone(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    bench.commit(small_tree(tmp_path / "one"))
    bench.sync()
    (tmp_path / "over").write_text("over")
    process.run(["mount", "--bind", tmp_path / "over", bench.root / "etc/a"])
    try:
        assert bench.sync().changes == ()
        assert (bench.root / "etc/a").read_text() == "over"
    finally:
        process.run(["umount", bench.root / "etc/a"])


def kernel_tree(where: Path, release: str) -> Path:
    name = {
        f"boot__{part}-{release}": f"{part} {release}" for part in ("vmlinuz", "initrd.img", "config", "System.map")
    }
    return small_tree(where, **name, **{f"usr__lib__modules__{release}__kernel__x.ko": release})


def test_the_running_kernel_is_kept_until_the_next_change_of_kernel(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    for release in ("1.0", "2.0", "3.0"):
        bench.commit(kernel_tree(tmp_path / release, release))

    def kernels() -> list[str]:
        found = sorted(path.name for path in (bench.root / "usr/lib/modules").iterdir())
        assert found == sorted(path.name.removeprefix("vmlinuz-") for path in (bench.root / "boot").glob("vmlinuz-*"))
        return found

    bench.sync("image@1", retain=frozenset({"1.0"}))
    outcome = bench.sync("image@2", retain=frozenset({"1.0"}))
    assert kernels() == ["1.0", "2.0"]
    assert outcome.boot_changed
    assert outcome.in_sync
    assert outcome.notices == ("kernel 1.0 is kept beside the image's own until the next change of kernel",)
    outcome = bench.sync("image@2", retain=frozenset({"2.0"}))
    assert outcome.changes == ()
    assert kernels() == ["1.0", "2.0"]
    assert bench.check("image@2", retain=frozenset({"2.0"})).in_sync
    bench.sync("image@3", retain=frozenset({"2.0"}))
    assert kernels() == ["2.0", "3.0"]
    bench.sync("image@2")
    assert kernels() == ["2.0"]


def test_a_layer_that_cannot_lie_where_it_says_is_refused(held: Bench) -> None:
    with pytest.raises(SisError, match=r"cannot lay /etc/a/b \(from site\) over the image: /etc/a is not a directory"):
        held.want("image@1", (LayerFile(path="/etc/a/b", origin="site"),))
    with pytest.raises(SisError, match="not an absolute path"):
        held.want("image@1", (LayerFile(path="/etc/../b"),))


def test_our_own_state_below_the_root_is_left_alone(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    bench.state = bench.root / "var/lib/sis-node"
    bench.commit(small_tree(tmp_path / "one", var__lib__x="x"))
    bench.sync()
    assert (bench.state / "index").exists()
    assert bench.check().in_sync
    assert bench.sync().changes == ()
    shutil.rmtree(bench.state)
    assert bench.sync().in_sync
