"""Does each value mean what its field says? Every fault of a record at once, each with its place.

A value that passes here is safe in every file we render: it holds no control character, no line end, and nothing
outside the alphabet of its kind. Secrets are never shown in a fault.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from configurator.errors import RecordInvalid
from configurator.facts import Facts
from configurator.record import HostKey, Interface, Kerrighed, Mount, Peer, Record

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", re.ASCII)
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}(?:(?::[0-9A-Fa-f]{2}){14})?", re.ASCII)
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}", re.ASCII)
_PREFIX = re.compile(r"([0-9A-Fa-f:.]{2,45})/([0-9]{1,3})", re.ASCII)
_MODULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,54}", re.ASCII)
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_*?:.,+=/-]{0,254}", re.ASCII)
_MODULE_OPTIONS = re.compile(r"[A-Za-z0-9_][ -#%&(-\[\]^_a-~]*", re.ASCII)
_FILESYSTEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)
_MOUNT_OPTIONS = re.compile(r"[!-\[\]-~]{1,1024}", re.ASCII)
_MACHINE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_TIMEZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,30}(?:/[A-Za-z0-9][A-Za-z0-9_+-]{0,30}){0,2}", re.ASCII)
_KEY_TYPE = (
    r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521)|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
)
_PUBLIC_KEY = re.compile(rf"({_KEY_TYPE}) ([A-Za-z0-9+/]+={{0,2}})(?: ([^\n]*))?")
_AUTHORIZED_KEY = re.compile(rf"(?:[^\s\"#](?:[^\s\"]|\"(?:[^\"\\]|\\.)*\")* )?(?={_KEY_TYPE} )(.*)")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN OPENSSH PRIVATE KEY-----\n((?:[A-Za-z0-9+/=]{1,76}\n)+)-----END OPENSSH PRIVATE KEY-----\n?"
)
_LONGEST_NAME = 64
_LONGEST_KEY = 16 * 1024
_LONGEST_PATH = 1024
_KERRIGHED_IDS = {False: 127, True: 255}


class Fault(NamedTuple):
    """`place` such as "record.interfaces[0].mac", and what is wrong there."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def check(record: Record) -> None:
    """Raise RecordInvalid with every fault of the record, or return."""
    found = [*_faults(record)]
    if found:
        name = record.name if is_host_name(record.name) else "?"
        plural = "s" if len(found) > 1 else ""
        raise RecordInvalid(
            f"the record of node {name} has {len(found)} fault{plural}", details=[str(f) for f in found]
        )


def check_drivers(facts: Facts) -> None:
    """Raise RecordInvalid for drivers that cannot be kernel modules: nodes tell their facts themselves."""
    drivers = [
        *((f"facts.interfaces[{at}].driver", interface.driver) for at, interface in enumerate(facts.interfaces)),
        *((f"facts.disks[{at}].driver", disk.driver) for at, disk in enumerate(facts.disks)),
    ]
    wrong = [
        Fault(place, f"not a kernel module's name: {shown(name)}")
        for place, name in drivers
        if name and not _MODULE.fullmatch(name)
    ]
    if wrong:
        raise RecordInvalid("the facts hold values that cannot be true", details=[str(fault) for fault in wrong])


def shown(value: str) -> str:
    """A value as errors show it: quoted, escaped, cut."""
    quoted = ascii(value[:64])
    return quoted if len(value) <= 64 and len(quoted) <= 80 else f"{quoted[:60]}...{quoted[-1]}"


def is_host_name(value: str) -> bool:
    return len(value) <= _LONGEST_NAME and _NAME.fullmatch(value) is not None


def is_interface_name(value: str) -> bool:
    return _INTERFACE.fullmatch(value) is not None and value != "lo"


