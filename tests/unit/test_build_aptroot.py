"""Our own apt, on a real archive of files: names are checked before anything is built, downloads are kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sis.build import apt
from sis.build.aptroot import AptRoot
from sis.errors import SisError, SpecInvalid
from sis.spec import imagespec

_PACKAGES = (("bash", "5.2-1", ""), ("bash", "5.3-1", ""), ("mawk", "1:1.3-2", "awk"), ("zsh", "5.9-4", ""))


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """The sources of an archive with a few packages, as deb822 text."""
    folder = tmp_path / "archive/dists/bookworm"
    index = folder / "main/binary-amd64/Packages"
    index.parent.mkdir(parents=True)
    index.write_text(
        "\n".join(
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: a <a@head>\n"
            f"Filename: pool/{name}.deb\nSize: 1\nSHA256: {'0' * 64}\nDescription: x\n"
            + (f"Provides: {provides}\n" if provides else "")
            for name, version, provides in _PACKAGES
        )
    )
    data = index.read_bytes()
    (folder / "Release").write_text(
        "Suite: bookworm\nCodename: bookworm\nComponents: main\nArchitectures: amd64\n"
        "Date: Sun, 01 Nov 2026 00:00:00 UTC\nSHA256:\n"
        f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/Packages\n"
    )
    uri = f"file:{tmp_path}/archive"
    return f"Types: deb\nURIs: {uri}\nSuites: bookworm\nComponents: main\nTrusted: yes\n"


@pytest.fixture
def root(tmp_path: Path, archive: str) -> AptRoot:
    made = AptRoot(tmp_path / "apt", "amd64")
    made.update(archive)
    return made


def test_missing_knows_names_versions_and_what_is_provided(root: AptRoot) -> None:
    wanted = ["bash", "bash=5.2-1", "bash=5.3-1", "bash=9", "awk", "mawk=1:1.3-2", "zsh:amd64", "nosuch", "nosuch=1"]
    assert root.missing(wanted) == ["bash=9", "nosuch", "nosuch=1"]


def test_names(root: AptRoot) -> None:
    assert {"bash", "mawk", "zsh"} <= set(root.names())


def test_unknown_packages_are_told_all_at_once_with_their_lines(tmp_path: Path, root: AptRoot) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/core.list").write_text("bash\nzhs\n")
    path = tmp_path / "x.yaml"
    path.write_text(
        "image: x\ndistribution: debian\nrelease: bookworm\nlists: [core]\n"
        "packages:\n  - mawk\n  - bsh\n  - bash=1.0\nkernel: {package: linux-image-nosuch}\n"
    )
    with pytest.raises(SpecInvalid) as caught:
        apt.check_names(imagespec.load(path, search=[]), root)
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "x: 4 unknown packages\n"
        "lists/core.list:2: unknown package 'zhs'; did you mean 'zsh'?\n"
        "x.yaml:7: unknown package 'bsh'; did you mean 'bash'?\n"
        "x.yaml:8: package 'bash' has no version '1.0' in the sources\n"
        "x.yaml:9: unknown package 'linux-image-nosuch'; there is bash, mawk, zsh\n"
        "hint: these are the packages of debian bookworm in the spec's sources"
    )


def test_an_archive_that_is_not_there(tmp_path: Path, archive: str) -> None:
    with pytest.raises(SisError) as caught:
        AptRoot(tmp_path / "apt", "amd64").update(archive.replace("/archive\n", "/nosuch\n"))
    assert caught.value.message == "the package lists cannot be fetched"
    assert caught.value.hint == "is the archive reachable, and is its keyring installed on the head?"
    assert any("nosuch" in line for line in caught.value.details)


def test_downloads_are_lent_and_taken_back(tmp_path: Path, root: AptRoot) -> None:
    (root.archives / "old_1_amd64.deb").write_bytes(b"old")
    tree = tmp_path / "tree"
    tree.mkdir()
    root.lend(tree)
    archives = tree / "var/cache/apt/archives"
    assert (archives / "old_1_amd64.deb").read_bytes() == b"old"
    assert any(path.name.endswith("Packages") for path in (tree / "var/lib/apt/lists").iterdir())
    assert not (tree / "var/lib/apt/lists/lock").exists()
    (archives / "new_1_amd64.deb").write_bytes(b"new")
    (archives / "lock").touch()
    root.take_back(tree)
    assert sorted(path.name for path in root.archives.glob("*.deb")) == ["new_1_amd64.deb", "old_1_amd64.deb"]
    assert not archives.exists()
    assert (root.archives / "old_1_amd64.deb").stat().st_nlink == 1


def test_packages_the_archive_no_longer_has_are_forgotten(root: AptRoot, archive: str) -> None:
    for name in ("bash_5.3-1_amd64.deb", "bash_4.0-1_amd64.deb"):
        (root.archives / name).touch()
    root.update(archive)
    assert [path.name for path in root.archives.glob("*.deb")] == ["bash_5.3-1_amd64.deb"]
