"""Nodes boot from the network as real ones do: DHCP, TFTP, iPXE, HTTP, kernel and stage 1, the installer's root."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

import pytest

from sis.netboot import installer, ipxe, tftp
from sis.netboot.dnsmasq import BIOS_LOADER, BootNetwork, Lease
from sis.system import process
from tests.vm.lab import Firmware, Lab, Node, leftovers

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(900)]

HEAD = "http://10.77.0.1:8700"
VERSION = "5a" * 32
CACHE = Path("/tmp/sis-test-netboot")
BOOT_S = 400.0
SOON_S = 200.0
"""On a machine that does other things, too."""
MARKER_SCRIPT = """\
#!/bin/sh
echo "MARKER $1 on $(cat /proc/sys/kernel/hostname), $(ip -4 -o address show scope global | tr -s ' ' | cut -d' ' -f4)"
for word in $(cat /proc/cmdline); do echo "WORD $word"; done
python3 -c 'import os; print("DISKS", sorted(os.listdir("/sys/block")))'
test -d /target && touch /target/written && echo WRITABLE
exit 7
"""


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert leftovers() == []


@pytest.fixture(scope="module")
def boot_files() -> tuple[Path, installer.BootFiles]:
    """The boot files of a small image tree with Debian's kernel and a marker for a node bundle; kept between runs."""
    CACHE.mkdir(exist_ok=True)
    image, plain = CACHE / "image", CACHE / "installer"
    if not image.exists():
        unpacked = CACHE / "image.new"
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir()
        meta = process.run(["apt-cache", "depends", "linux-image-cloud-amd64"]).stdout.split()
        name = next(word for word in meta if word.startswith("linux-image-6"))
        process.run(["apt-get", "download", name], cwd=CACHE)
        process.run(["dpkg", "-x", next(CACHE.glob(f"{name}_*.deb")), unpacked])
        (unpacked / "usr/lib/sis").mkdir(parents=True)
        (unpacked / "usr/bin").mkdir()
        (unpacked / "usr/bin/python3").symlink_to("python3.11")
        (unpacked / "usr/bin/sis-node").write_text(MARKER_SCRIPT)
        (unpacked / "usr/bin/sis-node").chmod(0o755)
        unpacked.rename(image)
    if not plain.exists():
        unpacked = CACHE / "installer.new"
        shutil.rmtree(unpacked, ignore_errors=True)
        wanted = "python3-minimal,udev,kmod,iproute2"
        process.run(["mmdebstrap", "--variant=minbase", f"--include={wanted}", "bookworm", unpacked], timeout_s=800)
        unpacked.rename(plain)
    made = installer.build(image_tree=image, installer_tree=plain, version_id=VERSION, out=CACHE / "boot")
    return CACHE / "boot", made


class Site:
    """A lab with dnsmasq and the tiny head running; `answer` says what a MAC is told."""

    def __init__(
        self, lab: Lab, boot: Path | None = None, *, dhcp: Literal["full", "proxy"] = "full", start: bool = True
    ) -> None:
        self.lab = lab
        lab.folder.chmod(0o755)
        self.web = lab.folder / "web"
        (self.web / "answers").mkdir(parents=True)
        (self.web / "boot").mkdir()
        self.dhcp_log, self.http_log = lab.folder / "dnsmasq.log", lab.folder / "http.log"
        network = BootNetwork(
            interface=lab.bridge,
            address=lab.head,
            dhcp=dhcp,
            pool=(IPv4Address("10.77.0.200"), IPv4Address("10.77.0.220")),
            gateway=IPv4Address("10.77.0.1"),
            nameservers=(IPv4Address("10.77.0.1"),),
            domain="cluster.test",
        )
        leases = [Lease(f"52:54:00:77:00:{n:02x}", IPv4Address(f"10.77.0.{10 + n}"), f"n{n:03}") for n in (1, 2)]
        self.state = lab.folder / "state"
        self.command = tftp.prepare(self.state, network, leases, head=HEAD)
        (self.web / "boot/loader").symlink_to(self.state / "run/tftp")
        if boot is not None:
            (self.web / "boot/files").symlink_to(boot)
        if start:
            self.start_dnsmasq()
            self.start_head()

    def start_dnsmasq(self) -> None:
        self.lab.start(self.command, output=self.dhcp_log)

    def start_head(self) -> None:
        program = Path(__file__).with_name("tiny_head.py")
        self.lab.start([sys.executable, program, self.lab.address, "8700", self.web], output=self.http_log)

    def answer(self, node: Node, boot: ipxe.Boot) -> None:
        script = ipxe.answer(boot, head=HEAD)
        (self.web / "answers" / node.mac.replace(":", "-")).write_text(script)


def each_firmware(lab: Lab, *, memory_mb: int, disks: Sequence[int] | Mapping[str, Path]) -> tuple[Node, ...]:
    """A BIOS node n001 and a UEFI node n002, with new disks or with the one of their firmware."""
    kinds: tuple[Firmware, ...] = ("bios", "uefi")
    return tuple(
        lab.node(
            f"n{number:03}",
            firmware=kind,
            memory_mb=memory_mb,
            disks=[disks[kind]] if isinstance(disks, Mapping) else disks,
        )
        for number, kind in enumerate(kinds, 1)
    )


