"""A disk of ours boots with BIOS and with UEFI, from ext4 and from xfs, and shows itself on the serial console."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sis.disk import bootloader, mounts
from sis.disk.apply import apply
from sis.node.due import behind
from sis.system import process
from tests.disks import image, layout, nothing_left_behind, plan_for
from tests.vm.lab import Firmware, Lab

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(600)]

BOOT_S = 300.0
INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo "BOOTED-OK $(/bin/busybox cat /proc/cmdline)"
/bin/busybox poweroff -f
"""


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    with nothing_left_behind(tmp_path):
        yield


@pytest.fixture(scope="module")
def boot_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A /boot with Debian's kernel, which boots, and an older one, which does not exist but is in the menu."""
    folder = tmp_path_factory.mktemp("boot")
    meta = process.run(["apt-cache", "depends", "linux-image-cloud-amd64"]).stdout.split()
    name = next(word for word in meta if word.startswith("linux-image-6"))
    process.run(["apt-get", "download", name], cwd=folder)
    process.run(["dpkg", "-x", next(folder.glob("*.deb")), folder / "kernel"])
    boot = folder / "made"
    boot.mkdir()
    kernel = next((folder / "kernel/boot").glob("vmlinuz-*"))
    shutil.copy(kernel, boot)
    (boot / "vmlinuz-5.10.0-1-amd64").touch()
    tree = folder / "initrd"
    (tree / "bin").mkdir(parents=True)
    (tree / "proc").mkdir()
    (tree / "dev").mkdir()
    shutil.copy("/bin/busybox", tree / "bin")
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = boot / kernel.name.replace("vmlinuz", "initrd.img")
    process.run(["cpio", "--quiet", "-o", "-H", "newc", "-F", packed], cwd=tree, stdin=names)
    return boot


@pytest.mark.parametrize(("firmware", "root"), [("bios", "ext4"), ("uefi", "ext4"), ("bios", "xfs"), ("uefi", "xfs")])
def test_boots(firmware: Firmware, root: str, boot_files: Path, tmp_path: Path) -> None:
    name = "single" if root == "ext4" else "single-xfs"
    disk = image(tmp_path / "disk.raw", 2 << 30)
    plan = plan_for(name, disk)
    apply(plan)
    with mounts.mounted(plan, tmp_path / "target") as target:
        shutil.copytree(boot_files, target / "boot")
        bootloader.install(target, plan)
        wanted = layout(name)
        line: Any = {"root_spec": bootloader.root_spec(wanted), "serial_console": wanted.serial_console}
        line["cmdline"] = "quiet foo=a;b bar=$x dyndbg=file*+p"
        menu = bootloader.write_menu(target, bootloader.kernels_in(target), **line)
        assert menu.read_text().count("menuentry") == 2

    with Lab() as lab:
        node = lab.node("disk", firmware=firmware, memory_mb=512, disks=[disk], boot=["disk"])
        node.power_on()
        booted = node.wait_console(r"BOOTED-OK (.*)", BOOT_S)
        assert "root=PARTLABEL=sis-root ro quiet foo=a;b bar=$x" in booted[1]
        assert "console=tty0 console=ttyS0,115200" in booted[1]
        assert behind(booted[1], bootloader.boot_words(**line), "", "") == [], "what the menu says is what it runs"
        node.wait_off(120)


def test_a_disk_that_is_not_installed_yet_sends_the_machine_back(tmp_path: Path) -> None:
    disk = image(tmp_path / "disk.raw", 2 << 30)
    apply(plan_for("single", disk))
    with Lab() as lab:
        node = lab.node("disk", firmware="bios", memory_mb=256, disks=[disk], boot=["disk"])
        node.power_on()
        for _ in range(2):
            node.wait_console("SeaBIOS", BOOT_S)
            node.wait_console("this disk is not installed yet; trying the network again", BOOT_S)
        node.power_cut()
