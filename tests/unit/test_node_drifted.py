"""What a check tells of drifted files, on real trees: diffs of text anyone may read, nothing of what others may not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sis import sealed
from sis.errors import Refused
from sis.image import commit
from sis.image.kept.store import KeptStore
from sis.image.store.local import LocalStore
from sis.node import drifted, reports
from sis.node.held import Held
from sis.sync.desired import desired_tree
from sis.sync.model import LayerFile, Outcome
from sis.sync.staging.source import documents_of, open_source
from sis.wire import Desired, FileDiff

HOSTS = b"127.0.0.1 localhost\n10.77.0.11 n1\n"
SECRET = b"root:$6$not-for-others\n"


class Node:
    """A tree equal to its version and layer, and what is said of it after somebody touched it."""

    def __init__(self, folder: Path) -> None:
        golden = folder / "golden"
        (golden / "etc/private").mkdir(parents=True)
        (golden / "etc/private").chmod(0o750)
        (golden / "opt").mkdir()
        files = {"etc/app.conf": "a = 1\nb = 2\nc = 3\n", "etc/blob": "x" * 70_000, "etc/private/open": "word\n"}
        for name, text in {**files, "opt/notes": "mine\n", "etc/many": "line\n" * 4100}.items():
            (golden / name).write_text(text)
        store = LocalStore(folder / "store")
        version_id = commit.commit(store, "compute", golden).version_id
        layer = (
            LayerFile(path="/etc/hosts", content=HOSTS, origin="hosts"),
            LayerFile(path="/etc/shadow", content=SECRET, mode=0o640, origin="accounts"),
        )
        self.state, self.root = folder / "state", folder / "root"
        self.root.mkdir()
        kept = KeptStore(store, documents_of(self.state))
        version = kept.version(version_id)
        desired = Desired(
            node="n1", image="compute", channel=None, generation=1, version=version_id, store="store", layer=layer,
            layout=None,
        )  # fmt: skip
        want = desired_tree(version.manifest, kept.manifest, layer)
        self.held = Held(desired, version, want, open_source(kept, version_id, version))
        assert self.held.sync(self.root, self.state).in_sync

    def found(self) -> dict[str, FileDiff]:
        outcome: Outcome = self.held.check(self.root, self.state)
        return {each.path: each for each in drifted.diffs(self.root, self.held, outcome)}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.held.close()


def test_text_of_layer_and_etc_is_told_as_a_diff(node: Node) -> None:
    (node.root / "etc/hosts").write_bytes(HOSTS + b"6.6.6.6 bank\n")
    (node.root / "etc/app.conf").write_text("a = 1\nb = 9\nc = 3\n")
    (node.root / "opt/notes").write_text("theirs\n")
    found = node.found()
    assert found["/etc/hosts"].text == (
        "--- /etc/hosts\n+++ /etc/hosts (on the node)\n@@ -1,2 +1,3 @@\n 127.0.0.1 localhost\n 10.77.0.11 n1\n"
        "+6.6.6.6 bank"
    )
    assert "-b = 2\n+b = 9\n" in found["/etc/app.conf"].text
    assert "/opt/notes" not in found
    (node.root / "etc/hosts").write_bytes(HOSTS.rstrip())
    assert node.found()["/etc/hosts"].why == "only the end of the last line differs"


def test_what_others_may_not_read_only_says_that_it_differs(node: Node) -> None:
    """By its own mode as it is to be or as it is, or that of a directory above it."""
    (node.root / "etc/shadow").write_bytes(SECRET + b"toor::\n")
    (node.root / "etc/shadow").chmod(0o644)
    (node.root / "etc/private/open").write_text("other word\n")
    (node.root / "etc/app.conf").write_text("password = tr0ub4dor\n")
    (node.root / "etc/app.conf").chmod(0o600)
    found = node.found()
    for path in ("/etc/shadow", "/etc/private/open", "/etc/app.conf"):
        assert (found[path].text, found[path].why) == ("", drifted.NOT_TOLD), path


def test_what_is_no_text_or_long_or_no_file_is_not_told(node: Node) -> None:
    (node.root / "etc/blob").write_text("y" * 70_000)
    (node.root / "etc/many").write_text("line\n" * 4101)
    (node.root / "etc/app.conf").write_bytes(b"a\0b")
    (node.root / "etc/hosts").unlink()
    os.mkfifo(node.root / "etc/hosts", 0o644)
    found = node.found()
    for path in ("/etc/blob", "/etc/many", "/etc/app.conf"):
        assert (found[path].text, found[path].why) == ("", "it is no text, or too long"), path
    assert "/etc/hosts" not in found


def test_all_diffs_together_are_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drifted, "TEXT_CHARS_MAX", 90)
    (node.root / "etc/app.conf").write_text("a = 1\nb = 9\nc = 3\n")
    (node.root / "etc/hosts").write_bytes(HOSTS + b"6.6.6.6 bank\n")
    found = node.found()
    assert sum(len(each.text) for each in found.values()) <= 90
    assert [each.why for each in found.values()][-1] == "the rest is left out: too long"


def test_a_store_that_is_gone_leaves_the_check_as_it_is(node: Node) -> None:
    (node.root / "etc/app.conf").write_text("a = 9\n")
    outcome = node.held.check(node.root, node.state)
    for pack in (node.state.parent / "store/packs").iterdir():
        pack.unlink()
    told = drifted.diffs(node.root, node.held, outcome)
    assert told[0].why.startswith("what it is to hold cannot be read: ")


def test_diffs_travel_in_a_letter_only_their_head_opens(node: Node) -> None:
    (node.root / "etc/hosts").write_bytes(HOSTS + b"6.6.6.6 bank\n")
    diffs = tuple(node.found().values())
    box = sealed.Letterbox()
    to_head = msgspec.structs.replace(node.held.desired, letterbox=box.share)
    report = reports.of_outcome("check", to_head, Outcome(), started="", seconds=1, diffs=diffs)
    assert b"bank" not in report.diffs
    opened = box.open("n1", report.diffs)
    assert opened is not None
    assert msgspec.json.decode(opened, type=tuple[FileDiff, ...]) == diffs
    assert box.open("n2", report.diffs) is None
    assert sealed.Letterbox().open("n1", report.diffs) is None
    for damaged in (b"", b"x", report.diffs[:-1], bytes((report.diffs[0] ^ 1,)) + report.diffs[1:], bytes(60)):
        assert box.open("n1", damaged) is None
    assert reports.of_outcome("check", node.held.desired, Outcome(), started="", seconds=1, diffs=diffs).diffs == b""
    with pytest.raises(Refused, match="letterbox is not a key"):
        sealed.letter("00" * 32, "n1", b"x")
