"""`sis image publish` and `sis image delta` as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sis.cli import main
from sis.system import locks
from tests.image_trees import make_simple

Sis = Callable[..., Result]


@pytest.fixture
def sis(tmp_path: Path) -> Sis:
    """An image web with three generations; stable is the first."""

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["--state", str(tmp_path / "state"), "image", *words])

    tree = make_simple(tmp_path / "tree")
    for number in range(3):
        (tree / "etc/new").write_text(f"number {number}\n" * 90)
        assert run("commit", "web", "--tree", str(tree)).exit_code == 0
    run("publish", "web@1", "stable")
    return run


def deltas(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "state/store/deltas").iterdir())


def test_publishing_makes_deltas_from_where_nodes_are(sis: Sis, tmp_path: Path) -> None:
    first = sis("publish", "web@2", "stable")
    assert first.stdout == "web@stable is generation 2 now (was 1)\n"
    assert first.stderr.startswith("delta from web@1: ")
    assert "instead of" in first.stderr
    assert len(deltas(tmp_path)) == 1
    second = sis("publish", "web@3", "stable")
    assert [line.split(":")[0] for line in second.stderr.splitlines()] == ["delta from web@2", "delta from web@1"]
    assert len(deltas(tmp_path)) == 3
    assert sis("publish", "web@3", "stable").stderr == ""
    assert sis("verify").exit_code == 0
    sis("prune", "--keep", "1", "-y")
    assert deltas(tmp_path) == []


def test_publishing_without(sis: Sis, tmp_path: Path) -> None:
    done = sis("publish", "web@2", "stable", "--no-deltas")
    assert (done.exit_code, done.stderr) == (0, "")
    assert deltas(tmp_path) == []


def test_a_running_head_is_left_to_make_them(sis: Sis, tmp_path: Path) -> None:
    folder = tmp_path / "state/run"
    folder.mkdir()
    with locks.hold(folder / "head.lock", "a head"):
        done = sis("publish", "web@2", "stable")
        assert "is generation 2 now" in done.stdout
        assert "the head makes the deltas" in done.stderr
        assert deltas(tmp_path) == []
    assert sis("deltas", "web", "stable").stderr.startswith("delta from web@1: ")
    back = sis("rollback", "web", "stable")
    assert "is generation 1 now" in back.stdout
    assert back.stderr.startswith("delta from web@2: ")
    assert sis("deltas", "web", "testing").exit_code == 1


def test_one_made_by_hand(sis: Sis, tmp_path: Path) -> None:
    done = sis("delta", "web@stable", "web@3")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("web@stable → web@3: ")
    assert "1 by zstd prefix" in done.stdout
    assert sis("delta", "web@1", "web").stdout == "web@1 → web: the delta is there already\n"
    told = json.loads(sis("delta", "web@3", "web@1", "-o", "json").stdout)
    assert told["made"]["content_bytes"] == 9 * 90
    assert json.loads(sis("delta", "web@3", "web@1", "-o", "json").stdout)["made"] is None
    assert sis("delta", "web@3", "web").exit_code == 2
    assert "a delta needs two versions" in sis("delta", "web@3", "web").stderr
    assert sis("delta", "web@3", "web@9").exit_code == 1
