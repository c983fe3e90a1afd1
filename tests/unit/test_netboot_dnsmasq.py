"""The DHCP and TFTP side: texts that dnsmasq itself accepts, and faults named before it sees them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from sis.errors import NotFound, SpecInvalid
from sis.netboot import dnsmasq, tftp
from sis.netboot.dnsmasq import BootNetwork, Lease
from sis.system import process

HEAD = "http://10.77.0.1:8700"
NETWORK = BootNetwork(
    interface="br0",
    address=IPv4Interface("10.77.0.1/24"),
    pool=(IPv4Address("10.77.0.200"), IPv4Address("10.77.0.220")),
    gateway=IPv4Address("10.77.0.254"),
    nameservers=(IPv4Address("10.77.0.2"), IPv4Address("10.77.0.3")),
    domain="cluster.test",
)
LEASES = [
    Lease("52:54:00:AA:00:02", IPv4Address("10.77.0.12"), "n002"),
    Lease("52:54:00:aa:00:01", IPv4Address("10.77.0.11"), "n001"),
]


def text_of(network: BootNetwork, run: Path = Path("/run/x")) -> list[str]:
    return dnsmasq.configuration(network, head=HEAD, run=run).splitlines()


@pytest.mark.parametrize(
    "network",
    [
        NETWORK,
        replace(NETWORK, dhcp="proxy"),
        replace(NETWORK, pool=None, gateway=None, nameservers=(), domain=None),
        replace(NETWORK, dns_port=53, nameservers=()),
    ],
)
def test_dnsmasq_accepts_it(network: BootNetwork, tmp_path: Path) -> None:
    command = tftp.prepare(tmp_path, network, LEASES, head=HEAD)
    assert "syntax check OK" in process.run([*command, "--test"]).stderr


def test_full_dhcp_gives_leases_range_and_options() -> None:
    lines = text_of(NETWORK)
    assert "dhcp-range=10.77.0.200,10.77.0.220,255.255.255.0,3600" in lines
    assert "dhcp-option=option:router,10.77.0.254" in lines
    assert "dhcp-option=option:dns-server,10.77.0.2,10.77.0.3" in lines
    assert "domain=cluster.test" in lines
    assert "port=0" in lines
    assert {"interface=br0", "bind-interfaces", "except-interface=lo", "keep-in-foreground"} <= set(lines)
    assert "dhcp-leasefile=/run/x/dnsmasq.leases" in lines


def test_without_a_pool_strangers_get_no_address() -> None:
    assert "dhcp-range=10.77.0.0,static,255.255.255.0,3600" in text_of(replace(NETWORK, pool=None))


def test_beside_a_foreign_server_only_the_boot_answer_is_given() -> None:
    lines = text_of(replace(NETWORK, dhcp="proxy"))
    assert "dhcp-range=10.77.0.0,proxy,255.255.255.0" in lines
    assert 'pxe-service=tag:!ipxe,0,"sis",undionly.kpxe' in lines
    assert 'pxe-service=tag:!ipxe,7,"sis",snponly.efi' in lines
    assert not [line for line in lines if line.startswith(("dhcp-option=", "dhcp-authoritative", "domain="))]


def test_each_kind_of_firmware_gets_its_loader() -> None:
    lines = text_of(NETWORK)
    assert "dhcp-boot=tag:ipxe,sis.ipxe,,10.77.0.1" in lines
    assert "dhcp-boot=tag:!ipxe,tag:uefi,tag:!uefihttp,snponly.efi,,10.77.0.1" in lines
    assert "dhcp-boot=tag:!ipxe,tag:!uefi,tag:!uefihttp,undionly.kpxe,,10.77.0.1" in lines
    assert f"dhcp-boot=tag:!ipxe,tag:uefihttp,{HEAD}/boot/loader/snponly.efi" in lines
    assert "dhcp-option-force=tag:uefihttp,tag:!ipxe,60,HTTPClient" in lines


def test_all_faults_of_a_network_are_named_at_once() -> None:
    network = replace(
        NETWORK,
        interface="br0\nenable-tftp",
        gateway=IPv4Address("192.0.2.1"),
        pool=(IPv4Address("10.77.0.220"), IPv4Address("10.78.0.1")),
        domain="a b",
        lease_s=5,
    )
    with pytest.raises(SpecInvalid) as caught:
        dnsmasq.configuration(network, head="https://head", run=Path("/var/lib/my state"))
    said = str(caught.value)
    for fault in (
        "not an interface name: 'br0\\nenable-tftp'",
        "not a plain http URL, which is all that boot firmware speaks: 'https://head'",
        "without spaces, commas, '#' and quotes: '/var/lib/my state'",
        "not a domain name: 'a b'",
        "gateway 192.0.2.1 is outside 10.77.0.0/24",
        "pool address 10.78.0.1 is outside 10.77.0.0/24",
        "a lease lasts 120 s at least, not 5",
    ):
        assert fault in said


@pytest.mark.parametrize(
    ("first", "last", "fault"),
    [
        ("10.77.0.9", "10.77.0.8", "the pool ends before it begins: 10.77.0.9 to 10.77.0.8"),
        ("10.77.0.1", "10.77.0.8", "the head's own address 10.77.0.1 lies in the pool"),
    ],
)
def test_a_wrong_pool_is_named(first: str, last: str, fault: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        text_of(replace(NETWORK, pool=(IPv4Address(first), IPv4Address(last))))
    assert fault in str(caught.value)


def test_hosts_are_lines_in_order_of_address() -> None:
    assert dnsmasq.hosts(LEASES) == "52:54:00:aa:00:01,10.77.0.11,n001\n52:54:00:aa:00:02,10.77.0.12,n002\n"


def test_claims_of_two_nodes_and_hostile_names_are_named() -> None:
    leases = [
        *LEASES,
        Lease("52:54:00:aa:00:01", IPv4Address("10.77.0.12"), "n003"),
        Lease("52:54:00:aa:00:04", IPv4Address("10.77.0.14"), "n004,ignore"),
        Lease("id:*", IPv4Address("10.77.0.15"), "n005"),
    ]
    with pytest.raises(SpecInvalid) as caught:
        dnsmasq.hosts(leases)
    said = str(caught.value)
    assert "MAC 52:54:00:aa:00:01 belongs to n001 and n003" in said
    assert "address 10.77.0.12 belongs to n003 and n002" in said or "belongs to n002 and n003" in said
    assert "not a host name: 'n004,ignore'" in said
    assert "n005: not a MAC address: 'id:*'" in said


def test_prepare_lays_out_loaders_and_scripts(tmp_path: Path) -> None:
    command = tftp.prepare(tmp_path, NETWORK, LEASES, head=HEAD)
    served = tmp_path / "run/tftp"
    assert sorted(path.name for path in served.iterdir()) == [
        "disk.efi",
        "ipxe.efi",
        "sis.ipxe",
        "snponly.efi",
        "undionly.kpxe",
    ]
    assert (served / "disk.efi").read_bytes()[:2] == b"MZ"
    assert f"chain --autofree {HEAD}/boot/ipxe?" in (served / "sis.ipxe").read_text()
    assert command == ("dnsmasq", f"--conf-file={tmp_path}/run/dnsmasq.conf")
    assert (tmp_path / "run/dnsmasq.hosts").read_text().startswith("52:54:00:aa:00:01,")


def test_dnsmasq_stays_root_where_others_may_not_read(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    tftp.prepare(private, NETWORK, LEASES, head=HEAD)
    assert "user=root\n" in (private / "run/dnsmasq.conf").read_text()


def test_a_missing_loader_names_its_package(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        tftp.prepare(tmp_path, NETWORK, LEASES, head=HEAD, loaders=tmp_path / "none")
    assert "undionly.kpxe is missing" in str(caught.value)
    assert "apt-get install ipxe" in str(caught.value)


def test_the_head_serves_known_loaders_only(tmp_path: Path) -> None:
    tftp.prepare(tmp_path, NETWORK, LEASES, head=HEAD)
    assert tftp.loader(tmp_path, "disk.efi").is_file()
    with pytest.raises(NotFound, match="no such boot loader"):
        tftp.loader(tmp_path, "../dnsmasq.conf")
