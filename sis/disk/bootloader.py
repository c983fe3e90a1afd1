"""GRUB for BIOS and UEFI from the installer's own modules, and the menu of the kernels in a root.

The core images are complete: they hold every module they need and the UUID of the file system with /boot, so what
an image ships of GRUB does not matter, and one menu serves both firmwares. BIOS: the core image fills the
bios-boot partition and the first sector points at it. UEFI: one file, EFI/BOOT/BOOTX64.EFI, the removable path,
which needs no variable in the firmware.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sis.disk import devices, mounts, probe
from sis.disk.model import Layout
from sis.disk.planned import DiskPlan, PlannedDisk, PlannedPartition
from sis.errors import NotFound, Refused, SisError
from sis.system import process

GRUB = Path("/usr/lib/grub")
"""Where Debian's grub-pc-bin and grub-efi-amd64-bin put their modules."""

_MODULES = (
    "normal", "configfile", "linux", "part_gpt", "ext2", "xfs", "fat", "search", "search_fs_uuid", "search_label",
    "serial", "terminal", "test", "echo", "ls", "cat", "minicmd", "sleep", "halt", "reboot", "gzio",
)  # fmt: skip
_BIOS_MODULES = ("biosdisk",)
_EFI_MODULES = ("all_video", "efi_gop")

# Places in GRUB's boot.img and in the first sector of its core image (include/grub/i386/pc/boot.h).
_SECTOR = 512
_KERNEL_SECTOR = 0x5C
_DRIVE_CHECK = 0x66
_OF_THE_DISK = slice(0x1B8, 0x1FE)
_BLOCK_LIST = _SECTOR - 12
_CORE_SEGMENT = 0x820

_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:=,@%+-]+")


class KernelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel of a root: its release, and file names below /boot."""

    release: str
    kernel: str
    initrd: str | None = None


def install(target: Path, plan: DiskPlan, *, grub: Path = GRUB) -> tuple[str, ...]:
    """Install GRUB on every disk of the plan that has a bios-boot or an EFI system partition.

    `target` is the root, mounted by `mounts.mounted`. Returns what was installed, a few words each. The menu is
    `write_menu`'s. Raises Refused when there is nowhere to put it, ProgramFailed when grub-mkimage fails.
    """
    boot_uuid, prefix = _boot_filesystem(target)
    early = f"search.fs_uuid {boot_uuid} root\nset prefix=($root){prefix}\n"
    done: list[str] = []
    for disk in plan.disks:
        for partition in disk.partitions:
            if partition.role == "bios-boot":
                _install_bios(disk, partition, early, prefix, grub)
                done.append(f"BIOS on {disk.path}")
            elif partition.role == "esp":
                _install_efi(disk, partition, early, prefix, grub)
                done.append(f"UEFI on {disk.path}, partition {partition.number}")
    if not done:
        raise Refused(
            "the layout has no place for a boot loader", hint="add a partition with role bios-boot (BIOS) or esp (UEFI)"
        )
    return tuple(done)


def kernels_in(root: Path) -> tuple[KernelEntry, ...]:
    """The kernels in a root's /boot with their initramfs, newest first."""
    boot = root / "boot"
    found = []
    for kernel in boot.glob("vmlinuz-*"):
        release = kernel.name.removeprefix("vmlinuz-")
        if not kernel.is_file() or ".dpkg-" in release:
            continue
        names = (f"initrd.img-{release}", f"initramfs-{release}.img", f"initrd-{release}")
        initrd = next((name for name in names if (boot / name).is_file()), None)
        found.append(KernelEntry(release=release, kernel=kernel.name, initrd=initrd))
    return tuple(sorted(found, key=lambda each: _version_key(each.release), reverse=True))


def root_spec(layout: Layout) -> str:
    """How the kernel finds the root: "PARTLABEL=sis-root"."""
    roots = (each.label for disk in layout.disks for each in disk.partitions if each.role == "root")
    return f"PARTLABEL={next(roots)}"


