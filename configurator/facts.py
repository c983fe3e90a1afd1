"""What a machine is made of, read from /sys and /proc: the same code on a live node and on a recorded tree."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from configurator.errors import ConfiguratorError

DiskType = Literal["disk", "nvme", "ssd", "hdd", "virtio"]


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    model: str = ""
    sockets: int = 0
    cores: int = 0
    """Of all sockets together."""
    threads: int = 0


class NetworkInterface(msgspec.Struct, frozen=True, kw_only=True):
    """A physical (or virtual machine's) network interface; bridges, bonds and the like are no hardware.

    `driver` is the kernel module at work (the driver's name where it is built in); `bus` the PCI address or "";
    `speed_mbps` is None while there is no link.
    """

    name: str
    mac: str
    kind: Literal["ethernet", "infiniband", "other"] = "ethernet"
    driver: str = ""
    bus: str = ""
    speed_mbps: int | None = None
    link: bool = False


class BlockDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A disk as a whole. `driver` is that of its controller ("ahci", "nvme", "virtio_blk")."""

    name: str
    size_bytes: int
    type: DiskType = "disk"
    model: str = ""
    serial: str = ""
    driver: str = ""
    removable: bool = False
    read_only: bool = False


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A PCI or USB device: what the image's modules.alias is searched for."""

    bus: Literal["pci", "usb"]
    address: str
    modalias: str
    driver: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One machine. Text is "" where the firmware holds nothing or a filler ("To Be Filled By O.E.M.")."""

    architecture: str = ""
    kernel: str = ""
    boot_mode: Literal["bios", "uefi", ""] = ""
    virtualisation: str = ""
    """"" on bare metal, else kvm, qemu, vmware, virtualbox, hyperv, xen, cloud names, or "unknown"."""
    manufacturer: str = ""
    product: str = ""
    serial: str = ""
    uuid: str | None = None
    ipmi: bool = False
    cpu: Cpu = Cpu()
    memory_bytes: int = 0
    interfaces: tuple[NetworkInterface, ...] = ()
    disks: tuple[BlockDevice, ...] = ()
    devices: tuple[Device, ...] = ()


def read_facts(root: Path = Path("/")) -> Facts:
    """The facts of the machine whose /sys and /proc lie below `root`.

    What cannot be read is left empty; a `root` without a sys directory raises ConfiguratorError.
    """
    tree = _Tree(root)
    if not tree.is_dir("sys"):
        raise ConfiguratorError(f"no sys directory in {root}", hint="give the directory that holds sys and proc")
    manufacturer, product = tree.firmware("sys_vendor"), tree.firmware("product_name")
    return Facts(
        architecture=tree.text("proc/sys/kernel/arch") or (os.uname().machine if root == Path("/") else ""),
        kernel=tree.text("proc/sys/kernel/osrelease"),
        boot_mode="uefi" if tree.is_dir("sys/firmware/efi") else "bios",
        virtualisation=_virtualisation(tree, manufacturer, product),
        manufacturer=manufacturer,
        product=product,
        serial=tree.firmware("product_serial") or tree.firmware("chassis_serial"),
        uuid=_uuid(tree.text("sys/class/dmi/id/product_uuid")),
        ipmi=bool(tree.names("sys/class/ipmi")),
        cpu=_cpu(tree),
        memory_bytes=_memory_bytes(tree),
        interfaces=tuple(_interfaces(tree)),
        disks=tuple(_disks(tree)),
        devices=tuple(_devices(tree)),
    )


def decode_facts(data: bytes | str, source: str = "facts") -> Facts:
    """Facts from JSON. Raises ConfiguratorError that names `source`."""
    try:
        return msgspec.json.decode(data, type=Facts)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ConfiguratorError(f"{source} does not hold facts", details=[str(error)]) from error


_LONGEST = 256
_FILLERS = re.compile(
    r"(?i)(to be filled.*|not (specified|available|applicable|present)|default string|none|n/?a|unknown|empty|invalid"
    r"|system (serial number|product name|manufacturer)|chassis serial number|o\.?e\.?m\.?|x+|0+|\.+|0?123456789)"
)
_FILLER_UUIDS = ("03000200-0400-0500-0006-000700080009", "12345678-1234-5678-90ab-cddeefaabbcc")
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_ETHERNET, _INFINIBAND, _LOOPBACK = "1", "32", "772"
_KINDS: dict[str, Literal["ethernet", "infiniband"]] = {_ETHERNET: "ethernet", _INFINIBAND: "infiniband"}
_DISK_DRIVERS = ("sd", "sd_mod", "sr", "sr_mod")
_NO_DISK = re.compile(r"(loop|ram|zram|dm-|md|sr|fd|nbd)\d+")
_VENDORS = (
    ("vmware", "vmware"),
    ("innotek", "virtualbox"),
    ("microsoft corporation virtual machine", "hyperv"),
    ("xen", "xen"),
    ("amazon ec2", "amazon"),
    ("google", "google"),
    ("openstack", "kvm"),
    ("rhev", "kvm"),
    ("kvm", "kvm"),
    ("qemu", "qemu"),
    ("bochs", "qemu"),
    ("parallels", "parallels"),
)


class _Tree:
    """Reads below one root: small texts, names and link targets, nothing raised for what is not there."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)

    def _path(self, path: str) -> str:
        return os.path.join(self._root, path)

    def bytes(self, path: str) -> bytes:
        # Attributes of a device without link answer EINVAL: as good as absent.
        try:
            with open(self._path(path), "rb") as file:
                return file.read(1 << 20)
        except OSError:
            return b""

    def text(self, path: str) -> str:
        """A one-value file: stripped, printable, at most 256 characters."""
        raw = self.bytes(path).decode("utf-8", "replace").strip("\0 \t\r\n")
        return "".join(letter if letter.isprintable() else "?" for letter in raw[:_LONGEST]).strip()

    def firmware(self, name: str) -> str:
        """A DMI value, "" when the maker did not fill it in."""
        value = self.text(f"sys/class/dmi/id/{name}")
        return "" if _FILLERS.fullmatch(value) else value

    def number(self, path: str) -> int | None:
        value = self.text(path)
        return int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else None

    def names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._path(path)))
        except OSError:
            return []

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(self._path(path))

    def real(self, path: str) -> str:
        """Where a link leads, relative to the root; "" when nowhere, or out of the root."""
        full = os.path.realpath(self._path(path))
        inside = full.startswith(self._root.rstrip("/") + "/")
        return os.path.relpath(full, self._root) if inside and os.path.exists(full) else ""

    def driver(self, device: str) -> str:
        """The kernel module at work on a device directory; the driver's own name where it is built in."""
        for link in (f"{device}/driver/module", f"{device}/driver"):
            try:
                return os.path.basename(os.readlink(self._path(link)))
            except OSError:
                continue
        return ""