def _faults(record: Record) -> Iterator[Fault]:
    yield from _identity(record)
    for at, interface in enumerate(record.interfaces):
        yield from _interface(f"record.interfaces[{at}]", interface)
    yield from _distinct_interfaces(record.interfaces)
    for at, server in enumerate(record.nameservers):
        yield from _address(f"record.nameservers[{at}]", server)
    for at, domain in enumerate(record.search):
        yield from _domain(f"record.search[{at}]", domain)
    for at, mount in enumerate(record.mounts):
        yield from _mount(f"record.mounts[{at}]", mount)
    yield from _repeated("record.mounts", "path", [_mount_point(mount) for mount in record.mounts])
    for at, module in enumerate(record.modules):
        place = f"record.modules[{at}]"
        yield from _module(f"{place}.name", module.name)
        if module.alias is not None and not _ALIAS.fullmatch(module.alias):
            yield Fault(f"{place}.alias", f"not an alias modprobe knows: {shown(module.alias)}")
        yield from _module_options(f"{place}.options", module.options)
    for at, name in enumerate(record.blacklist):
        yield from _module(f"record.blacklist[{at}]", name)
    checked = _last_peers.of(record.peers)
    yield from checked.faults
    yield from _self_among_peers(record, checked)
    if record.kerrighed is not None:
        yield from _kerrighed(record, record.kerrighed)
    for at, key in enumerate(record.host_keys):
        yield from _host_key(f"record.host_keys[{at}]", key)
    yield from _repeated("record.host_keys", "type", [key.type for key in record.host_keys])
    for at, line in enumerate(record.root_authorized_keys):
        yield from _authorized_key(f"record.root_authorized_keys[{at}]", line)


def _identity(record: Record) -> Iterator[Fault]:
    yield from _host_name("record.name", record.name)
    if not 0 <= record.id < 2**31:
        yield Fault("record.id", f"not a node id (0..2147483647): {record.id}")
    if record.domain:
        yield from _domain("record.domain", record.domain)
        if _is_domain(record.domain) and len(record.fqdn) > 253:
            yield Fault("record.domain", "the name with its domain is longer than 253 characters")
    if not _CLUSTER.fullmatch(record.cluster):
        yield Fault("record.cluster", f"not a cluster's name (letters, digits, '.', '_', '-'): {shown(record.cluster)}")
    if record.head:
        yield from _address("record.head", record.head)
    yield from _host_name("record.head_name", record.head_name)
    if record.mail_name is not None and not _is_domain(record.mail_name):
        yield Fault("record.mail_name", f"not a domain name: {shown(record.mail_name)}")
    if record.machine_id is not None and (
        not _MACHINE_ID.fullmatch(record.machine_id) or set(record.machine_id) == {"0"}
    ):
        yield Fault("record.machine_id", f"not 32 lower-case hex digits, not all zero: {shown(record.machine_id)}")
    if not _TIMEZONE.fullmatch(record.timezone):
        yield Fault("record.timezone", f"not a time zone such as Europe/Berlin: {shown(record.timezone)}")


def _host_name(place: str, value: str) -> Iterator[Fault]:
    if not is_host_name(value):
        yield Fault(place, f"not a host name (letters, digits and '-' between dots, at most 64): {shown(value)}")
    elif _looks_like_address(value):
        yield Fault(place, f"a host name must not look like an address: {shown(value)}")


def _looks_like_address(name: str) -> bool:
    return name.rpartition(".")[2].isdigit() and "." in name


def _is_domain(value: str) -> bool:
    return len(value) <= 253 and _NAME.fullmatch(value) is not None


def _domain(place: str, value: str) -> Iterator[Fault]:
    if not _is_domain(value):
        yield Fault(place, f"not a domain name: {shown(value)}")


def _parsed_address(value: str) -> IPAddress | None:
    # ipaddress alone is not enough: it takes a scope ("fe80::1%anything, line ends too").
    if not _ADDRESS.fullmatch(value):
        return None
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return None


def _parsed_interface(value: str) -> IPInterface | None:
    if not _PREFIX.fullmatch(value):
        return None
    try:
        return ipaddress.ip_interface(value)
    except ValueError:
        return None


def _address(place: str, value: str) -> Iterator[Fault]:
    address = _parsed_address(value)
    if address is None:
        yield Fault(place, f"not an IP address: {shown(value)}")
    elif address.is_unspecified or address.is_multicast:
        yield Fault(place, f"not the address of one machine: {shown(value)}")


