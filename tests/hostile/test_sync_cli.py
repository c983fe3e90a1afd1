"""sis-node sync and sis-node check, as a user types them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sis.cli.node_main import main
from sis.cli.node_sync import state_of
from sis.system import process
from tests.store_servers import nginx
from tests.sync_trees import Bench, make_bench, make_tree, rsync_differences

pytestmark = pytest.mark.root


@pytest.fixture
def held(tmp_path: Path) -> tuple[Bench, Path]:
    bench = make_bench(tmp_path)
    tree = make_tree(tmp_path / "tree")
    bench.commit(tree)
    return bench, tree


def run(bench: Bench, *words: str | Path, where: str | None = None) -> Result:
    verb, *more = words
    given = ["--from", where or bench.store.path, "--root", bench.root, "--state", bench.state]
    if "--image" not in more:
        given += ["--image", "image"]
    return CliRunner().invoke(main, [str(word) for word in (verb, *given, *more)])


def test_sync_check_and_the_dry_run_between(held: tuple[Bench, Path]) -> None:
    bench, tree = held
    done = run(bench, "sync")
    assert done.exit_code == 0, done.output
    assert " created, " in done.stdout.splitlines()[-1]
    assert rsync_differences(tree, bench.root) == []
    checked = run(bench, "check")
    assert checked.exit_code == 0
    assert "nothing differs" in checked.stdout
    (bench.root / "usr/bin/su").chmod(0o755)
    (bench.root / "etc/new").write_text("new")
    os.setxattr(bench.root / "usr/bin/ping", "user.note", b"x")
    for words in (("check",), ("check", "--full"), ("sync", "-n")):
        told = run(bench, *words)
        assert told.exit_code == (4 if words[0] == "check" else 0)
        assert "metadata mode                 /usr/bin/su\n" in told.stdout
        assert "metadata xattrs               /usr/bin/ping\n" in told.stdout
        assert "remove   -                    /etc/new\n" in told.stdout
    assert run(bench, "sync").exit_code == 0
    assert rsync_differences(tree, bench.root) == []
    assert sorted(path.name for path in bench.root.iterdir()) == sorted(path.name for path in tree.iterdir())


def test_json_says_the_same(held: tuple[Bench, Path]) -> None:
    bench, _ = held
    run(bench, "sync")
    (bench.root / "usr/bin/su").chmod(0o755)
    told = run(bench, "check", "-o", "json")
    assert told.exit_code == 4
    found = json.loads(told.stdout)
    assert found["in_sync"] is False
    assert [change["path"] for change in found["changes"]] == ["/usr/bin/su"]
    assert found["changes"][0]["what"] == ["mode"]


def test_over_plain_nginx(held: tuple[Bench, Path], tmp_path: Path) -> None:
    bench, tree = held
    (tmp_path / "nginx").mkdir()
    with nginx(bench.store.path, tmp_path / "nginx") as url:
        assert run(bench, "sync", where=url).exit_code == 0
        assert rsync_differences(tree, bench.root) == []
        assert run(bench, "check", "--full", where=url).exit_code == 0


def test_what_goes_wrong_is_said(held: tuple[Bench, Path], tmp_path: Path) -> None:
    bench, _ = held
    for words, code, said in (
        (("sync", "--image", "imgae"), 1, "no such image: imgae\nhint: did you mean image?"),
        (("sync", "--image", "image@stable"), 1, "no such channel: image@stable"),
        (("sync", "--image", "image@7"), 1, "no such generation: image@7"),
        (("sync", "--policy", "nowhere"), 1, "cannot read the policy file nowhere: No such file or directory"),
        (("sync", "--root", tmp_path / "not"), 1, "hint: --root must exist"),
        (("sync", "--nonsense"), 2, "No such option"),
        (("check", "--from", tmp_path), 0, ""),
        (("check", "--from", tmp_path / "not"), 1, "no store at "),
    ):
        told = run(bench, *words)
        assert said in told.stderr, words
        assert told.exit_code in (code, 4 if code == 0 else code), (words, told.output)


def test_a_mount_point_given_by_hand_must_be_one_and_in_the_image(held: tuple[Bench, Path], tmp_path: Path) -> None:
    bench, tree = held
    run(bench, "sync")
    for verb in ("sync", "check"):
        told = run(bench, verb, "--mount", "usr")
        assert told.exit_code == 2
        assert f"--mount usr: nothing is mounted at {bench.root}/usr" in told.stderr
        assert "hint: nothing is mounted below the root: leave --mount out" in told.stderr
    other = tmp_path / "other"
    other.mkdir()
    (other / "theirs").write_text("theirs")
    (bench.root / "elsewhere").mkdir()
    for point in ("usr", "elsewhere"):
        process.run(["mount", "--bind", other, bench.root / point])
    try:
        told = run(bench, "sync", "--mount", "/us")
        assert (told.exit_code, "hint: did you mean usr?" in told.stderr) == (2, True)
        assert "hint: mounted below the root: elsewhere, usr" in run(bench, "check", "--mount", "boot").stderr
        told = run(bench, "sync", "--mount", "elsewhere")
        assert told.exit_code == 2
        assert "--mount /elsewhere: the image has no directory of that name" in told.stderr
        assert [path.name for path in other.iterdir()] == ["theirs"], "nothing was touched"
        assert run(bench, "sync", "--mount", "usr/").exit_code == 0
        assert run(bench, "check", "--mount", "usr").exit_code == 0
        assert not (other / "theirs").exists()
    finally:
        for point in ("usr", "elsewhere"):
            process.run(["umount", bench.root / point])
    assert rsync_differences(tree, bench.root, "elsewhere") == []


def test_a_store_that_would_be_removed_is_refused(held: tuple[Bench, Path], tmp_path: Path) -> None:
    bench, _ = held
    inside = bench.root / "srv/copy"
    shutil.copytree(bench.store.path, inside)
    told = run(bench, "sync", where=str(inside))
    assert told.exit_code == 5
    assert f"the store {inside} lies below the root {bench.root}" in told.stderr
    assert run(bench, "sync", "-n", where=str(inside)).exit_code == 0, "what only looks may"
    (tmp_path / "policy").write_text("ignore /srv/copy\n")
    assert run(bench, "sync", "--policy", tmp_path / "policy", where=str(inside)).exit_code == 0
    assert (inside / "refs/image").exists()
    (tmp_path / "mounted").mkdir()
    shutil.rmtree(inside)
    inside.mkdir()
    process.run(["mount", "--bind", bench.store.path, inside])
    try:
        assert run(bench, "sync", where=str(inside)).exit_code == 0, "a file system of its own is left alone"
        assert (bench.store.path / "refs/image").exists()
    finally:
        process.run(["umount", inside])


def test_what_the_head_decides_is_not_given_by_hand() -> None:
    told = CliRunner().invoke(main, ["check", "--mount", "boot", "--key", "ab"])
    assert told.exit_code == 2
    assert "--mount and --key: what this node is held to, its head says" in told.stderr


def test_a_policy_file_decides(held: tuple[Bench, Path], tmp_path: Path) -> None:
    bench, _ = held
    (tmp_path / "policy").write_text("ignore /etc/**\n")
    run(bench, "sync")
    (bench.root / "etc/new").write_text("new")
    assert run(bench, "check", "--policy", tmp_path / "policy").exit_code == 0
    assert run(bench, "check").exit_code == 4


def test_state_is_kept_apart_for_each_root(tmp_path: Path) -> None:
    assert state_of(Path("/"), tmp_path) == tmp_path
    assert state_of(tmp_path / "a", tmp_path) != state_of(tmp_path / "b", tmp_path)
    os.symlink(tmp_path / "a", tmp_path / "c")
    assert state_of(tmp_path / "a", tmp_path) == state_of(tmp_path / "c", tmp_path)


def test_interrupted_by_the_user_it_exits_130_and_goes_on_later(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    tree = make_tree(tmp_path / "tree", files=1500)
    bench.commit(tree)
    argv = [Path(".venv/bin/sis-node").absolute(), "sync", "--from", bench.store.path, "--image", "image"]
    argv = [str(word) for word in (*argv, "--root", bench.root, "--state", bench.state)]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not (bench.root / ".sis-stage").exists():
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=90)
    assert child.returncode == 130, said
    assert b"interrupted" in said
    assert run(bench, "sync").exit_code == 0
    assert rsync_differences(tree, bench.root) == []
    assert not (bench.root / ".sis-stage").exists()
