"""`sis image` as a user types it: output, messages, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sis.cli import main
from sis.image.commit import commit
from sis.image.store.local import LocalStore
from tests.image_trees import make_simple, noise, settle

Sis = Callable[..., Result]


@pytest.fixture
def sis(tmp_path: Path) -> Sis:
    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["--state", str(tmp_path / "state"), "image", *words])

    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = make_simple(tmp_path / "tree")
    settle(tree)
    return tree


def test_the_story_of_a_version(sis: Sis, tree: Path) -> None:
    first = sis("commit", "web", "--tree", str(tree), "--note", "the first")
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("web@1: 10 entries, 600.0 kB;")
    assert sis("commit", "web", "--tree", str(tree)).stdout == "web@1: unchanged (10 entries)\n"
    assert sis("publish", "web@1", "stable").stdout == "web@stable is generation 1 now\n"
    (tree / "etc/new").write_text("new")
    assert sis("commit", "web", "--tree", str(tree)).stdout.startswith("web@2: 11 entries")
    assert sis("publish", "web", "stable").stdout == "web@stable is generation 2 now (was 1)\n"
    assert sis("publish", "web@2", "stable").stdout == "web@stable already is generation 2\n"
    assert sis("rollback", "web", "stable").stdout == "web@stable is generation 1 now (was 2)\n"
    again = sis("rollback", "web", "stable")
    assert again.exit_code == 5
    assert "nothing earlier is known of web@stable" in again.stderr
    rows = json.loads(sis("list", "-o", "json").stdout)
    assert [(row["name"], row["channels"], row["note"]) for row in rows] == [
        ("web@1", ["stable"], "the first"),
        ("web@2", [], ""),
    ]
    assert sis("list", "-o", "name").stdout == "web@1\nweb@2\n"
    shown = sis("show", "web@stable").stdout
    assert "name:" in shown
    assert "web@1" in shown
    assert "enforce everything" in shown
    verified = sis("verify")
    assert verified.exit_code == 0
    assert "2 versions, " in verified.stdout
    assert verified.stdout.endswith("all sound\n")


def test_files_of_a_version(sis: Sis, tree: Path) -> None:
    sis("commit", "web", "--tree", str(tree))
    lines = sis("show", "web", "--files").stdout.splitlines()
    assert lines[0].split() == ["PATH", "MODE", "OWNER", "SIZE", "TARGET", "XATTRS"]
    assert any(line.split()[:2] == ["/etc/link", "lrwxrwxrwx"] and line.endswith("hosts") for line in lines)
    assert any(line.split()[:2] == ["/etc/fifo", "prw-r--r--"] for line in lines)


def test_a_diff_by_path_and_by_package(sis: Sis, tree: Path, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "state/store")
    commit(store, "web", tree, lock={"bash": "5.1", "tmux": "3"})
    (tree / "etc/hosts").write_text("changed")
    (tree / "etc/added").write_bytes(noise("added", 1000))
    settle(tree)
    commit(store, "web", tree, lock={"bash": "5.2"})
    same = sis("diff", "web@1", "web@1")
    assert (same.exit_code, same.stdout) == (0, "no difference\n")
    done = sis("diff", "web@1", "web@2")
    assert done.exit_code == 4
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["bash", "5.1", "5.2"] in lines
    assert ["tmux", "3", "—"] in lines
    assert ["update", "/etc/hosts", "content,size"] in lines
    assert ["create", "/etc/added"] in lines
    assert done.stdout.endswith("1 create, 1 update, 0 replace, 0 metadata, 0 remove; 1.0 kB more, 13 B less content\n")
    data = json.loads(sis("diff", "web@1", "web@2", "-o", "json").stdout)
    assert data["packages"] == [
        {"package": "bash", "before": "5.1", "after": "5.2"},
        {"package": "tmux", "before": "3", "after": None},
    ]
    assert [change["path"] for change in data["changes"]] == ["/etc/added", "/etc/hosts"]
    assert data["totals"]["create"] == 1


def test_damage_is_told_and_fails(sis: Sis, tree: Path, tmp_path: Path) -> None:
    sis("commit", "web", "--tree", str(tree))
    store = LocalStore(tmp_path / "state/store")
    (name,) = store.names("packs")
    (store.path / "packs" / name).unlink()
    done = sis("verify")
    assert done.exit_code == 1
    assert "the store has 1 damaged or missing file" in done.stderr
    assert f"packs/{name}: it is missing from the store" in done.stderr
    assert "hits web@1" in done.stderr
    assert "/etc/hosts" in done.stderr
    assert "copy the named files from another copy of the store" in done.stderr
    rows = json.loads(sis("verify", "web", "-o", "json").stdout)
    assert rows[0]["file"] == f"packs/{name}"


def test_prune_lists_asks_and_removes(sis: Sis, tree: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tree / "data").write_bytes(noise(str(number), 20_000))
        sis("commit", "web", "--tree", str(tree))
    first, second = (json.loads(sis("show", f"web@{at}", "-o", "json").stdout)["id"] for at in (1, 2))
    for version in (first, second):
        (tmp_path / "state/boot" / version).mkdir(parents=True)
    listed = sis("prune", "--keep", "1", "-n")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:3]] == ["web@1", "web@2"]
    assert "would remove 2 generations" in listed.stderr
    assert sis("prune", "--keep", "1").exit_code == 2, "nobody there to ask"
    assert len(json.loads(sis("list", "-o", "json").stdout)) == 3
    done = sis("prune", "web@1", "-y")
    assert "removed 1 generations" in done.stderr
    assert [folder.name for folder in (tmp_path / "state/boot").iterdir()] == [second], "boot files go with it"
    assert sis("list", "-o", "name").stdout == "web@2\nweb@3\n"
    assert "nothing to prune" in sis("prune").stderr
    assert sis("prune", "web").exit_code == 2
    assert sis("prune", "web@3", "-y").exit_code == 5


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("show", "wev"), 1, "no such image: wev\nhint: did you mean web?"),
        (("show", "web@9"), 1, "no such generation: web@9\nhint: did you mean web@1?"),
        (("show", "web@stabel"), 1, "no such channel: web@stabel"),
        (("show", "../web"), 2, "not an image reference: '../web'"),
        (("list", "nope"), 1, "no such image: nope\nhint: there is: web"),
        (("publish", "web@1", "7"), 2, "not a channel name: '7'"),
        (("publish", "web@4", "stable"), 1, "no such generation: web@4"),
        (("rollback", "web", "stable"), 1, "no such channel: web@stable"),
        (("commit", "web", "--tree", "/no/such/tree"), 1, "no such directory: /no/such/tree"),
        (("commit", "a b", "--tree", "."), 2, "not an image name: 'a b'"),
        (("commit", "web", "--tree", ".", "--policy", "/no/file"), 1, "cannot read the policy file /no/file"),
        (("prune", "--keep", "0"), 2, "at least one generation"),
        (("verify", "nope"), 1, "no such image: nope"),
    ],
)
def test_errors(sis: Sis, tree: Path, words: tuple[str, ...], code: int, message: str) -> None:
    sis("commit", "web", "--tree", str(tree))
    done = sis(*words)
    assert (done.exit_code, done.exception.__class__) == (code, SystemExit)
    assert f"sis: {message}" in done.stderr.replace("error: ", "")


def test_the_policy_of_a_commit(sis: Sis, tree: Path, tmp_path: Path) -> None:
    def policy() -> list[str]:
        rules: list[str] = json.loads(sis("show", "web", "-o", "json").stdout)["policy"]
        return rules

    sis("commit", "web", "--tree", str(tree))
    assert policy() == []
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "etc/os-release").write_text("ID=debian\n")
    sis("commit", "web", "--tree", str(tree))
    assert "node /etc/machine-id" in policy(), "an operating system gets the rules of one"
    sis("commit", "web", "--tree", str(tree), "--policy", "none")
    assert policy() == []
    (tmp_path / "rules").write_text("report /srv/**\n")
    sis("commit", "web", "--tree", str(tree), "--policy", str(tmp_path / "rules"))
    assert policy() == ["report /srv/**"]
    (tmp_path / "rules").write_text("reprot /srv/**\n")
    wrong = sis("commit", "web", "--tree", str(tree), "--policy", str(tmp_path / "rules"))
    assert wrong.exit_code == 1
    assert "rules:1: no such verb: 'reprot'" in wrong.stderr


def test_where_there_is_nothing_yet_that_is_said(sis: Sis, tmp_path: Path) -> None:
    listed = sis("list")
    assert listed.exit_code == 0
    assert f"no image in {tmp_path / 'state'} yet" in listed.stderr
    assert sis("list", "-o", "json").output == "[]\n"
    verified = sis("verify")
    assert verified.exit_code == 1
    assert f"there is no image store in {tmp_path / 'state'}" in verified.stderr


def test_a_damaged_delta_has_a_remedy_of_its_own(sis: Sis, tree: Path, tmp_path: Path) -> None:
    sis("commit", "web", "--tree", str(tree))
    sis("publish", "web@1", "stable")
    (tree / "noise").write_bytes(noise("more", 50_000))
    sis("commit", "web", "--tree", str(tree))
    assert sis("publish", "web@2", "stable").exit_code == 0
    (delta,) = (tmp_path / "state/store/deltas").glob("*-*")
    raw = bytearray(delta.read_bytes())
    raw[-1] ^= 1
    delta.write_bytes(raw)
    done = sis("verify")
    assert done.exit_code == 1
    assert "hits web@1, web@2" in done.stderr
    assert "publishing again makes it anew" in done.stderr
    assert "commit the tree" not in done.stderr
    again = sis("publish", "web@2", "stable")
    assert "already is generation 2" in again.stdout
    assert "delta from web@1" in again.stderr
    assert sis("verify").exit_code == 0
    assert sis("publish", "web@2", "stable").stderr == "", "one that is whole is left"


def test_damaged_packs_that_were_removed_come_back_by_committing_the_tree_again(
    sis: Sis, tree: Path, tmp_path: Path
) -> None:
    """As `verify` says; though nothing in the tree has changed since."""
    sis("commit", "web", "--tree", str(tree))
    packs = tmp_path / "state/store/packs"
    first = set(packs.iterdir())
    (tree / "noise").write_bytes(noise("more", 50_000))
    settle(tree)
    sis("commit", "web", "--tree", str(tree))
    (second,) = set(packs.iterdir()) - first
    raw = bytearray(second.read_bytes())
    raw[100] ^= 1
    second.write_bytes(raw)
    assert "packs: remove those that are damaged, then\n  commit the tree" in sis("verify").stderr
    for path in packs.iterdir():
        path.unlink()
    assert sis("commit", "web", "--tree", str(tree)).stdout.startswith("web@3: ")
    assert sis("commit", "web", "--tree", str(tree)).stdout.startswith("web@3: unchanged")
    assert sis("prune", "--keep", "1", "-y").exit_code == 0
    assert sis("verify").stdout.endswith("all sound\n")