@pytest.fixture(scope="module")
def marker_disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each firmware a disk that prints DISK BOOTED on the serial port."""
    folder = tmp_path_factory.mktemp("disks")
    bios = folder / "bios.raw"
    # mov ds,0; si=text; loop: lodsb, test, jz stop, out 0x3f8, jmp loop; stop: hlt, jmp stop
    code = bytes.fromhex("fc 31c0 8ed8 be 287c ac 84c0 7406 baf803 ee ebf5 f4 ebfd".replace(" ", ""))
    sector = code.ljust(0x28, b"\0") + b"\r\nDISK BOOTED\r\n\0"
    bios.write_bytes((sector.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    uefi = folder / "uefi"
    (uefi / "EFI/BOOT").mkdir(parents=True)
    script = folder / "grub.cfg"
    script.write_text("serial --unit=0 --speed=115200\nterminal_output serial\necho DISK BOOTED\nsleep 1000\n")
    made = uefi / "EFI/BOOT/BOOTX64.EFI"
    argv: list[str | Path] = [
        "grub-mkimage",
        "-O",
        "x86_64-efi",
        "-p",
        "/",
        "-c",
        script,
        "-o",
        made,
        "echo",
        "serial",
        "sleep",
    ]
    process.run([*argv, "terminal"])
    return {"bios": bios, "uefi": uefi}


def test_nodes_install_from_the_network(boot_files: tuple[Path, installer.BootFiles]) -> None:
    folder, made = boot_files
    with Lab() as lab:
        site = Site(lab, folder)
        root = made.root(f"{HEAD}/boot/files/{VERSION}")
        nodes = each_firmware(lab, memory_mb=1024, disks=[1 << 30])
        started = time.monotonic()
        for node in nodes:
            install = ipxe.Install(node=node.name, token="tok-1_a", key="ab" * 32, root=root, console="ttyS0,115200")
            site.answer(node, replace(install, kernel_cmdline="quiet"))
            node.power_on()
        for number, node in enumerate(nodes, 11):
            node.wait_console("sis: stage 1 on ", BOOT_S)
            node.wait_console(rf"sis: network: eth0 10\.77\.0\.{number}/24", SOON_S)
            node.wait_console(f"sis: stage 2: installing {node.name}", BOOT_S)
            node.wait_console(rf"MARKER install on {node.name}, 10\.77\.0\.{number}/24", SOON_S)
            print(f"{node.firmware}: sis-node runs {time.monotonic() - started:.1f} s after power on")
            for word in (
                f"sis.head={HEAD}",
                f"sis.node={node.name}",
                "sis.token=tok-1_a",
                f"sis.key={'ab' * 32}",
                "quiet",
            ):
                node.wait_console(f"WORD {word}\\s", SOON_S)
            node.wait_console(r"DISKS .*'vda'", SOON_S)
            node.wait_console("WRITABLE", SOON_S)
            node.wait_console("sis: FAILED: sis-node install ended with exit code 7", SOON_S)
            node.wait_console("sis: rebooting in 60 s", SOON_S)


def test_nodes_told_so_boot_their_disks(marker_disks: dict[str, Path]) -> None:
    with Lab() as lab:
        site = Site(lab)
        nodes = each_firmware(lab, memory_mb=512, disks=marker_disks)
        for node in nodes:
            site.answer(node, ipxe.Local(node.name))
            node.power_on()
        for node in nodes:
            node.wait_console(f"sis: {node.name} boots from its disk", BOOT_S)
            node.wait_console("DISK BOOTED", SOON_S)
        assert site.http_log.read_text().count("/boot/ipxe?") == 2


def test_an_unknown_machine_is_told_so_and_left_alone(marker_disks: dict[str, Path]) -> None:
    with Lab() as lab:
        site = Site(lab)
        stranger = "52:54:00:77:ff:01"
        node = lab.node("stranger", firmware="bios", mac=stranger, memory_mb=512, disks=[marker_disks["bios"]])
        site.answer(node, ipxe.Unknown(stranger, wait_s=1))
        node.power_on()
        node.wait_console(r"net0: 10\.77\.0\.2[0-2]\d/", BOOT_S)
        node.wait_console(f"sis: {stranger} is not in the inventory", SOON_S)
        node.wait_console("DISK BOOTED", SOON_S)


def test_a_damaged_root_and_too_little_memory_are_named(
    boot_files: tuple[Path, installer.BootFiles], tmp_path: Path
) -> None:
    folder, made = boot_files
    served = tmp_path / VERSION
    shutil.copytree(folder / VERSION, served)
    squashfs = served / "root.squashfs"
    whole = squashfs.read_bytes()
    squashfs.write_bytes(whole[:-4096] + bytes(4096))
    with Lab() as lab:
        site = Site(lab, tmp_path)
        node = lab.node("n001", firmware="bios", memory_mb=1024)
        small = lab.node("n002", firmware="bios", memory_mb=160)
        root = made.root(f"{HEAD}/boot/files/{VERSION}")
        for each in (small, node):
            site.answer(each, ipxe.Install(node=each.name, token="t", key=None, root=root, console="ttyS0"))
            each.power_on()
        small.wait_console(r"sis: FAILED: memory is too small: the root takes \d+ MB and 64 MB to work in, \d+", BOOT_S)
        small.wait_console("sis: rebooting in 30 s", SOON_S)
        small.power_cut()
        asked = [line for line in site.http_log.read_text().splitlines() if line.startswith("10.77.0.12 ")]
        assert not [line for line in asked if "root.squashfs" in line]
        node.wait_console(rf"sis: what came from \S+ has the wrong hash \(sha256, {len(whole)} bytes\)", BOOT_S)
        squashfs.unlink()
        node.wait_console(r"sis: cannot fetch \S+ \(0 bytes so far\): wget: .* 404", SOON_S)
        squashfs.write_bytes(whole)
        node.wait_console("MARKER install on n001", SOON_S)


def test_a_head_that_comes_late_is_waited_for_and_a_dead_one_given_up(marker_disks: dict[str, Path]) -> None:
    with Lab() as lab:
        site = Site(lab, start=False)
        (site.state / "run/tftp" / ipxe.ENTRY_NAME).write_text(ipxe.entry(HEAD, tries=3, pause_s=1))
        site.start_dnsmasq()
        node = lab.node("n001", firmware="bios", memory_mb=512, disks=[marker_disks["bios"]])
        site.answer(node, ipxe.Local("n001"))
        node.power_on()
        node.wait_console(r"asking again \(2 of 3\)", BOOT_S)
        node.wait_console("sis: no answer from http://10.77.0.1:8700, booting from the disk", SOON_S)
        node.wait_console("DISK BOOTED", SOON_S)
        (site.state / "run/tftp" / ipxe.ENTRY_NAME).write_text(ipxe.entry(HEAD, tries=20, pause_s=1))
        node.reset()
        node.wait_console(r"asking again \(2 of 20\)", BOOT_S)
        site.start_head()
        node.wait_console("sis: n001 boots from its disk", SOON_S)
        node.wait_console("DISK BOOTED", SOON_S)


def test_beside_a_foreign_dhcp_server(marker_disks: dict[str, Path]) -> None:
    with Lab() as lab, Lab(head="10.77.0.2/24") as foreign:
        lab.join(foreign)
        site = Site(lab, dhcp="proxy")
        options = ["--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=br0", "--bind-interfaces"]
        leases = foreign.folder / "leases"
        foreign.start(["dnsmasq", *options, "--dhcp-range=10.77.0.60,10.77.0.70", f"--dhcp-leasefile={leases}"])
        nodes = each_firmware(lab, memory_mb=512, disks=marker_disks)
        for node in nodes:
            site.answer(node, ipxe.Local(node.name))
            node.power_on()
        for node in nodes:
            node.wait_console(r"net0: 10\.77\.0\.6\d/", BOOT_S)
            node.wait_console(f"sis: {node.name} boots from its disk", SOON_S)
            node.wait_console("DISK BOOTED", SOON_S)


def test_uefi_firmware_boots_by_http(marker_disks: dict[str, Path]) -> None:
    with Lab() as lab:
        site = Site(lab)
        # Real firmware is set to HTTP boot in its menu; OVMF is by leaving out PXE.
        http_only = [word for v in (4, 6) for word in ("-fw_cfg", f"name=opt/org.tianocore/IPv{v}PXESupport,string=n")]
        disk = marker_disks["uefi"]
        node = lab.node("n001", firmware="uefi", memory_mb=512, disks=[disk], options=http_only)
        site.answer(node, ipxe.Local("n001"))
        node.power_on()
        node.wait_console("sis: n001 boots from its disk", BOOT_S)
        node.wait_console("DISK BOOTED", SOON_S)
        assert "GET /boot/loader/snponly.efi" in site.http_log.read_text()
        assert "snponly.efi" not in site.dhcp_log.read_text()


def test_bios_firmware_gets_our_loader_by_tftp(marker_disks: dict[str, Path]) -> None:
    """QEMU's only BIOS PXE is iPXE, which is served at once; here it fetches what other firmware is told to."""
    with Lab() as lab:
        site = Site(lab)
        fetch = f"dhcp && chain tftp://{lab.address}/{BIOS_LOADER}"
        options = ["-kernel", "/usr/lib/ipxe/ipxe.lkrn", "-append", fetch]
        node = lab.node("n001", firmware="bios", memory_mb=512, disks=[marker_disks["bios"]], options=options)
        site.answer(node, ipxe.Local("n001"))
        node.power_on()
        node.wait_console(rf"{BIOS_LOADER}\.\.\. ok", BOOT_S)
        node.wait_console("iPXE initialising devices", SOON_S)
        node.wait_console("sis: n001 boots from its disk", SOON_S)
        node.wait_console("DISK BOOTED", SOON_S)
        assert f"sent {site.state}/run/tftp/{BIOS_LOADER} to 10.77.0.11" in site.dhcp_log.read_text()