def _interface(place: str, interface: Interface) -> Iterator[Fault]:
    if not is_interface_name(interface.name):
        yield Fault(
            f"{place}.name",
            f"not an interface's name (1..15 of letters, digits, '.', '_', '-'; not lo): {shown(interface.name)}",
        )
    if interface.mac is not None:
        yield from _mac(f"{place}.mac", interface.mac)
    if interface.mtu is not None and not 68 <= interface.mtu <= 65535:
        yield Fault(f"{place}.mtu", f"not an MTU (68..65535): {interface.mtu}")
    own: IPInterface | None = None
    if interface.address is not None:
        if interface.dhcp:
            yield Fault(f"{place}.dhcp", "an interface has an address or uses DHCP, not both")
        own = _parsed_interface(interface.address)
        if own is None:
            yield Fault(
                f"{place}.address", f"not an address with its prefix such as 10.77.0.11/24: {shown(interface.address)}"
            )
        else:
            yield from _own_address(f"{place}.address", own)
            if own.version == 6 and interface.mtu is not None and interface.mtu < 1280:
                yield Fault(f"{place}.mtu", f"IPv6 needs an MTU of at least 1280: {interface.mtu}")
    if interface.gateway is not None:
        if interface.address is None:
            yield Fault(f"{place}.gateway", "a gateway needs an address on the same interface")
        yield from _next_hop(f"{place}.gateway", interface.gateway, own)
    for at, route in enumerate(interface.routes):
        here = f"{place}.routes[{at}]"
        yield from _next_hop(f"{here}.via", route.via, own)
        if route.to != "default":
            network = _parsed_interface(route.to)
            if network is None:
                yield Fault(f"{here}.to", f'not a network such as 10.8.0.0/16, nor "default": {shown(route.to)}')
            elif network.ip != network.network.network_address:
                yield Fault(f"{here}.to", f"has host bits set, the network is {network.network}: {shown(route.to)}")
            else:
                via = _parsed_address(route.via)
                if via is not None and via.version != network.version:
                    yield Fault(f"{here}.via", f"IPv{via.version} cannot be the way to an IPv{network.version} network")
    yield from _repeated(f"{place}.routes", "to", [route.to for route in interface.routes])


def _mac(place: str, value: str) -> Iterator[Fault]:
    if not _MAC.fullmatch(value):
        yield Fault(place, f"not a MAC address such as 52:54:00:12:34:56: {shown(value)}")
    elif len(value) == 17 and int(value[:2], 16) & 1:
        yield Fault(place, f"a multicast address is no interface's: {shown(value)}")
    elif not value.strip("0:"):
        yield Fault(place, f"not a MAC address of an interface: {shown(value)}")


def _own_address(place: str, own: IPInterface) -> Iterator[Fault]:
    network = own.network
    if own.ip.is_unspecified or own.ip.is_multicast or own.ip.is_loopback:
        yield Fault(place, f"not an address an interface can have: {own}")
    elif own.version == 4 and network.prefixlen < 31 and own.ip in (network.network_address, network.broadcast_address):
        yield Fault(place, f"is the network or broadcast address of {network}: {own}")


def _next_hop(place: str, value: str, own: IPInterface | None) -> Iterator[Fault]:
    hop = _parsed_address(value)
    if hop is None:
        yield Fault(place, f"not an IP address: {shown(value)}")
    elif own is not None and not (hop.version == 6 and hop.is_link_local):
        if hop.version != own.version:
            yield Fault(place, f"not of the same family as {own}: {shown(value)}")
        elif hop not in own.network:
            yield Fault(place, f"not on the interface's network {own.network}: {shown(value)}")
        elif hop == own.ip:
            yield Fault(place, f"is the interface's own address: {shown(value)}")


def _distinct_interfaces(interfaces: Sequence[Interface]) -> Iterator[Fault]:
    yield from _repeated("record.interfaces", "name", [interface.name for interface in interfaces])
    yield from _repeated("record.interfaces", "mac", [(interface.mac or "").lower() for interface in interfaces])
    addresses = [(interface.address or "").partition("/")[0].lower() for interface in interfaces]
    yield from _repeated("record.interfaces", "address", addresses)
    families = [("6" if ":" in interface.gateway else "4") if interface.gateway else "" for interface in interfaces]
    for at, (family, first) in enumerate(zip(families, _firsts(families), strict=True)):
        if family and first != at:
            yield Fault(
                f"record.interfaces[{at}].gateway", f"record.interfaces[{first}] has the IPv{family} gateway already"
            )


def _firsts(values: Sequence[str]) -> list[int]:
    """For each value the index where it is seen first."""
    first: dict[str, int] = {}
    return [first.setdefault(value, at) for at, value in enumerate(values)]


def _repeated(place: str, field: str, values: Sequence[str]) -> Iterator[Fault]:
    """A fault for each value that an earlier one has; empty values may repeat."""
    for at, (value, first) in enumerate(zip(values, _firsts(values), strict=True)):
        if value and first != at:
            yield Fault(f"{place}[{at}].{field}", f"the same as {place}[{first}].{field}: {shown(value)}")


def _mount_point(mount: Mount) -> str:
    return "" if mount.path in ("none", "swap") else mount.path


