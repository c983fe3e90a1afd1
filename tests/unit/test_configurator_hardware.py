"""Modaliases against modules.alias, and what a machine needs of a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from configurator.evidence import of_paths, version_key
from configurator.facts import BlockDevice, Device, Facts, NetworkInterface
from configurator.footprint import Footprint, Kernel
from configurator.hardware import Aliases, default_kernel, is_known, needs
from configurator.record import Boot, Record
from configurator.tree import lookup_of, reader_of
from sis.system import process

ALIASES = """# Aliases extracted from modules themselves.
alias pci:v00008086d00001521sv*sd*bc*sc*i* igb
alias pci:v00008086d*sv*sd*bc02sc00i* e1000-generic
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias usb:v0781p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage
alias of:N*T*Cfsl,[ab]csr fsl
alias fs-ext4 ext4
alias devname:loop-control loop
"""
IGB = "pci:v00008086d00001521sv00008086sd00005001bc02sc00i00"


@pytest.mark.parametrize(
    ("modalias", "modules"),
    [
        (IGB, ("igb", "e1000_generic")),
        ("pci:v00008086d00001522sv00008086sd00005001bc02sc00i00", ("e1000_generic",)),
        ("pci:v0000144Dd0000A80Asv0000144Dsd0000A813bc01sc08i02", ("nvme",)),
        ("usb:v0781p5583d0100dc00dsc00dp00ic08isc06ip50in00", ("usb_storage",)),
        ("of:NxTyCfsl,acsr", ("fsl",)),
        ("of:NxTyCfsl,ccsr", ()),
        ("fs-ext4", ("ext4",)),
        ("fs-ext4x", ()),
        ("", ()),
        ("pci:*", ()),
    ],
)
def test_matching(modalias: str, modules: tuple[str, ...]) -> None:
    assert sorted(Aliases(ALIASES).matching(modalias)) == sorted(modules)


def kernel(**changes: object) -> Kernel:
    told: dict[str, object] = {
        "release": "6.1",
        "modules": frozenset({"igb", "nvme", "e1000_generic", "ib_ipoib"}),
        "builtin": frozenset({"ahci"}),
        "aliases": ALIASES,
    }
    return Kernel(**(told | changes))  # type: ignore[arg-type]


def test_the_driver_at_work_alone() -> None:
    facts = Facts(devices=(Device(bus="pci", address="0000:03:00.0", modalias=IGB, driver="igb"),))
    assert needs(facts, kernel()).load == ("igb",)
    unbound = Facts(devices=(Device(bus="pci", address="0000:03:00.0", modalias=IGB),))
    assert sorted(needs(unbound, kernel()).load) == ["e1000_generic", "igb"]


def test_devices_that_are_neither_storage_nor_network_wait_for_udev() -> None:
    sound = "pci:v00008086d00001521sv00008086sd00005001bc04sc03i00"
    assert needs(Facts(devices=(Device(bus="pci", address="x", modalias=sound),)), kernel()).load == ()


def test_unreachable() -> None:
    facts = Facts(
        interfaces=(NetworkInterface(name="eno1", mac="52:54:00:00:00:01", driver="tg3"),),
        disks=(
            BlockDevice(name="sda", size_bytes=1, driver="ahci"),
            BlockDevice(name="sdb", size_bytes=1, driver="mpt3sas"),
            BlockDevice(name="sdc", size_bytes=1, driver="usb_storage", removable=True),
        ),
    )
    found = needs(facts, kernel())
    assert [(each.place, each.what, each.mac) for each in found.unreachable] == [
        ("facts.interfaces[0]", "eno1", "52:54:00:00:00:01"),
        ("facts.disks[1]", "sdb", ""),
    ]


def test_another_driver_for_the_same_card_is_as_good() -> None:
    facts = Facts(
        interfaces=(NetworkInterface(name="eno1", mac="x", driver="igb_oem", bus="0000:03:00.0"),),
        devices=(Device(bus="pci", address="0000:03:00.0", modalias=IGB, driver="igb_oem"),),
    )
    found = needs(facts, kernel())
    assert found.unreachable == ()
    assert "igb" in found.load


def test_infiniband_needs_ip_over_it() -> None:
    facts = Facts(interfaces=(NetworkInterface(name="ib0", mac="x", kind="infiniband", driver="igb"),))
    assert needs(facts, kernel()).load == ("igb", "ib_ipoib")


def test_known() -> None:
    assert all(is_known(kernel(), name) for name in ("igb", "e1000-generic", "ahci", "fs-ext4"))
    assert not is_known(kernel(), "e1001")
    assert is_known(kernel(modules=None, builtin=None), "anything")
    assert needs(Facts(), kernel(modules=None)) == ((), ())


def test_default_kernel() -> None:
    old, new, bare = (
        Kernel(release=r, image=i) for r, i in (("6.1.0-9", "/boot/a"), ("6.1.0-37", "/boot/b"), ("6.5", ""))
    )
    footprint = Footprint(kernels=(old, new, bare))
    assert default_kernel(Record(name="n", id=1), footprint) is new
    assert default_kernel(Record(name="n", id=1, boot=Boot(kernel="6.1.0-9")), footprint) is old
    assert default_kernel(Record(name="n", id=1, boot=Boot(kernel="7")), footprint) is None
    assert default_kernel(Record(name="n", id=1), Footprint()) is None


def test_versions() -> None:
    releases = ["6.1.0-9-amd64", "6.1.0-37-amd64", "5.10.0-1", "6.12", "6.1.0"]
    assert sorted(releases, key=version_key) == ["5.10.0-1", "6.1.0", "6.1.0-9-amd64", "6.1.0-37-amd64", "6.12"]


RELEASES = sorted(Path("/lib/modules").glob("*/modules.alias.bin"))


@pytest.mark.skipif(not RELEASES or process.find("modprobe") is None, reason="no kernel's modules or no modprobe here")
def test_as_modprobe_does() -> None:
    release = RELEASES[0].parent.name
    footprint = of_paths(
        lookup_of(Path("/")), lambda path: [release] if path.endswith("modules") else (), reader_of(Path("/"))
    )
    (here,) = [each for each in footprint.kernels if each.release == release]
    aliases = Aliases(here.aliases)
    patterns = [line.split()[1] for line in here.aliases.splitlines() if line.startswith("alias pci:v")][::400]
    for modalias in (pattern.replace("*", "0") for pattern in patterns if "[" not in pattern):
        done = process.run(["modprobe", "-S", release, "-R", modalias], check=False)
        assert {*done.stdout.replace("-", "_").split()} == {*aliases.matching(modalias)}
