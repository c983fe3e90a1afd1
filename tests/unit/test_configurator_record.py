"""Records: what is refused, with which words, and what is let through."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from configurator.checks import check
from configurator.errors import NotRenderable, RecordInvalid
from configurator.facts import BlockDevice, Facts, NetworkInterface
from configurator.footprint import Footprint
from configurator.kernel import kernel_parameters
from configurator.record import Interface, Kerrighed, Peer, Record, decode, encode
from configurator.render import notices, render
from tests.golden.render_cases import cases

NIC = {"name": "eth0", "mac": "52:54:00:12:34:56", "address": "10.77.0.11/24", "gateway": "10.77.0.1"}


def faults(**fields: Any) -> list[str]:
    try:
        decode(msgspec.json.encode({"name": "n001", "id": 1, **fields}))
    except RecordInvalid as error:
        return list(error.details)
    return []


def nic(**fields: Any) -> list[str]:
    return faults(interfaces=[{**NIC, **fields}])


@pytest.mark.parametrize("case", [case for case in cases() if not case.is_error()], ids=lambda case: case.name)
def test_round_trip(case: Any) -> None:
    record = decode(case.record_file.read_bytes())
    assert decode(encode(record)) == record


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "r.json is not JSON\nInput data was truncated"),
        (b"[]", "r.json is not a node record\nrecord: Expected `object`, got `array`"),
        (b'{"id": 1}', "r.json is not a node record\nrecord: Object missing required field `name`"),
        (b'{"name": "n", "id": "1"}', "r.json is not a node record\nrecord.id: Expected `int`, got `str`"),
        (
            b'{"name": "n", "id": 1, "nameserver": []}',
            """\