def _virtualisation(tree: _Tree, manufacturer: str, product: str) -> str:
    maker = f"{manufacturer} {product}".lower()
    for words, name in _VENDORS:
        if words in maker:
            return name
    kind = tree.text("sys/hypervisor/type")
    if kind:
        return kind
    return "unknown" if _has_hypervisor_flag(tree) else ""


def _has_hypervisor_flag(tree: _Tree) -> bool:
    found = re.search(rb"(?m)^flags\s*:(.*)$", tree.bytes("proc/cpuinfo"))
    return found is not None and b"hypervisor" in found.group(1).split()


def _uuid(text: str) -> str | None:
    value = text.lower()
    if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value):
        return None
    return None if value in _FILLER_UUIDS or len(set(value) - {"-"}) == 1 else value


def _cpu(tree: _Tree) -> Cpu:
    base = "sys/devices/system/cpu"
    threads = [name for name in tree.names(base) if re.fullmatch(r"cpu[0-9]+", name)]
    places = {
        (tree.text(f"{base}/{name}/topology/physical_package_id"), tree.text(f"{base}/{name}/topology/core_id"))
        for name in threads
    }
    found = re.search(r"(?m)^(?:model name|Processor|cpu model)\s*:\s*(.+)$", _cpuinfo(tree))
    return Cpu(
        model=found.group(1).strip()[:_LONGEST] if found else "",
        sockets=len({package for package, _ in places}),
        cores=len(places),
        threads=len(threads),
    )