def _mount(place: str, mount: Mount) -> Iterator[Fault]:
    if (
        not mount.source
        or not mount.source.isprintable()
        or mount.source[0] == "#"
        or len(mount.source) > _LONGEST_PATH
    ):
        yield Fault(f"{place}.source", f"not the source of a mount: {shown(mount.source)}")
    if not _FILESYSTEM.fullmatch(mount.filesystem):
        yield Fault(f"{place}.filesystem", f"not a file system's name: {shown(mount.filesystem)}")
    if mount.path in ("none", "swap"):
        if mount.filesystem != "swap":
            yield Fault(f"{place}.path", f"only swap is mounted nowhere: {shown(mount.path)}")
    elif not _is_absolute_path(mount.path):
        yield Fault(f"{place}.path", f"not an absolute path without '.', '..' and '//': {shown(mount.path)}")
    if not _MOUNT_OPTIONS.fullmatch(mount.options):
        yield Fault(f"{place}.options", f"not mount options (one word, commas between): {shown(mount.options)}")
    for field, value in (("dump", mount.dump), ("passno", mount.passno)):
        if not 0 <= value <= 9:
            yield Fault(f"{place}.{field}", f"not 0..9: {value}")


def _is_absolute_path(path: str) -> bool:
    if path == "/":
        return True
    parts = path.split("/")
    return (
        parts[0] == ""
        and len(path.encode("utf-8", "replace")) <= _LONGEST_PATH
        and path.isprintable()
        and not {"", ".", ".."} & set(parts[1:])
    )


def _module(place: str, name: str) -> Iterator[Fault]:
    if not _MODULE.fullmatch(name):
        yield Fault(place, f"not a kernel module's name: {shown(name)}")


def _module_options(place: str, options: str) -> Iterator[Fault]:
    if options and (len(options) > 1024 or not _MODULE_OPTIONS.fullmatch(options)):
        yield Fault(place, f'not module options (name=value, no quotes but ", no $, ` or \\): {shown(options)}')
    elif options.count('"') % 2:
        yield Fault(place, f'a " is not closed: {shown(options)}')


class _CheckedPeers(NamedTuple):
    peers: tuple[Peer, ...]
    faults: tuple[Fault, ...]
    by_name: dict[str, int]
    by_id: dict[int, int]


class _LastPeers:
    """The peers checked last, known by identity: a cluster's records share one tuple of thousands."""

    def __init__(self) -> None:
        self._last = _CheckedPeers((), (), {}, {})

    def of(self, peers: tuple[Peer, ...]) -> _CheckedPeers:
        last = self._last
        if peers is not last.peers:
            by_name = {peer.name: at for at, peer in enumerate(peers)}
            by_id = {peer.id: at for at, peer in enumerate(peers)}
            last = self._last = _CheckedPeers(peers, tuple(_peers(peers)), by_name, by_id)
        return last


_last_peers = _LastPeers()


def _peers(peers: tuple[Peer, ...]) -> Iterator[Fault]:
    for at, peer in enumerate(peers):
        place = f"record.peers[{at}]"
        yield from _host_name(f"{place}.name", peer.name)
        yield from _address(f"{place}.address", peer.address)
        if not 0 <= peer.id < 2**31:
            yield Fault(f"{place}.id", f"not a node id (0..2147483647): {peer.id}")
        if not is_interface_name(peer.interface):
            yield Fault(f"{place}.interface", f"not an interface's name: {shown(peer.interface)}")
    yield from _repeated("record.peers", "name", [peer.name for peer in peers])
    yield from _repeated("record.peers", "address", [peer.address for peer in peers])
    yield from _repeated("record.peers", "id", [str(peer.id) for peer in peers])


def _self_among_peers(record: Record, checked: _CheckedPeers) -> Iterator[Fault]:
    named = checked.by_name.get(record.name)
    if named is not None and record.peers[named].id != record.id:
        yield Fault(f"record.peers[{named}].id", f"this node's id is {record.id}, not {record.peers[named].id}")
    numbered = checked.by_id.get(record.id)
    if numbered is not None and record.peers[numbered].name != record.name:
        yield Fault(f"record.peers[{numbered}].id", f"{record.id} is the id of {shown(record.name)} itself")


