"""One dnsmasq for DHCP (or proxyDHCP beside a foreign server) and TFTP: its configuration and hosts file as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Literal

from sis.errors import SpecInvalid
from sis.netboot import ipxe, ports

BIOS_LOADER = "undionly.kpxe"
UEFI_LOADER = "snponly.efi"
"""Both use the firmware's own network driver, so a card newer than iPXE still boots."""

LOADERS = (BIOS_LOADER, UEFI_LOADER, "ipxe.efi")

_UEFI_ARCHITECTURES = (7, 9)
"""RFC 4578 client architectures of x86-64 UEFI: 7 as registered, 9 as the RFC's text had it; firmware sends either."""

_UEFI_HTTP_ARCHITECTURE = 16

_INTERFACE = re.compile(r"[A-Za-z0-9._-]{1,15}")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_URL = re.compile(r"http://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~/-]*)?")
_PATH = re.compile(r"/[^\s\",#\\]*")


@dataclass(frozen=True, kw_only=True)
class BootNetwork:
    """The network nodes boot on, seen from the head.

    `address` is the head's own with its prefix ("10.77.0.1/24"). `dhcp` "full": we are the DHCP server;
    "proxy": another one gives addresses and we add only the boot answer. `pool` is the first and last address for
    MACs without a lease of their own, None: such machines get no address. `dns_port` 0 keeps dnsmasq's DNS off.
    """

    interface: str
    address: IPv4Interface
    dhcp: Literal["full", "proxy"] = "full"
    pool: tuple[IPv4Address, IPv4Address] | None = None
    gateway: IPv4Address | None = None
    nameservers: tuple[IPv4Address, ...] = ()
    domain: str | None = None
    dns_port: int = 0
    lease_s: int = 3600


@dataclass(frozen=True, order=True)
class Lease:
    """One interface of one node: its MAC, its address, its host name."""

    mac: str
    address: IPv4Address
    name: str


def configuration(network: BootNetwork, *, head: str, run: Path, account: str = "nobody") -> str:
    """The text of dnsmasq.conf.

    `head` is the head's URL (plain http: firmware and iPXE have no certificates); `run` the folder of `dnsmasq.hosts`,
    `dnsmasq.leases` and `tftp/`; `account` the one dnsmasq changes to after start.
    Raises SpecInvalid with all faults of the values at once.
    """
    _check(network, head, run)
    lines = [
        "# Written by sis from the cluster file; changes made here are overwritten.",
        "keep-in-foreground",
        "log-facility=-",
        f"user={account}",
        "conf-file=",
        f"port={network.dns_port:d}",
        f"interface={network.interface}",
        "except-interface=lo",
        "bind-interfaces",
        f"dhcp-leasefile={run}/dnsmasq.leases",
        f"dhcp-hostsfile={run}/dnsmasq.hosts",
        f"dhcp-script={run}/{ports.SCRIPT_NAME}",
        "pid-file=",
        "enable-tftp",
        f"tftp-root={run}/tftp",
        "tftp-no-fail",
        *_addresses(network),
        *_boot(network, head),
    ]
    return "\n".join([*lines, ""])


def hosts(leases: Iterable[Lease]) -> str:
    """The text of dnsmasq.hosts, one line an interface, in order of address. dnsmasq reads it again on SIGHUP.

    Raises SpecInvalid for malformed names and MACs, and for a MAC or an address that two leases claim.
    """
    ordered = sorted(leases, key=lambda lease: (lease.address, lease.mac))
    faults = []
    for lease in ordered:
        if not _MAC.fullmatch(lease.mac):
            faults.append(f"{lease.name}: not a MAC address: {lease.mac!r}")
        if not _NAME.fullmatch(lease.name):
            faults.append(f"not a host name: {lease.name!r}")
    faults += _claimed_twice("MAC", [(lease.mac.lower(), lease.name) for lease in ordered])
    faults += _claimed_twice("address", [(str(lease.address), lease.name) for lease in ordered])
    if faults:
        raise SpecInvalid("the leases of the boot network are wrong", details=faults)
    return "".join(f"{lease.mac.lower()},{lease.address},{lease.name}\n" for lease in ordered)