def _cpuinfo(tree: _Tree) -> str:
    return tree.bytes("proc/cpuinfo").decode("ascii", "replace")


def _memory_bytes(tree: _Tree) -> int:
    found = re.search(rb"(?m)^MemTotal:\s+([0-9]{1,15}) kB$", tree.bytes("proc/meminfo"))
    return int(found.group(1)) * 1024 if found else 0


def _interfaces(tree: _Tree) -> Iterator[NetworkInterface]:
    for name in tree.names("sys/class/net"):
        here = f"sys/class/net/{name}"
        device = tree.real(f"{here}/device")
        kind = tree.text(f"{here}/type")
        if not device or kind == _LOOPBACK:
            continue
        link = tree.text(f"{here}/carrier") == "1"
        speed = tree.number(f"{here}/speed") if link else None
        yield NetworkInterface(
            name=name,
            mac=tree.text(f"{here}/address").lower(),
            kind=_KINDS.get(kind, "other"),
            driver=tree.driver(device),
            bus=_pci_address(device),
            speed_mbps=speed if speed is not None and speed > 0 else None,
            link=link,
        )


def _disks(tree: _Tree) -> Iterator[BlockDevice]:
    for name in tree.names("sys/block"):
        here = f"sys/block/{name}"
        device = tree.real(f"{here}/device")
        sectors = tree.number(f"{here}/size") or 0
        if not device or not sectors or _NO_DISK.fullmatch(name) or tree.text(f"{here}/hidden") == "1":
            continue
        yield BlockDevice(
            name=name,
            size_bytes=sectors * 512,
            type=_disk_type(tree, name),
            model=tree.text(f"{here}/device/model"),
            serial=_disk_serial(tree, here),
            driver=_controller_driver(tree, device),
            removable=tree.text(f"{here}/removable") == "1",
            read_only=tree.text(f"{here}/ro") == "1",
        )


def _disk_type(tree: _Tree, name: str) -> DiskType:
    if name.startswith("nvme"):
        return "nvme"
    if name.startswith("vd"):
        return "virtio"
    rotational = tree.text(f"sys/block/{name}/queue/rotational")
    if rotational == "1":
        return "hdd"
    return "ssd" if rotational == "0" else "disk"


def _disk_serial(tree: _Tree, here: str) -> str:
    """NVMe and virtio say it in text, SCSI and ATA in page 0x80 of their vital product data (4 bytes of header)."""
    named = tree.text(f"{here}/device/serial") or tree.text(f"{here}/serial")
    if named:
        return named
    page = tree.bytes(f"{here}/device/vpd_pg80")[4:].decode("ascii", "replace").strip("\0 ")
    return page[:_LONGEST] if page.isprintable() else ""


def _controller_driver(tree: _Tree, device: str) -> str:
    """The nearest driver from a disk upwards that is none of disks themselves: virtio_blk, usb_storage, hv_storvsc,
    or that of the PCI controller."""
    at = device
    while at not in ("", "sys"):
        driver = tree.driver(at)
        if driver and driver not in _DISK_DRIVERS:
            return driver
        at = os.path.dirname(at)
    return tree.driver(device)


def _pci_address(device: str) -> str:
    parts = [part for part in device.split("/") if _PCI_ADDRESS.fullmatch(part)]
    return parts[-1] if parts else ""


def _devices(tree: _Tree) -> Iterator[Device]:
    buses: tuple[Literal["pci", "usb"], ...] = ("pci", "usb")
    for bus in buses:
        base = f"sys/bus/{bus}/devices"
        for address in tree.names(base):
            modalias = tree.text(f"{base}/{address}/modalias")
            if modalias:
                yield Device(bus=bus, address=address, modalias=modalias, driver=tree.driver(f"{base}/{address}"))