def _kerrighed(record: Record, kerrighed: Kerrighed) -> Iterator[Fault]:
    highest = _KERRIGHED_IDS[kerrighed.autonodeid]
    why = "with autonodeid" if kerrighed.autonodeid else "without autonodeid"
    if not 1 <= kerrighed.session <= 9999:
        yield Fault("record.kerrighed.session", f"not a session (1..9999): {kerrighed.session}")
    if not 1 <= kerrighed.min_nodes <= highest + 1:
        yield Fault("record.kerrighed.min_nodes", f"not 1..{highest + 1}: {kerrighed.min_nodes}")
    if record.id > highest:
        yield Fault("record.id", f"Kerrighed's kernel stops at node id {highest} {why}: {record.id}")
    for at, peer in enumerate(record.peers):
        if peer.kerrighed and peer.id > highest:
            yield Fault(
                f"record.peers[{at}].id",
                f"Kerrighed's kernel stops at node id {highest} {why}: {peer.id} ({peer.name})",
            )


def _host_key(place: str, key: HostKey) -> Iterator[Fault]:
    public = _public_blob(key.public.removesuffix("\n"))
    if public is None:
        yield Fault(f"{place}.public", f"not a public key (type, base64, comment) on one line: {shown(key.public)}")
    elif _KEY_FILE_WORDS.get(public[0]) != key.type:
        yield Fault(f"{place}.public", f"a key of type {public[0]} is not {shown(key.type)}")
    secret = _private_fields(key.private)
    if secret is None:
        yield Fault(f"{place}.private", "not a private key in OpenSSH form (its text is not shown here)")
    elif secret[0] != b"none":
        yield Fault(f"{place}.private", "is locked with a passphrase; sshd could not use it")
    elif public is not None and secret[1] != public[1]:
        yield Fault(f"{place}.private", f"does not belong to {place}.public")


_KEY_FILE_WORDS = {
    "ssh-ed25519": "ed25519",
    "ssh-rsa": "rsa",
    "ecdsa-sha2-nistp256": "ecdsa",
    "ecdsa-sha2-nistp384": "ecdsa",
    "ecdsa-sha2-nistp521": "ecdsa",
}


_KEY_FIELDS = {"ssh-ed25519": 2, "ssh-rsa": 3, "ecdsa-sha2": 3, "sk-ssh-ed25519@openssh.com": 3, "sk-ecdsa-sha2": 4}
"""How many strings a public key's blob holds, by the start of its type."""


def _public_blob(line: str) -> tuple[str, bytes] | None:
    """Type and key blob of a public key's line; None when it is none."""
    found = _PUBLIC_KEY.fullmatch(line)
    if found is None or len(line) > _LONGEST_KEY or not line.isprintable():
        return None
    try:
        blob = base64.b64decode(found.group(2), validate=True)
    except binascii.Error:
        return None
    kind = found.group(1)
    fields = _ssh_strings(blob, _KEY_FIELDS[kind.partition("-nistp")[0]])
    whole = fields is not None and fields[0] == kind.encode() and sum(4 + len(field) for field in fields) == len(blob)
    return (kind, blob) if whole else None


def _private_fields(text: str) -> tuple[bytes, bytes] | None:
    """Cipher name and public key blob of a private key in OpenSSH form (PROTOCOL.key); None when it is none."""
    found = _PRIVATE_KEY.fullmatch(text) if len(text) <= _LONGEST_KEY else None
    if found is None:
        return None
    magic = b"openssh-key-v1\0"
    try:
        raw = base64.b64decode(found.group(1).replace("\n", ""), validate=True)
    except binascii.Error:
        return None
    if not raw.startswith(magic):
        return None
    body = raw[len(magic) :]
    ciphers = _ssh_strings(body, 3)
    if ciphers is None:
        return None
    at = sum(4 + len(field) for field in ciphers)
    keys = _ssh_strings(body[at + 4 :], 2)
    if body[at : at + 4] != b"\0\0\0\1" or keys is None:
        return None
    return ciphers[0], keys[0]


def _ssh_strings(data: bytes, count: int) -> list[bytes] | None:
    """The first `count` length-prefixed strings (RFC 4251), or None when the data ends before."""
    found: list[bytes] = []
    at = 0
    for _ in range(count):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 4 + length
        if len(data) < at + 4 or len(data) < end:
            return None
        found.append(data[at + 4 : end])
        at = end
    return found


def _authorized_key(place: str, line: str) -> Iterator[Fault]:
    found = _AUTHORIZED_KEY.fullmatch(line) if line.isprintable() and len(line) <= _LONGEST_KEY else None
    if found is None or _public_blob(found.group(1)) is None:
        yield Fault(place, f"not an authorized_keys line ([options] type base64 [comment]): {shown(line)}")
