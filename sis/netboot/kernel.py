"""The kernel of an image tree: its release, its modules and their dependencies, the firmware they ask for."""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import zstandard

from sis.errors import NotFound

_FIRMWARE = re.compile(rb"\0firmware=([\x21-\x7e]+)(?=\0)")


@dataclass(frozen=True)
class Kernel:
    """One installed kernel: `image` is the bootable file, `modules` the folder usr/lib/modules/<release>."""

    release: str
    image: Path
    modules: Path


def find(tree: Path, release: str | None = None) -> Kernel:
    """The kernel of an image tree; the newest, unless `release` is given. Raises NotFound, naming what is there."""
    kernels = {kernel.release: kernel for kernel in _kernels(tree)}
    if release is not None:
        if release not in kernels:
            raise NotFound.of("kernel", release, kernels)
        return kernels[release]
    if not kernels:
        raise NotFound(
            f"{tree} has no kernel with its modules (boot/vmlinuz-R with usr/lib/modules/R)",
            hint="name a kernel in the image spec",
        )
    return kernels[max(kernels, key=_age)]


def dependencies(index: Path) -> dict[str, tuple[str, ...]]:
    """modules.dep as depmod writes it: module path → the paths it needs, both relative to the release's folder."""
    needs = {}
    for line in index.read_text().splitlines():
        name, _, rest = line.partition(":")
        needs[name] = tuple(rest.split())
    return needs


def closure(wanted: Iterable[str], needs: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """`wanted` modules and all they need, sorted."""
    found: set[str] = set()
    open_ends = list(wanted)
    while open_ends:
        name = open_ends.pop()
        if name not in found:
            found.add(name)
            open_ends += needs.get(name, ())
    return tuple(sorted(found))


def plain_module(path: Path) -> tuple[str, bytes]:
    """Name and bytes of a module without its compression (.ko.xz, .ko.zst, .ko.gz): busybox reads plain ones only."""
    packed = path.read_bytes()
    match path.suffix:
        case ".xz":
            return path.stem, lzma.decompress(packed)
        case ".gz":
            return path.stem, gzip.decompress(packed)
        case ".zst":
            return path.stem, zstandard.ZstdDecompressor().decompressobj().decompress(packed)
        case _:
            return path.name, packed


def firmware_of(tree: Path, modules: Iterable[bytes]) -> tuple[PurePosixPath, ...]:
    """The firmware files the given plain modules name and the image tree has, below its usr/lib/firmware."""
    folder = _library(tree, "firmware")
    if folder is None:
        return ()
    names = {match.decode("ascii") for module in modules for match in _FIRMWARE.findall(module)}
    return tuple(sorted(PurePosixPath(name) for name in names if ".." not in name and (folder / name).is_file()))


def firmware_folder(tree: Path) -> Path | None:
    return _library(tree, "firmware")


def unpacks_zstd(kernel: Kernel) -> bool:
    """Whether this kernel takes a zstd-compressed initrd; False when its configuration is not at hand."""
    configuration = kernel.image.with_name(f"config-{kernel.release}")
    beside_modules = kernel.modules / "config"
    for path in (configuration, beside_modules):
        if path.is_file():
            return "\nCONFIG_RD_ZSTD=y\n" in path.read_text()
    return False


def _kernels(tree: Path) -> Iterator[Kernel]:
    folder = _library(tree, "modules")
    for modules in sorted(folder.iterdir()) if folder is not None else ():
        for image in (tree / "boot" / f"vmlinuz-{modules.name}", modules / "vmlinuz"):
            if image.is_file():
                yield Kernel(modules.name, image, modules)
                break


def _library(tree: Path, name: str) -> Path | None:
    for folder in (tree / "usr/lib" / name, tree / "lib" / name):
        if folder.is_dir():
            return folder
    return None


def _age(release: str) -> list[tuple[int, str]]:
    """A key that orders releases as their numbers do: 6.1.0-9 before 6.1.0-10."""
    parts: list[str] = re.findall(r"\d+|[^\d]+", release)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
