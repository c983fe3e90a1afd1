"""Stage 1 of a network boot: a small initrd of busybox, our init and the image kernel's network drivers."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import libarchive

from sis.errors import NotFound
from sis.netboot import kernel
from sis.netboot.kernel import Kernel
from sis.system import process

SOURCES = Path(__file__).with_name("stage1")

_NETWORK_DRIVERS = (
    "kernel/drivers/net/ethernet/",
    "kernel/drivers/net/phy/",
    "kernel/drivers/net/hyperv/",
    "kernel/drivers/net/vmxnet3/",
    "kernel/drivers/net/virtio_net",
    "kernel/drivers/net/xen-netfront",
    "kernel/drivers/net/mdio/",
    "kernel/drivers/virtio/",
    "kernel/drivers/hv/hv_vmbus",
    "kernel/net/packet/af_packet",
)
_ROOT_DRIVERS = ("kernel/drivers/block/loop", "kernel/fs/squashfs/", "kernel/fs/overlayfs/")
_CHECKSUMS = ("kernel/crypto/crc32c", "kernel/arch/x86/crypto/crc32c", "kernel/lib/libcrc32c")


def build(system: Kernel, tree: Path, depmod_root: Path, work: Path, initrd: Path) -> None:
    """Write the initrd for the kernel `system` of the image `tree`.

    `depmod_root` is a folder with usr/lib/modules/<release> of that kernel, indexed by depmod; `work` an empty folder.
    Raises NotFound without a static busybox on the head, or when the kernel can reach no network.
    """
    indexed = depmod_root / "usr/lib/modules" / system.release
    needs = kernel.dependencies(indexed / "modules.dep")
    wanted = [name for name in needs if name.startswith(_NETWORK_DRIVERS + _ROOT_DRIVERS + _CHECKSUMS)]
    _copy_programs(work)
    contents = _copy_modules(indexed, kernel.closure(wanted, needs), work / "usr/lib/modules" / system.release)
    copy_firmware(tree, contents, work / "usr/lib/firmware")
    library = work / "lib"
    library.symlink_to("usr/lib")  # depmod looks below lib; in the ramdisk our init makes this link
    process.run(["depmod", "-b", work, system.release])
    library.unlink()
    write_initrd(work, initrd, "zstd" if kernel.unpacks_zstd(system) else "gzip")


def copy_firmware(tree: Path, modules: Iterable[bytes], folder: Path) -> None:
    """Copy the firmware that plain modules ask for, as far as the image has it."""
    source = kernel.firmware_folder(tree)
    for name in kernel.firmware_of(tree, modules):
        assert source is not None
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)


def write_initrd(folder: Path, initrd: Path, compression: str) -> None:
    """Pack a folder (of files and folders) as a newc cpio owned by root, without times: equal folders, equal files."""
    options = "gzip:!timestamp" if compression == "gzip" else "zstd:compression-level=12"
    with libarchive.file_writer(str(initrd), "cpio_newc", compression, options=options) as archive:
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            found = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            kind, mode = stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode)
            archive.add_file_from_memory(name, len(content), content, kind, mode, uid=0, gid=0, mtime=0)


def _copy_programs(work: Path) -> None:
    busybox = process.find("busybox")
    if busybox is None:
        raise NotFound("busybox is missing", hint="apt-get install busybox-static")
    if b"/lib64/ld-linux" in busybox.read_bytes():
        raise NotFound(f"{busybox} is not static, so it cannot run in a ramdisk", hint="apt-get install busybox-static")
    (work / "bin").mkdir()
    for source, target in (
        (busybox, work / "bin/busybox"),
        (SOURCES / "init", work / "init"),
        (SOURCES / "address", work / "bin/sis-address"),
    ):
        shutil.copyfile(source, target)
        target.chmod(0o755)


def _copy_modules(indexed: Path, names: Sequence[str], folder: Path) -> list[bytes]:
    """Copy modules uncompressed, and the lists depmod wants beside them. Returns their contents."""
    contents = []
    for name in names:
        plain, content = kernel.plain_module(indexed / name)
        target = folder / Path(name).parent / plain
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        contents.append(content)
    folder.mkdir(parents=True, exist_ok=True)
    for index in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        if (indexed / index).is_file():
            shutil.copyfile(indexed / index, folder / index)
    if not any("drivers/net/" in name for name in names) and "drivers/net/" not in _builtin(folder):
        raise NotFound(
            f"the image's kernel {folder.name} has no network driver",
            hint="use another kernel package in the image spec",
        )
    return contents


def _builtin(folder: Path) -> str:
    listed = folder / "modules.builtin"
    return listed.read_text() if os.path.exists(listed) else ""
