"""A layer laid over a manifest."""

from __future__ import annotations

import pytest
from blake3 import blake3

from sis.errors import SisError
from sis.image.model import ANY_MTIME, Entry, Kind, Manifest
from sis.sync.desired import lay_over
from sis.sync.model import LayerFile


def manifest(**targets: str) -> Manifest:
    """usr/lib, usr/lib/x (a file), etc, and symlinks as given."""

    def entry(path: str, kind: Kind, target: str = "") -> Entry:
        return Entry(
            path=path.encode(), kind=kind, mode=0o755, uid=0, gid=0, mtime_ns=5, target=target.encode(), xattrs=()
        )

    entries = [entry(".", Kind.DIR), entry("etc", Kind.DIR), entry("usr", Kind.DIR), entry("usr/lib", Kind.DIR)]
    entries += [entry("usr/lib/x", Kind.FILE)]
    entries += [entry(name, Kind.SYMLINK, target) for name, target in targets.items()]
    return Manifest(tuple(sorted(entries, key=lambda entry: entry.path)))


def test_without_a_layer_the_entries_are_the_manifests() -> None:
    tree = lay_over(manifest())
    assert list(tree.entries) == [b".", b"etc", b"usr", b"usr/lib", b"usr/lib/x"]
    assert not tree.blobs
    assert len(tree.digest) == 32


def test_a_file_brings_its_content_and_its_missing_parents() -> None:
    tree = lay_over(manifest(), [LayerFile(path="/opt/new/file", content=b"hello", mode=0o640, uid=3, origin="site")])
    entry = tree.entries[b"opt/new/file"]
    assert (entry.size, entry.mode, entry.uid, entry.mtime_ns) == (5, 0o640, 3, ANY_MTIME)
    digest = blake3(b"hello").digest()
    assert [(chunk.digest, chunk.size_bytes) for chunk in entry.each_chunk()] == [(digest, 5)]
    assert tree.blobs == {digest: b"hello"}
    assert tree.origins == {b"opt/new/file": "site"}
    parent = tree.entries[b"opt/new"]
    assert (parent.kind, parent.mode, parent.uid, parent.gid) == (Kind.DIR, 0o755, 0, 0)
    assert list(tree.entries) == sorted(tree.entries)


@pytest.mark.parametrize(
    ("target", "path", "lands"),
    [
        ("usr/lib", "/lib/conf", "usr/lib/conf"),
        ("/usr/lib", "/lib/conf", "usr/lib/conf"),
        ("./usr/../usr/lib", "/lib/new/conf", "usr/lib/new/conf"),
        ("../../etc", "/lib/conf", "etc/conf"),
        ("usr/lib", "/lib", "lib"),
    ],
)
def test_symlinked_directories_are_followed_within_the_tree(target: str, path: str, lands: str) -> None:
    tree = lay_over(manifest(lib=target), [LayerFile(path=path, content=b"x")])
    assert tree.entries[lands.encode()].kind is Kind.FILE


def test_absent_takes_a_directory_out_with_all_below() -> None:
    tree = lay_over(manifest(), [LayerFile(path="/usr", kind="absent")])
    assert list(tree.entries) == [b".", b"etc"]


def test_a_directory_keeps_what_is_below() -> None:
    tree = lay_over(manifest(), [LayerFile(path="/usr/lib", kind="dir", mode=0o700)])
    assert tree.entries[b"usr/lib"].mode == 0o700
    assert b"usr/lib/x" in tree.entries


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (LayerFile(path="etc/x"), "not an absolute path"),
        (LayerFile(path="/etc/../x"), "not an absolute path"),
        (LayerFile(path="/"), "not an absolute path"),
        (
            LayerFile(path="/usr/lib/x/y", origin="hosts"),
            r"/usr/lib/x/y \(from hosts\).*: /usr/lib/x is not a directory",
        ),
        (LayerFile(path="/loop/x"), "too many symlinks at /loop"),
        (LayerFile(path="/etc/link", kind="symlink"), "a symlink needs a target"),
    ],
)
def test_what_cannot_lie_where_it_says_is_refused(file: LayerFile, said: str) -> None:
    with pytest.raises(SisError, match=said):
        lay_over(manifest(loop="loop"), [file])


def test_the_digest_names_the_tree() -> None:
    one = lay_over(manifest(), [LayerFile(path="/etc/x", content=b"1")])
    assert one.digest == lay_over(manifest(), [LayerFile(path="/etc/x", content=b"1")]).digest
    assert one.digest != lay_over(manifest(), [LayerFile(path="/etc/x", content=b"2")]).digest
