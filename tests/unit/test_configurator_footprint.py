"""Footprints: chosen by what a tree holds, links followed inside the tree only."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from configurator.errors import ConfiguratorError
from configurator.evidence import of_paths, of_root, of_tree
from configurator.footprint import Footprint, Kernel
from configurator.tree import Found, reader_of
from tests.trees import FIXTURES, found, make_tree, read_listing, reader

NETWORKD_UNITS = (
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-network-generator.service",
)


ZONES = (
    "America/Argentina/Buenos_Aires",
    "America/New_York",
    "Asia/Tokyo",
    "Etc/GMT+12",
    "Etc/UTC",
    "Europe/Berlin",
    "Europe/Madrid",
    "UTC",
)


def tree(name: str) -> Footprint:
    return of_tree(found(read_listing(FIXTURES / "render" / "trees" / f"{name}.json")))


def test_debian_networkd() -> None:
    assert tree("debian12-networkd") == Footprint(
        init="systemd",
        network="networkd",
        resolver="file",
        modules=("modules-load.d", "modprobe.d"),
        kerrighed="none",
        sshd=True,
        timezone_file=True,
        merged_usr=True,
        unit_dir="/lib/systemd/system",
        units=NETWORKD_UNITS,
        zones=ZONES,
        locale_file="/etc/default/locale",
        kernels=(Kernel(release="6.1.0-37-amd64"),),
    )


def test_what_a_reader_adds() -> None:
    listing = read_listing(FIXTURES / "render" / "trees" / "debian12-compute.json")
    seen = of_tree(found(listing), reader(listing))
    old, new = seen.kernels
    assert (old.release, new.release) == ("6.1.0-9-amd64", "6.1.0-37-amd64")
    assert (new.image, new.initrd) == ("/boot/vmlinuz-6.1.0-37-amd64", "/boot/initrd.img-6.1.0-37-amd64")
    assert new.modules is not None
    assert {"mlx5_core", "snd_hda_intel", "loop"} <= new.modules
    assert new.builtin == {"virtio", "virtio_pci", "af_packet", "tpm_tis"}
    assert seen.accounts is not None
    assert seen.accounts.passwd.startswith("root:x:0:0:")
    assert (seen.time, seen.chrony_conf) == ("chrony", "/etc/chrony/chrony.conf")
    assert (seen.keyboard, seen.initramfs, seen.boot) == ("console-setup", ("initramfs-tools",), ("extlinux",))
    assert (seen.module_tools, seen.modulefiles) == (("environment-modules", "lmod"), "/usr/share/modules/modulefiles")
    assert seen.sudo
    assert seen.nfs_server


def test_module_names_of_every_packing() -> None:
    listing = read_listing(FIXTURES / "render" / "trees" / "rhel9-compute.json")
    kernel = of_tree(found(listing), reader(listing)).kernels[0]
    assert kernel.modules is not None
    assert "ib_ipoib" in kernel.modules
    assert kernel.image == "/boot/vmlinuz-5.14.0-503.el9.x86_64"


def test_summary_shows_no_account() -> None:
    listing = read_listing(FIXTURES / "render" / "trees" / "debian12-compute.json")
    told = of_tree(found(listing), reader(listing)).summary()
    assert told["accounts"] is True
    assert "root" not in str(told["accounts"])
    assert "$" not in str(told)
    assert told["kernels"][-1]["modules"] == 16  # type: ignore[index]


def test_files_that_are_links_or_devices_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("secret")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").symlink_to("../../out")
    os.mkfifo(root / "etc/group")
    assert reader_of(root)("/etc/passwd") is None
    assert reader_of(root)("/etc/group") is None
    assert of_root(root).accounts is None


@pytest.mark.parametrize(
    ("name", "network", "resolver", "init"),
    [
        ("debian12-ifupdown", "ifupdown", "file", "systemd"),
        ("debian12-ifupdown-resolved", "ifupdown", "resolved", "systemd"),
        ("ubuntu-netplan", "netplan", "resolved", "systemd"),
        ("fedora-networkmanager", "NetworkManager", "file", "systemd"),
        ("rhel7-ifcfg", "ifcfg", "file", "systemd"),
        ("kernel-2.4", "ifupdown", "file", "sysvinit"),
        ("empty", "none", "file", "unknown"),
    ],
)
def test_network(name: str, network: str, resolver: str, init: str) -> None:
    seen = tree(name)
    assert (seen.network, seen.resolver, seen.init) == (network, resolver, init)


def test_stacks_in_order() -> None:
    """NetworkManager > netplan > ifupdown > ifcfg > networkd: taking the first away leaves the next."""
    listing = {
        "/usr/sbin/NetworkManager": Found("file"),
        "/usr/sbin/netplan": Found("file"),
        "/etc/network": Found("dir"),
        "/sbin/ifup": Found("file"),
        "/etc/sysconfig/network-scripts/ifup-eth": Found("file"),
        "/lib/systemd/systemd-networkd": Found("file"),
    }
    for path in list(listing):
        for above in Path(path).parents:
            listing.setdefault(str(above), Found("dir"))
    seen = []
    for gone in (None, "/usr/sbin/NetworkManager", "/usr/sbin/netplan", "/sbin/ifup", "/etc/sysconfig/network-scripts/ifup-eth", "/lib/systemd/systemd-networkd"):  # fmt: skip # noqa: E501
        listing.pop(gone or "", None)
        seen.append(of_tree(listing).network)
    assert seen == ["NetworkManager", "netplan", "ifupdown", "ifcfg", "networkd", "none"]


def test_modules_of_an_old_kernel() -> None:
    assert tree("kernel-2.4").modules == ("modules", "modules.conf")
    assert of_tree(
        {"/lib": Found("dir"), "/lib/modules": Found("dir"), "/lib/modules/2.4.37": Found("dir")}
    ).modules == ("modules.conf",)
    assert tree("kerrighed-3.0").modules == ("modules", "modprobe.d")


def test_kerrighed() -> None:
    assert tree("kerrighed-3.0").kerrighed == "3.0"
    assert tree("kerrighed-2.4").kerrighed == "2.4"


def test_resolved_counts_only_when_enabled() -> None:
    listing = read_listing(FIXTURES / "render" / "trees" / "debian12-resolved.json")
    assert of_tree(found(listing)).resolver == "resolved"
    del listing["/etc/systemd/system/sysinit.target.wants/systemd-resolved.service"]
    assert of_tree(found(listing)).resolver == "file"


def test_units_of_a_tree_that_enables_nothing_yet() -> None:
    listing = read_listing(FIXTURES / "render" / "trees" / "debian12-networkd.json")
    del listing["/etc/systemd/system/getty.target.wants/getty@tty1.service"]
    assert of_tree(found(listing)).unit_dir == "/usr/lib/systemd/system"


def test_lookup_without_names() -> None:
    """Who only looks paths up sees the same, but for kernels and time zones."""
    listing = found(read_listing(FIXTURES / "render" / "trees" / "debian12-networkd.json"))
    assert of_paths(listing.get) == msgspec.structs.replace(of_tree(listing), kernels=(), zones=())


def test_links_stay_inside(tmp_path: Path) -> None:
    outside = make_tree({"systemd": "", "systemd-networkd": ""}, tmp_path / "outside")
    root = make_tree(
        {
            "/usr": "dir",
            "/usr/lib": "dir",
            "/lib": "-> /usr/lib",
            "/usr/lib/systemd": f"-> {outside}",
            "/etc": "dir",
            "/etc/modprobe.d": "-> ../../../../../../usr/lib",
            "/etc/ssh": "-> ssh",
            "/etc/inittab": "-> nowhere",
        },
        tmp_path / "root",
    )
    assert of_root(root) == Footprint(merged_usr=True, modules=("modprobe.d",))


def test_no_root(tmp_path: Path) -> None:
    with pytest.raises(ConfiguratorError, match=r"no such directory: .*/gone"):
        of_root(tmp_path / "gone")
