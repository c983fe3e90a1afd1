"""Trees: a build leaves the old tree or the new one, never half of one; names inside a tree stay inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from sis.build import inside, trees
from sis.build.steps import Steps
from sis.errors import Locked, SisError


def _names(state: Path) -> list[str]:
    return sorted(path.name for path in (state / "trees").iterdir() if not path.name.endswith(".lock"))


def test_a_new_tree_takes_the_place_of_the_old(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with trees.fresh(tmp_path, "x") as new:
            new.mkdir()
            (new / "file").write_text(text)
            trees.put_in_place(new, trees.place(tmp_path, "x"))
        assert (tmp_path / "trees/x/file").read_text() == text
        assert _names(tmp_path) == ["x"]


def test_a_failed_build_leaves_the_old_tree_alone(tmp_path: Path) -> None:
    (tmp_path / "trees/x").mkdir(parents=True)

    def interrupted() -> None:
        with trees.fresh(tmp_path, "x") as new:
            (new / "half").mkdir(parents=True)
            assert len(_names(tmp_path)) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert _names(tmp_path) == ["x"]


def test_what_a_killed_build_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "trees/.x.new-dead/usr").mkdir(parents=True)
    (tmp_path / "trees/.xy.new-other").mkdir()
    with trees.fresh(tmp_path, "x") as new:
        assert not new.exists()
    assert _names(tmp_path) == [".xy.new-other"]


def test_one_build_of_an_image_at_a_time(tmp_path: Path) -> None:
    with (
        trees.fresh(tmp_path, "x"),
        trees.fresh(tmp_path, "y"),
        pytest.raises(Locked, match="build of x"),
        trees.fresh(tmp_path, "x"),
    ):
        pass


def test_links_of_a_tree_are_followed_inside_it(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/systemd").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/systemd").touch()
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "init").symlink_to("/lib/systemd/systemd")
    (tmp_path / "up").symlink_to("../../../../lib/systemd/systemd")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "etc").symlink_to("/etc")
    found = tmp_path / "usr/lib/systemd/systemd"
    assert inside.resolve(tmp_path, "/init") == found
    assert inside.resolve(tmp_path, "up") == found
    assert inside.resolve(tmp_path, "round") is None
    assert inside.resolve(tmp_path, "etc/passwd") is None
    assert inside.resolve(tmp_path, "nosuch") is None


def test_steps_are_timed_and_logged_and_named_by_a_failure(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    steps = Steps("x", tmp_path, lambda step, doing: told.append((step, doing)))
    with steps.step("one"):
        steps.line("Unpacking bash (5.2) ...")
        steps.line("noise")
    with pytest.raises(SisError) as caught, steps.step("two"):
        raise SisError("no", details=["because"])
    assert told == [("one", ""), ("one", "Unpacking bash (5.2)"), ("two", "")]
    assert caught.value.details == ("because", f"(in step 'two'; the whole log is {steps.log})")
    assert steps.log.read_text() == "== one\n== two\n"
    assert list(steps.seconds) == ["one"]


def test_old_logs_go(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"build-x-2026{number:02}.log").touch()
    (tmp_path / "build-y-2026.log").touch()
    Steps("x", tmp_path, lambda step, doing: None)
    assert len(list(tmp_path.glob("build-x-*"))) == 20
    assert (tmp_path / "build-y-2026.log").exists()