def write_menu(
    root: Path,
    kernels: Sequence[KernelEntry],
    *,
    root_spec: str,
    cmdline: str = "",
    serial_console: str | None = None,
    timeout_s: int = 1,
) -> Path:
    """Write /boot/grub/grub.cfg below `root`, all or nothing, unless it says this already.

    The first of `kernels` boots by default; `serial_console` is such as "ttyS0,115200". Returns its path. Raises
    NotFound without kernels.
    """
    if not kernels:
        raise NotFound(
            f"no kernel in {root / 'boot'}", hint="the image needs a kernel package, such as linux-image-amd64"
        )
    boot = root / "boot"
    separate = boot.is_dir() and boot.stat().st_dev != root.stat().st_dev
    text = menu(
        kernels,
        boot="" if separate else "/boot",
        root_spec=root_spec,
        cmdline=cmdline,
        serial_console=serial_console,
        timeout_s=timeout_s,
    )
    path = boot / "grub" / "grub.cfg"
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != text.encode():
        _write_atomically(path, text.encode())
    return path


def menu(
    kernels: Sequence[KernelEntry],
    *,
    boot: str,
    root_spec: str,
    cmdline: str,
    serial_console: str | None,
    timeout_s: int,
) -> str:
    """The text of grub.cfg; `boot` is /boot as GRUB sees it: "" when it is a file system of its own."""
    line = " ".join(map(_quoted, boot_words(root_spec=root_spec, cmdline=cmdline, serial_console=serial_console)))
    lines = ["# Written by sis at every install and kernel update; changes made here are lost."]
    lines += [f"set timeout={timeout_s}", "set default=0", *_serial_lines(serial_console), ""]
    for kernel in kernels:
        lines.append(f"menuentry {_quoted(f'Linux {kernel.release}')} --id {_quoted(kernel.release)} {{")
        lines.append(f"    linux {_quoted(f'{boot}/{kernel.kernel}')} {line}")
        if kernel.initrd:
            lines.append(f"    initrd {_quoted(f'{boot}/{kernel.initrd}')}")
        lines += ["}", ""]
    return "\n".join(lines)


def boot_words(*, root_spec: str, cmdline: str, serial_console: str | None) -> tuple[str, ...]:
    """The words of the kernel command line the menu boots with."""
    words = (f"root={root_spec}", "ro", *cmdline.split())
    if serial_console and not any(word.startswith("console=") for word in words):
        return (*words, "console=tty0", f"console={serial_console}")
    return words


def _serial_lines(serial_console: str | None) -> list[str]:
    """GRUB on the serial line, for BIOS: a UEFI firmware shows its console there itself."""
    told = re.fullmatch(r"ttyS(\d+)(?:,(\d+).*)?", serial_console or "")
    if told is None:
        return []
    return [
        'if [ "$grub_platform" = pc ]; then',
        f"    serial --unit={told[1]} --speed={told[2] or '9600'}",
        "    terminal_input console serial",
        "    terminal_output console serial",
        "fi",
    ]


def _boot_filesystem(target: Path) -> tuple[str, str]:
    """The UUID of the file system that holds /boot, and GRUB's directory as seen in it."""
    boot = target / "boot"
    separate = boot.is_dir() and boot.stat().st_dev != target.stat().st_dev
    device = mounts.source_of(boot if separate else target)
    uuid = probe.signature(device).get("UUID")
    if uuid is None:
        raise SisError(f"{device}, which holds {boot}, has no file system UUID GRUB could find it by")
    return uuid, "/grub" if separate else "/boot/grub"


def _core_image(platform: str, modules: Sequence[str], early: str, prefix: str, grub: Path) -> bytes:
    folder = grub / platform
    if not (folder / "moddep.lst").exists():
        package = {"i386-pc": "grub-pc-bin", "x86_64-efi": "grub-efi-amd64-bin"}[platform]
        raise NotFound(f"GRUB's modules for {platform} are not in {grub}", hint=f"install the package {package}")
    with tempfile.TemporaryDirectory(prefix="sis-grub-") as scratch:
        config, image = Path(scratch, "early.cfg"), Path(scratch, "core.img")
        config.write_text(early)
        options: list[str | Path] = ["-O", platform, "-d", folder, "-p", prefix, "-c", config, "-o", image]
        process.run(["grub-mkimage", *options, *_MODULES, *modules])
        return image.read_bytes()


