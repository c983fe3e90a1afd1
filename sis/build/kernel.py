"""The kernel of a tree: its releases, an initramfs for each, stored so that deltas find its files again."""

from __future__ import annotations

import gzip
import lzma
import re
from pathlib import Path

import zstandard

from sis.build import inside
from sis.errors import Corrupt, SisError
from sis.spec.imagespec import ImageSpec
from sis.system import files

_CPIO = b"070701"
_HEADER_BYTES = 110


def releases(tree: Path) -> list[str]:
    """The releases of the kernels in /boot, newest last."""
    found = [path.name.removeprefix("vmlinuz-") for path in (tree / "boot").glob("vmlinuz-*")]
    return sorted(found, key=_age)


def modules(tree: Path, release: str) -> Path | None:
    """The folder of a kernel's modules, or None."""
    folder = tree / "usr/lib/modules" / release
    return folder if folder.is_dir() else None


def prepare(spec: ImageSpec, tree: Path, *, epoch: int, log_to: Path) -> None:
    """Make an initramfs for every kernel, uncompressed unless the spec wants it as packaged, and the /boot links.

    Raises SisError when there is nothing to make one with and none is there.
    """
    if spec.kernel is None:
        return
    for release in releases(tree):
        initrd = tree / "boot" / f"initrd.img-{release}"
        words = _maker(tree, release, unpacked=spec.kernel.initramfs == "uncompressed")
        if words is not None:
            initrd.unlink(missing_ok=True)
            inside.run(tree, words, env={"SOURCE_DATE_EPOCH": str(epoch)}, log_to=log_to)
        elif not initrd.is_file():
            hint = "add initramfs-tools (or dracut) to packages"
            raise SisError(f"{spec.image}: nothing makes an initramfs for kernel {release}", hint=hint)
        if spec.kernel.initramfs == "uncompressed":
            files.atomic_write(initrd, uncompressed(initrd.read_bytes()))
    _links(tree)


def uncompressed(image: bytes) -> bytes:
    """An initramfs image with its compressed part unpacked: early microcode, if any, then the plain cpio archive.

    A compressed initramfs changes as a whole with its first changed file; a plain one shares all other files with
    the next version. The kernel takes both. Raises Corrupt.
    """
    at = 0
    while image[at : at + 6] == _CPIO:
        at = _cpio_end(image, at)
        padding = len(image) - at - len(image[at:].lstrip(b"\0"))
        at += padding
    return image[:at] + _unpacked(image[at:])


def _cpio_end(image: bytes, at: int) -> int:
    """Where the newc archive at `at` ends: after its trailer."""
    while image[at : at + 6] == _CPIO:
        header = image[at : at + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES:
            break
        try:
            size, name_size = int(header[54:62], 16), int(header[94:102], 16)
        except ValueError as error:
            raise Corrupt(f"the initramfs is not a cpio archive at byte {at}") from error
        name = image[at + _HEADER_BYTES : at + _HEADER_BYTES + name_size - 1]
        at = _aligned(_aligned(at + _HEADER_BYTES + name_size) + size)
        if name == b"TRAILER!!!":
            return at
    raise Corrupt("the initramfs ends within a cpio archive")


def _aligned(at: int) -> int:
    return (at + 3) & ~3


def _unpacked(packed: bytes) -> bytes:
    if not packed.strip(b"\0"):
        return packed
    try:
        if packed.startswith(b"\x28\xb5\x2f\xfd"):
            return _whole_zstd(packed)
        if packed.startswith(b"\x1f\x8b"):
            return gzip.decompress(packed)
        if packed.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
            return lzma.decompress(packed)
    except (zstandard.ZstdError, OSError, EOFError, lzma.LZMAError) as error:
        raise Corrupt(f"the initramfs cannot be unpacked: {error}") from error
    hint = "set COMPRESS=zstd in the image's initramfs-tools, or 'initramfs: packaged' in the spec"
    raise SisError("the initramfs is compressed in a way that is not known here", hint=hint)


def _whole_zstd(packed: bytes) -> bytes:
    reader = zstandard.ZstdDecompressor().decompressobj()
    plain = reader.decompress(packed)
    if not reader.eof:
        raise Corrupt("the initramfs cannot be unpacked: it ends too early")
    return plain


def _maker(tree: Path, release: str, *, unpacked: bool) -> list[str] | None:
    """The program that makes the initramfs; one that is unpacked again is packed in haste."""
    if inside.has(tree, "mkinitramfs") and unpacked:
        program = "zstd" if inside.has(tree, "zstd") else "gzip"
        return ["mkinitramfs", "-c", program, "-l", "1", "-o", f"/boot/initrd.img-{release}", release]
    if inside.has(tree, "update-initramfs"):
        return ["update-initramfs", "-c", "-k", release]
    if inside.has(tree, "dracut"):
        return ["dracut", "--force", "--no-hostonly", "--reproducible", f"/boot/initrd.img-{release}", release]
    return None


def _links(tree: Path) -> None:
    """/boot/vmlinuz and /boot/initrd.img name the newest kernel; links that packages left dangling go."""
    found = releases(tree)
    if found:
        for name in ("vmlinuz", "initrd.img"):
            link = tree / "boot" / name
            link.unlink(missing_ok=True)
            link.symlink_to(f"{name}-{found[-1]}")
    for name in ("vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"):
        (tree / name).unlink(missing_ok=True)


def _age(release: str) -> list[tuple[int, str]]:
    """Orders releases as their numbers do: 6.1.0-9 before 6.1.0-10."""
    parts: list[str] = re.findall(r"\d+|[^\d]+", release)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