r.json is not a node record
record: Object contains unknown field `nameserver`
hint: did you mean nameservers?""",
        ),
        (
            b'{"name": "n", "id": 1, "zzzz": 1}',
            "r.json is not a node record\nrecord: Object contains unknown field `zzzz`",
        ),
    ],
)
def test_text_that_is_no_record(data: bytes, message: str) -> None:
    with pytest.raises(RecordInvalid) as caught:
        decode(data, "r.json")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"name": ""}, "record.name: not a host name (letters, digits and '-' between dots, at most 64): ''"),
        ({"name": "10.0.0.1"}, "record.name: a host name must not look like an address: '10.0.0.1'"),
        ({"name": "a.b.1"}, "record.name: a host name must not look like an address: 'a.b.1'"),
        ({"domain": "lan."}, "record.domain: not a domain name: 'lan.'"),
        ({"head": "head.lan"}, "record.head: not an IP address: 'head.lan'"),
        ({"head": "fe80::1%eth0"}, "record.head: not an IP address: 'fe80::1%eth0'"),
        ({"head": "0.0.0.0"}, "record.head: not the address of one machine: '0.0.0.0'"),
        ({"nameservers": ["10.0.0.1", "x"]}, "record.nameservers[1]: not an IP address: 'x'"),
        ({"search": ["a b"]}, "record.search[0]: not a domain name: 'a b'"),
        ({"machine_id": "0" * 32}, f"record.machine_id: not 32 lower-case hex digits, not all zero: '{'0' * 32}'"),
        ({"timezone": "/etc/shadow"}, "record.timezone: not a time zone such as Europe/Berlin: '/etc/shadow'"),
        ({"blacklist": ["a b"]}, "record.blacklist[0]: not a kernel module's name: 'a b'"),
        ({"modules": [{"name": "e1000\n"}]}, "record.modules[0].name: not a kernel module's name: 'e1000\\n'"),
        ({"modules": [{"name": "a", "options": 'x="y'}]}, "record.modules[0].options: a \" is not closed: 'x=\"y'"),
        (
            {"modules": [{"name": "a", "options": "x=$(r)"}]},
            "record.modules[0].options: not module options (name=value, no quotes but \", no $, ` or \\): 'x=$(r)'",
        ),
        (
            {"mounts": [{"source": "a", "path": "/a/../etc", "filesystem": "ext4"}]},
            "record.mounts[0].path: not an absolute path without '.', '..' and '//': '/a/../etc'",
        ),
        (
            {"mounts": [{"source": "a", "path": "none", "filesystem": "ext4"}]},
            "record.mounts[0].path: only swap is mounted nowhere: 'none'",
        ),
        (
            {"mounts": [{"source": s, "path": "/a", "filesystem": "ext4"} for s in "ab"]},
            "record.mounts[1].path: the same as record.mounts[0].path: '/a'",
        ),
        (
            {"mounts": [{"source": "a", "path": "/a", "filesystem": "ext4", "options": "a b"}]},
            "record.mounts[0].options: not mount options (one word, commas between): 'a b'",
        ),
        (
            {"peers": [{"name": n, "address": f"10.0.0.{i}", "id": 7} for i, n in enumerate("ab", 1)]},
            "record.peers[1].id: the same as record.peers[0].id: '7'",
        ),
        (
            {"peers": [{"name": "n001", "address": "10.0.0.1", "id": 2}]},
            "record.peers[0].id: this node's id is 1, not 2",
        ),
        (
            {"peers": [{"name": "n002", "address": "10.0.0.1", "id": 1}]},
            "record.peers[0].id: 1 is the id of 'n001' itself",
        ),
    ],
)
def test_one_fault(fields: dict[str, Any], fault: str) -> None:
    assert faults(**fields) == [fault]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (
            {"name": "eth0:1"},
            "name: not an interface's name (1..15 of letters, digits, '.', '_', '-'; not lo): 'eth0:1'",
        ),
        ({"name": "lo"}, "name: not an interface's name (1..15 of letters, digits, '.', '_', '-'; not lo): 'lo'"),
        ({"mac": "01:00:5e:00:00:01"}, "mac: a multicast address is no interface's: '01:00:5e:00:00:01'"),
        ({"mac": "00:00:00:00:00:00"}, "mac: not a MAC address of an interface: '00:00:00:00:00:00'"),
        ({"mac": "52-54-00-12-34-56"}, "mac: not a MAC address such as 52:54:00:12:34:56: '52-54-00-12-34-56'"),
        (
            {"address": "10.77.0.11/255.255.255.0"},
            "address: not an address with its prefix such as 10.77.0.11/24: '10.77.0.11/255.255.255.0'",
        ),
        (
            {"address": "10.77.0.11/33"},
            "address: not an address with its prefix such as 10.77.0.11/24: '10.77.0.11/33'",
        ),
        ({"address": "10.77.0.255/24"}, "address: is the network or broadcast address of 10.77.0.0/24: 10.77.0.255/24"),
        ({"address": "127.0.0.5/8", "gateway": None}, "address: not an address an interface can have: 127.0.0.5/8"),
        ({"gateway": "10.78.0.1"}, "gateway: not on the interface's network 10.77.0.0/24: '10.78.0.1'"),
        ({"gateway": "10.77.0.11"}, "gateway: is the interface's own address: '10.77.0.11'"),
        ({"gateway": "2001:db8::1"}, "gateway: not of the same family as 10.77.0.11/24: '2001:db8::1'"),
        ({"address": None, "dhcp": True}, "gateway: a gateway needs an address on the same interface"),
        ({"mtu": 65536}, "mtu: not an MTU (68..65535): 65536"),
        (
            {"routes": [{"to": "10.8.1.1/16", "via": "10.77.0.2"}]},
            "routes[0].to: has host bits set, the network is 10.8.0.0/16: '10.8.1.1/16'",
        ),
        (
            {"routes": [{"to": "everywhere", "via": "10.77.0.2"}]},
            "routes[0].to: not a network such as 10.8.0.0/16, nor \"default\": 'everywhere'",
        ),
        (
            {"routes": [{"to": "2001:db8::/32", "via": "10.77.0.2"}]},
            "routes[0].via: IPv4 cannot be the way to an IPv6 network",
        ),
    ],
)
def test_one_fault_of_an_interface(fields: dict[str, Any], fault: str) -> None:
    assert nic(**fields) == [f"record.interfaces[0].{fault}"]


def test_interfaces_among_themselves() -> None:
    second = {**NIC, "name": "eth1", "mac": "52:54:00:12:34:56".upper(), "address": "10.77.0.12/24"}
    assert faults(interfaces=[NIC, second]) == [
        "record.interfaces[1].mac: the same as record.interfaces[0].mac: '52:54:00:12:34:56'",
        "record.interfaces[1].gateway: record.interfaces[0] has the IPv4 gateway already",
    ]


def test_what_passes() -> None:
    assert nic(address="10.77.0.10/31", gateway="10.77.0.11") == []
    assert nic(address="2001:db8::2/64", gateway="fe80::1", mtu=9000) == []
    assert nic(mac=None, address=None, gateway=None) == []
    assert faults(name="n" * 63, timezone="America/Argentina/ComodRivadavia", domain="x." * 80 + "y") == []


def test_a_fault_never_shows_a_private_key() -> None:
    secret = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0c2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n"
    found = faults(host_keys=[{"type": "rsa", "private": secret, "public": "ssh-rsa AAAA"}])
    assert len(found) == 2
    assert "c2VjcmV0" not in "".join(found)


def test_long_values_are_cut_in_faults() -> None:
    (fault,) = faults(domain="x" * 10_000)
    assert len(fault) < 120


def test_records_made_in_code_are_checked_too() -> None:
    record = Record(name="n001", id=1, interfaces=(Interface(name="eth0\nGateway=6.6.6.6"),))
    with pytest.raises(RecordInvalid, match=r"record\.interfaces\[0\]\.name: "):
        render(record, Facts(), Footprint())


def test_peers_are_checked_anew_for_each_tuple() -> None:
    good = (Peer(name="n002", address="10.0.0.2", id=2),)
    bad = (Peer(name="n 2", address="10.0.0.2", id=2),)
    for _ in range(2):
        check(Record(name="n001", id=1, peers=good))
        with pytest.raises(RecordInvalid, match=r"record\.peers\[0\]\.name"):
            check(Record(name="n001", id=1, peers=bad))


def test_facts_a_node_made_up() -> None:
    facts = Facts(
        interfaces=(NetworkInterface(name="eth0", mac="", driver="e1000\ninstall e1000 reboot"),),
        disks=(BlockDevice(name="sda", size_bytes=1, driver="$(reboot)"),),
    )
    with pytest.raises(RecordInvalid) as caught:
        render(Record(name="n001", id=1), facts, Footprint(modules=("modules.conf",)))
    assert caught.value.details == (
        "facts.interfaces[0].driver: not a kernel module's name: 'e1000\\ninstall e1000 reboot'",
        "facts.disks[0].driver: not a kernel module's name: '$(reboot)'",
    )


def test_options_too_clever_for_2_4() -> None:
    record = decode(b'{"name": "n001", "id": 1, "modules": [{"name": "a", "options": "x=(1)"}]}')
    assert render(record, Facts(), Footprint(modules=("modprobe.d",)))
    with pytest.raises(
        NotRenderable, match=r"record\.modules\[0\]\.options: modules\.conf of a 2\.4 kernel would expand"
    ):
        render(record, Facts(), Footprint(modules=("modules.conf",)))


def test_kernel_parameters() -> None:
    record = Record(name="n003", id=3)
    assert kernel_parameters(record) == ()
    in_session = msgspec.structs.replace(record, kerrighed=Kerrighed(session=7, min_nodes=4))
    assert kernel_parameters(in_session) == ("session_id=7", "node_id=3", "nb_nodes_min=4")
    by_address = msgspec.structs.replace(record, kerrighed=Kerrighed(session=7, min_nodes=4, autonodeid=True))
    assert kernel_parameters(by_address) == ("session_id=7", "autonodeid=1", "nb_nodes_min=4")


@pytest.mark.parametrize(("last", "autonodeid"), [(127, False), (255, True)])
def test_kerrighed_ids_end_where_the_kernel_ends(last: int, autonodeid: bool) -> None:
    kerrighed = {"session": 1, "min_nodes": 1, "autonodeid": autonodeid}
    assert faults(id=last, kerrighed=kerrighed) == []
    assert faults(id=last + 1, kerrighed=kerrighed)[0].startswith(
        f"record.id: Kerrighed's kernel stops at node id {last}"
    )


def test_kerrighed_list_stays_below_the_kernels_buffer() -> None:
    """However long the names: every member while they fit in 4095 bytes, else the own line alone."""
    sizes = set()
    for length in range(1, 60):
        peers = tuple(Peer(name=f"{'n' * length}{i:03}", address=f"10.0.0.{i}", id=i) for i in range(2, 101))
        record = Record(name="n001", id=1, peers=peers, kerrighed=Kerrighed(session=1, min_nodes=2))
        (nodes,) = (file for file in render(record, Facts(), Footprint()) if file.path == "/etc/kerrighed_nodes")
        lines = nodes.content.decode().splitlines()
        assert len(nodes.content) < 4096
        assert nodes.content.endswith(b"\n")
        assert "n001:1:eth0" in lines
        sizes.add(len(lines))
    assert sizes == {4, 103}


def test_notices() -> None:
    record = decode(next(case for case in cases() if case.name == "kerrighed-small").record_file.read_bytes())
    assert notices(record, Footprint()) == (
        "the record has interfaces, but the tree holds no network stack we know: none is configured",
        "the record has a Kerrighed session, but the tree holds no Kerrighed tools: only the node list is made",
    )
