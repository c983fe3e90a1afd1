"""An initramfs is unpacked so that its files are found again, whatever packed it; kernels are ordered by number."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from sis.build import kernel
from sis.errors import Corrupt, SisError


def _cpio(*names: str) -> bytes:
    """A newc archive of empty files."""
    made = b""
    for name in (*names, "TRAILER!!!"):
        fields = [0, 0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(name) + 1, 0]
        entry = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        made += entry + b"\0" * (-len(entry) % 4)
    return made + b"\0" * (-len(made) % 512)


PLAIN = _cpio("init", "bin/busybox")


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress, lambda plain: plain],
    ids=["gzip", "xz", "zstd", "plain"],
)
def test_packed_part_is_unpacked(pack: Callable[[bytes], bytes]) -> None:
    assert kernel.uncompressed(pack(PLAIN)) == PLAIN


def test_microcode_before_it_stays_as_it_is() -> None:
    early = _cpio("kernel/x86/microcode/GenuineIntel.bin")
    assert kernel.uncompressed(early + gzip.compress(PLAIN)) == early + PLAIN


@pytest.mark.parametrize(
    ("image", "error", "text"),
    [
        (gzip.compress(PLAIN, mtime=0)[:-20], Corrupt, "the initramfs cannot be unpacked"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 40, Corrupt, "the initramfs cannot be unpacked"),
        (zstandard.ZstdCompressor().compress(PLAIN)[:-4], Corrupt, "it ends too early"),
        (PLAIN[:160], Corrupt, "the initramfs ends within a cpio archive"),
        (PLAIN[:200], Corrupt, "the initramfs ends within a cpio archive"),
        (b"070701" + b"zz" * 60, Corrupt, "not a cpio archive at byte 0"),
        (b"\x02\x21\x4c\x18rest", SisError, "hint: set COMPRESS=zstd"),
    ],
)
def test_what_cannot_be_read_is_refused(image: bytes, error: type[SisError], text: str) -> None:
    with pytest.raises(error) as caught:
        kernel.uncompressed(image)
    assert text in str(caught.value)


def test_releases_are_ordered_by_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    for release in ("6.1.0-10-amd64", "6.1.0-9-amd64", "5.10.0-40-amd64"):
        (tmp_path / "boot" / f"vmlinuz-{release}").touch()
    assert kernel.releases(tmp_path) == ["5.10.0-40-amd64", "6.1.0-9-amd64", "6.1.0-10-amd64"]
    assert kernel.releases(tmp_path / "nosuch") == []