def _install_bios(disk: PlannedDisk, partition: PlannedPartition, early: str, prefix: str, grub: Path) -> None:
    if disk.sector_bytes != _SECTOR:
        raise Refused(f"{disk.path} has sectors of {disk.sector_bytes} bytes: BIOS cannot boot it", hint="use UEFI")
    core = _core_image("i386-pc", _BIOS_MODULES, early, prefix, grub)
    if len(core) > partition.size_bytes:
        raise Refused(
            f"the bios-boot partition of {disk.path} is too small: GRUB needs {len(core)} bytes, "
            f"it has {partition.size_bytes}",
            hint="give it 1M in the layout",
        )
    handle = os.open(devices.disk_device(disk), os.O_RDWR | os.O_CLOEXEC)
    try:
        first = os.pread(handle, _SECTOR, 0)
        boot = (grub / "i386-pc" / "boot.img").read_bytes()
        sector, core = embedded(boot, core, first, partition.start_bytes // _SECTOR)
        os.pwrite(handle, core, partition.start_bytes)
        os.fsync(handle)
        os.pwrite(handle, sector, 0)
        os.fsync(handle)
    finally:
        os.close(handle)


def embedded(boot: bytes, core: bytes, first: bytes, core_sector: int) -> tuple[bytes, bytes]:
    """GRUB's boot sector and core image made ready to lie on a disk; pure.

    `boot` and `core` are boot.img and what grub-mkimage made, `first` the disk's sector 0, whose partition table
    stays; the core image lies at `core_sector` and after it, in one run of whole sectors.
    """
    sectors = -(-len(core) // _SECTOR)
    ready = bytearray(core.ljust(sectors * _SECTOR, b"\0"))
    struct.pack_into("<QHH", ready, _BLOCK_LIST, core_sector + 1, sectors - 1, _CORE_SEGMENT)
    sector = bytearray(boot)
    struct.pack_into("<Q", sector, _KERNEL_SECTOR, core_sector)
    sector[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"  # some firmware names the wrong drive: do not check it
    sector[_OF_THE_DISK] = first[_OF_THE_DISK]
    return bytes(sector), bytes(ready)


def _install_efi(disk: PlannedDisk, partition: PlannedPartition, early: str, prefix: str, grub: Path) -> None:
    """Written with mtools, so the installer's kernel need not know vfat and the tree has no mount in the way."""
    device = devices.partition_device(disk, partition)
    try:
        os.close(os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise Refused(f"the EFI system partition {device} is mounted", hint=f"umount {device}") from error
    env = {"MTOOLS_SKIP_CHECK": "1"}
    for folder in ("::/EFI", "::/EFI/BOOT"):
        if process.run(["mdir", "-b", "-i", device, folder], env=env, check=False).returncode != 0:
            process.run(["mmd", "-i", device, folder], env=env)
    with tempfile.NamedTemporaryFile(prefix="sis-efi-") as loader:
        loader.write(_core_image("x86_64-efi", _EFI_MODULES, early, prefix, grub))
        loader.flush()
        process.run(["mcopy", "-o", "-i", device, loader.name, "::/EFI/BOOT/BOOTX64.EFI"], env=env)
    handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_atomically(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _quoted(word: str) -> str:
    """A word for GRUB's script language, which quotes as the shell does."""
    if _PLAIN_WORD.fullmatch(word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def _version_key(release: str) -> tuple[tuple[int, int, str], ...]:
    """Versions in Debian's order as far as kernels need it: numbers by value, "~" before everything."""
    parts = re.findall(r"\d+|~|[^\d~]+", release)
    order = [(2, int(part), "") if part.isdigit() else (0 if part == "~" else 3, 0, part) for part in parts]
    return (*order, (1, 0, ""))
