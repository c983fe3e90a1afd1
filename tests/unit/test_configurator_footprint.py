"""Footprints: chosen by what a tree holds, links followed inside the tree only."""

from __future__ import annotations

from pathlib import Path

import pytest

from configurator.errors import ConfiguratorError
from configurator.footprint import Footprint, Found, of_paths, of_root, of_tree
from tests.trees import FIXTURES, found, make_tree, read_listing

NETWORKD_UNITS = (
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-network-generator.service",
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
    )


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
    """A head that only looks paths up sees the same, but for 2.4 kernels without modules.conf."""
    listing = found(read_listing(FIXTURES / "render" / "trees" / "debian12-networkd.json"))
    assert of_paths(listing.get) == of_tree(listing)


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
