"""GRUB's menu and boot sector as text and bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sis.disk.bootloader import KernelEntry, embedded, kernels_in, root_spec, write_menu
from sis.errors import NotFound
from tests.disks import layout


def _boot(root: Path, *names: str) -> Path:
    (root / "boot").mkdir()
    for name in names:
        (root / "boot" / name).write_bytes(b"")
    return root


def test_kernels_newest_first_with_their_initramfs(tmp_path: Path) -> None:
    names = ["vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-56-amd64", "vmlinuz-6.1.0~rc3", "vmlinuz-0-rescue-1f2e"]
    _boot(tmp_path, *names, "initrd.img-6.1.0-56-amd64", "initramfs-0-rescue-1f2e.img", "vmlinuz-6.1.0.dpkg-new")
    found = kernels_in(tmp_path)
    assert [kernel.release for kernel in found] == ["6.1.0-56-amd64", "6.1.0-9-amd64", "6.1.0~rc3", "0-rescue-1f2e"]
    assert [kernel.initrd for kernel in found] == [
        "initrd.img-6.1.0-56-amd64",
        None,
        None,
        "initramfs-0-rescue-1f2e.img",
    ]


def test_menu_has_the_previous_kernel_behind_the_current(tmp_path: Path) -> None:
    kernels = (
        KernelEntry(release="6.1.0-57", kernel="vmlinuz-6.1.0-57", initrd="initrd.img-6.1.0-57"),
        KernelEntry(release="6.1.0-56", kernel="vmlinuz-6.1.0-56"),
    )
    _boot(tmp_path)
    path = write_menu(
        tmp_path,
        kernels,
        root_spec="PARTLABEL=sis-root",
        cmdline="quiet sysctl.kernel.domainname='it is'",
        serial_console="ttyS1,115200n8",
    )
    assert path == tmp_path / "boot/grub/grub.cfg"
    assert path.stat().st_mode & 0o7777 == 0o644
    assert path.read_text() == (
        "# Written by sis at every install and kernel update; changes made here are lost.\n"
        "set timeout=1\n"
        "set default=0\n"
        'if [ "$grub_platform" = pc ]; then\n'
        "    serial --unit=1 --speed=115200\n"
        "    terminal_input console serial\n"
        "    terminal_output console serial\n"
        "fi\n"
        "\n"
        "menuentry 'Linux 6.1.0-57' --id 6.1.0-57 {\n"
        "    linux /boot/vmlinuz-6.1.0-57 root=PARTLABEL=sis-root ro quiet "
        "'sysctl.kernel.domainname='\\''it' 'is'\\''' console=tty0 console=ttyS1,115200n8\n"
        "    initrd /boot/initrd.img-6.1.0-57\n"
        "}\n"
        "\n"
        "menuentry 'Linux 6.1.0-56' --id 6.1.0-56 {\n"
        "    linux /boot/vmlinuz-6.1.0-56 root=PARTLABEL=sis-root ro quiet "
        "'sysctl.kernel.domainname='\\''it' 'is'\\''' console=tty0 console=ttyS1,115200n8\n"
        "}\n"
    )
    assert list(path.parent.iterdir()) == [path]


def test_a_console_of_the_admin_is_left_alone(tmp_path: Path) -> None:
    _boot(tmp_path)
    kernel = KernelEntry(release="6", kernel="vmlinuz-6")
    text = write_menu(
        tmp_path, [kernel], root_spec="LABEL=x", cmdline="console=hvc0", serial_console="ttyS0"
    ).read_text()
    assert "root=LABEL=x ro console=hvc0\n" in text


def test_no_kernel_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"no kernel in {tmp_path}/boot\nhint: the image needs a kernel package"):
        write_menu(tmp_path, kernels_in(_boot(tmp_path)), root_spec="PARTLABEL=sis-root")


def test_root_is_found_by_partition_label() -> None:
    assert root_spec(layout("own-labels")) == "PARTLABEL=system"


def test_boot_sector_keeps_the_partition_table_and_points_at_the_core_image() -> None:
    first = bytes(range(256)) * 2
    sector, core = embedded(b"\xeb" * 512, b"\x01" * 1300, first, 2048)
    assert len(sector) == 512
    assert struct.unpack_from("<Q", sector, 0x5C) == (2048,)
    assert sector[0x1B8:0x1FE] == first[0x1B8:0x1FE]
    assert len(core) == 3 * 512
    assert struct.unpack_from("<QHH", core, 500) == (2049, 2, 0x820)
    assert core[512:1300] == b"\x01" * 788
