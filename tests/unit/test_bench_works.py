"""The benchmark's course: works in turn, the dear ones last, what is done left out, what was interrupted begun anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sis.errors import SisError
from sis.system import process
from tests.bench import sizes, trees, works
from tests.bench.disk import Disk
from tests.bench.figures import WORKS, Figure, Measured, figure
from tests.bench.methods import METHODS
from tests.bench.methods.method import Method, Node, Scene
from tests.bench.trees import Trees
from tests.bench.wire import Wire


def _scene(folder: Path) -> Scene:
    for name in ("head", "nodes", "trees"):
        (folder / name).mkdir()
    nodes = Disk(folder / "nodes.img", folder / "nodes", sizes.SMALL.disk_bytes)
    places = (folder / "head", nodes, folder / "many", folder / "kept")
    return Scene(sizes.SMALL, Trees(folder / "trees"), Wire(folder), *places, {"trees": "these"})


class _Counting(Method):
    """Takes versions in, and breaks off in the middle of one when told to."""

    name = "counting"
    works = frozenset({"commit", "publish"})
    break_off_at = ""

    def publish(self, version: str) -> list[Figure]:
        (self.place / f"taken-{version}").touch()
        if version == self.break_off_at:
            raise KeyboardInterrupt
        measured = Measured(float(len(list(self.place.glob("taken-*")))), 0, 0, 0.0, 0.0, 0)
        return [figure(self.name, "commit", measured)]

    def commands(self, node: Node, version: str, *, full: bool = False) -> Sequence[process.Argv]:
        raise SisError(f"{node} needs no {version}, {full}")


def test_methods_take_turns_and_the_dear_ones_come_last(tmp_path: Path) -> None:
    methods = [method(_scene(tmp_path)) for method in METHODS[:1]]
    scene = methods[0].scene
    methods = [method(scene) for method in METHODS]
    steps = list(works.schedule(methods, frozenset(), packed=True))
    shown = [(step.work, [method.name for method in step.methods]) for step in steps]
    assert shown[0] == ("commit", ["ours", "casync", "ostree"])
    assert shown[3] == ("newcomers", ["ours"])
    assert shown[4:6] == [
        (work, ["ours", "ours-head", "rsync", "rsync-z", "casync", "ostree"]) for work in ("cold-gigabit", "cold")
    ]
    assert ("packed", ["ours", "rsync-z"]) in shown
    assert shown[-3:] == [(work, ["ostree-delta"]) for work in ("publish", "upgrade", "upgrade-gigabit")]
    assert {step.work for step in steps} == set(WORKS)
    assert not [step for step in works.schedule(methods, frozenset(), packed=False) if step.work == "packed"]


def test_what_has_its_figure_is_not_measured_again(tmp_path: Path) -> None:
    scene = _scene(tmp_path)
    methods = [method(scene) for method in METHODS]
    every = works.schedule(methods, frozenset(), packed=True)
    done = frozenset((work, method.name) for work, able in every for method in able) - {("edits", "rsync")}
    assert [(work, [it.name for it in able]) for work, able in works.schedule(methods, done, packed=True)] == [
        ("edits", ["rsync"])
    ]


def test_a_version_is_taken_in_once(tmp_path: Path) -> None:
    method = _Counting(_scene(tmp_path))
    first = method.published("v1")
    assert method.published("v1") == first
    assert [it.wall_s for it in method.published("v2")] == [2.0]
    assert [it.wall_s for it in _Counting(method.scene).published("v2")] == [2.0]


def test_what_was_interrupted_is_done_again_from_the_start(tmp_path: Path) -> None:
    method = _Counting(_scene(tmp_path))
    method.published("v1")
    method.break_off_at = "v2"
    try:
        method.published("v2")
    except KeyboardInterrupt:
        method.break_off_at = ""
    (method.place / "half-written").touch()
    assert [it.wall_s for it in method.published("v2")] == [2.0]
    assert not (method.place / "half-written").exists()
    assert (method.place / "taken-v1").exists()


def test_a_work_without_a_figure_is_a_fault_of_its_own(tmp_path: Path) -> None:
    found = list(works.run([_Counting(_scene(tmp_path))], frozenset(), lambda _: None))
    assert [(it.work, it.fault) for it in found] == [("commit", ""), ("publish", "counting: publish gave no figure")]
    assert all(it.at for it in found)


class _Kept(_Counting):
    """As casync and ostree: what they make on the head outlives the run."""

    program = "dpkg"


def test_what_other_programs_made_is_kept_while_nothing_it_depends_on_has_changed(tmp_path: Path) -> None:
    scene = _scene(tmp_path)
    first = _Kept(scene).published("v1")
    (tmp_path / "head" / "counting" / "served").write_text("by nginx")
    (tmp_path / "head" / "counting").unlink()  # a run begins without what the last one left, but for the kept
    assert _Kept(scene).published("v1") == first
    assert (tmp_path / "head" / "counting" / "served").read_text() == "by nginx"
    other = _Kept(replace(scene, basis={"trees": "others"}))
    assert not other.is_made("v1")
    assert not (tmp_path / "head" / "counting" / "served").exists()


def test_a_tree_made_anew_is_another(tmp_path: Path) -> None:
    (tmp_path / "tree" / "folder").mkdir(parents=True)
    file = tmp_path / "tree" / "folder" / "file"
    file.write_text("same")
    before = trees.digest(tmp_path / "tree")
    trees.copy(tmp_path / "tree", tmp_path / "copy")
    assert trees.digest(tmp_path / "copy") == before
    file.unlink()
    file.write_text("same")
    assert trees.digest(tmp_path / "tree") != before


def test_trees_are_kept_when_only_how_often_they_are_used_has_changed(tmp_path: Path) -> None:
    recipe = {"recipe": trees._RECIPE, **json.loads(json.dumps(asdict(sizes.SMALL)))}
    (tmp_path / "trees").mkdir()
    (tmp_path / "trees" / trees._MADE).write_text(json.dumps({**recipe, "repeats": 99, "together": 77}))
    assert trees.make(sizes.SMALL, tmp_path, pytest.fail).folder == tmp_path / "trees"