def _addresses(network: BootNetwork) -> list[str]:
    net = network.address.network
    if network.dhcp == "proxy":
        return [f"dhcp-range={net.network_address},proxy,{net.netmask}"]
    lines = ["dhcp-authoritative", f"dhcp-range={net.network_address},static,{net.netmask},{network.lease_s:d}"]
    if network.pool is not None:
        first, last = network.pool
        lines[-1] = f"dhcp-range={first},{last},{net.netmask},{network.lease_s:d}"
    # Without an address "option:router" takes back dnsmasq's default, which is itself; likewise DNS when its port is 0.
    lines.append(f"dhcp-option=option:router,{network.gateway}" if network.gateway else "dhcp-option=option:router")
    servers = ",".join(str(server) for server in network.nameservers)
    if servers:
        lines.append(f"dhcp-option=option:dns-server,{servers}")
    elif network.dns_port == 0:
        lines.append("dhcp-option=option:dns-server")
    if network.domain:
        lines += [f"domain={network.domain}"]
    return lines


def _boot(network: BootNetwork, head: str) -> list[str]:
    lines = [
        # iPXE names itself in the user class; it also sets option 175, which outlives rewritten user classes.
        "dhcp-userclass=set:ipxe,iPXE",
        "dhcp-match=set:ipxe,175",
        *(f"dhcp-match=set:uefi,option:client-arch,{number}" for number in _UEFI_ARCHITECTURES),
        f"dhcp-vendorclass=set:uefihttp,HTTPClient:Arch:{_UEFI_HTTP_ARCHITECTURE:05d}",
        # Firmware takes an HTTP offer only if the vendor class comes back.
        "dhcp-option-force=tag:uefihttp,tag:!ipxe,60,HTTPClient",
    ]
    here = network.address.ip
    if network.dhcp == "proxy":
        lines += [
            f'pxe-service=tag:!ipxe,0,"sis",{BIOS_LOADER}',
            *(f'pxe-service=tag:!ipxe,{number},"sis",{UEFI_LOADER}' for number in _UEFI_ARCHITECTURES),
        ]
    return [
        *lines,
        f"dhcp-boot=tag:ipxe,{ipxe.ENTRY_NAME},,{here}",
        f"dhcp-boot=tag:!ipxe,tag:uefihttp,{head.rstrip('/')}/boot/loader/{UEFI_LOADER}",
        f"dhcp-boot=tag:!ipxe,tag:uefi,tag:!uefihttp,{UEFI_LOADER},,{here}",
        f"dhcp-boot=tag:!ipxe,tag:!uefi,tag:!uefihttp,{BIOS_LOADER},,{here}",
    ]


def _check(network: BootNetwork, head: str, run: Path) -> None:
    net = network.address.network
    faults = []
    if not _INTERFACE.fullmatch(network.interface):
        faults.append(f"not an interface name: {network.interface!r}")
    if not _URL.fullmatch(head):
        faults.append(f"not a plain http URL, which is all that boot firmware speaks: {head!r}")
    if not _PATH.fullmatch(str(run)):
        faults.append(f"the state folder must be an absolute path without spaces, commas, '#' and quotes: {str(run)!r}")
    if network.domain is not None and not _DOMAIN.fullmatch(network.domain):
        faults.append(f"not a domain name: {network.domain!r}")
    if network.gateway is not None and network.gateway not in net:
        faults.append(f"gateway {network.gateway} is outside {net}")
    if network.pool is not None:
        first, last = network.pool
        faults += [f"pool address {address} is outside {net}" for address in (first, last) if address not in net]
        if first > last:
            faults.append(f"the pool ends before it begins: {first} to {last}")
        elif first <= network.address.ip <= last:
            faults.append(f"the head's own address {network.address.ip} lies in the pool {first} to {last}")
    if network.lease_s < 120:
        faults.append(f"a lease lasts 120 s at least, not {network.lease_s}")
    if not 0 <= network.dns_port <= 65535:
        faults.append(f"not a port: {network.dns_port}")
    if faults:
        raise SpecInvalid("the boot network is wrong", details=faults)


def _claimed_twice(what: str, claims: Sequence[tuple[str, str]]) -> list[str]:
    owners: dict[str, str] = {}
    faults = []
    for value, name in claims:
        if value in owners:
            faults.append(f"{what} {value} belongs to {owners[value]} and {name}")
        owners.setdefault(value, name)
    return faults
