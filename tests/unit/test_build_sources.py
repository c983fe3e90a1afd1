"""Apt sources of the head: both forms are read, third parties and other releases are left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from sis.build import sources
from sis.build.distributions import distribution
from sis.build.sources import AptSource
from sis.errors import NotFound

DEBIAN = distribution("debian")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def _head(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    for name, text in files.items():
        stem, _, kind = name.rpartition("_")
        path = tmp_path / "etc/apt/sources.list" if name == "main" else folder / f"{stem}.{kind}"
        path.write_text(text)
    return tmp_path


def test_one_line_form() -> None:
    text = """
# deb http://head/old bookworm main
deb http://head/debian/ bookworm main contrib # the usual
deb [arch=amd64,arm64 signed-by=/etc/apt/keyrings/x.gpg] http://head/x stable main
deb-src http://head/debian bookworm main
deb http://head/flat ./
nonsense
"""
    assert list(sources.parse_lines(text)) == [
        AptSource("http://head/debian", ("bookworm",), ("main", "contrib")),
        AptSource("http://head/x", ("stable",), ("main",), "/etc/apt/keyrings/x.gpg", ("amd64", "arm64")),
        AptSource("http://head/flat", ("./",), ()),
    ]


def test_stanza_form() -> None:
    text = f"""# made by the installer
Types: deb deb-src
# a comment in between
URIs: http://head/debian http://head/mirror
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: {KEYRING}

Types: deb
Enabled: no
URIs: http://head/off
Suites: bookworm
Components: main

Types: deb
URIs: http://head/inline
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
"""
    assert list(sources.parse_stanzas(text)) == [
        AptSource("http://head/debian", ("bookworm", "bookworm-updates"), ("main",), KEYRING),
        AptSource("http://head/mirror", ("bookworm", "bookworm-updates"), ("main",), KEYRING),
        AptSource("http://head/inline", ("bookworm",), ("main",), "inline"),
    ]


def test_only_the_distributions_own_of_the_release_are_taken(tmp_path: Path) -> None:
    head = _head(
        tmp_path,
        main="deb http://head/debian bookworm main\ndeb http://head/debian bullseye main\n",
        security_list="deb http://head/security bookworm-security main non-free-firmware\n",
        vendor_list="deb http://head/vendor bookworm main extra\ndeb [arch=arm64] http://head/arm bookworm main\n",
        docker_sources="Types: deb\nURIs: http://head/docker\nSuites: bookworm\nComponents: main\nSigned-By: /x.gpg\n",
        node_sources="Types: deb\nURIs: http://head/node\nSuites: nodistro\nComponents: main\n",
    )
    chosen = sources.for_release(sources.read_head(head), DEBIAN, "bookworm", "amd64")
    assert [(source.uri, source.suites) for source in chosen] == [
        ("http://head/debian", ("bookworm",)),
        ("http://head/security", ("bookworm-security",)),
    ]
    assert {source.signed_by for source in chosen} == {KEYRING}


def test_none_left_says_what_to_do(tmp_path: Path) -> None:
    head = _head(tmp_path, main="deb http://head/debian bullseye main\n")
    with pytest.raises(NotFound) as caught:
        sources.for_release(sources.read_head(head), DEBIAN, "bookworm", "amd64")
    assert str(caught.value) == (
        "the head has no apt sources of debian bookworm\nhint: write the archives into the image spec, under 'sources:'"
    )


def test_what_is_written_reads_back() -> None:
    given = (
        AptSource("http://head/debian", ("bookworm", "bookworm-updates"), ("main", "contrib"), KEYRING),
        AptSource("http://head/site", ("bookworm",), ("main",), "/etc/sis/keys/site.gpg"),
    )
    assert tuple(sources.parse_stanzas(sources.render(given))) == given
