"""The record of one node: everything its own files are made from. JSON on the wire and in `--record r.json`.

The head composes it from the inventory, the cluster file and the disk layout; it knows nothing of the image (that
is the footprint) nor of hardware found (those are the facts).
"""

from __future__ import annotations

import msgspec


class Route(msgspec.Struct, frozen=True, kw_only=True):
    to: str
    via: str


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """One network interface, matched by MAC. `address` is CIDR ("10.77.0.11/24") or None with `dhcp`."""

    name: str
    mac: str | None = None
    address: str | None = None
    gateway: str | None = None
    dhcp: bool = False
    mtu: int | None = None
    routes: tuple[Route, ...] = ()


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """One fstab line. `source` such as "PARTLABEL=sis-root"."""

    source: str
    path: str
    filesystem: str
    options: str = "defaults"
    dump: int = 0
    passno: int = 0


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another node (or the head) as every node must know it. `id` is stable and never re-used."""

    name: str
    address: str
    id: int
    interface: str = "eth0"


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel module: `alias` such as eth0 or scsi_hostadapter; `options` as modprobe takes them."""

    name: str
    alias: str | None = None
    options: str = ""
    load: bool = True


class Kerrighed(msgspec.Struct, frozen=True, kw_only=True):
    session: int
    min_nodes: int
    autonodeid: bool = False


class HostKey(msgspec.Struct, frozen=True, kw_only=True):
    """An ssh host key pair in OpenSSH text form; `type` such as ed25519, rsa."""

    type: str
    private: str
    public: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    id: int
    domain: str = ""
    cluster: str = "cluster"
    head: str = ""
    """Address of the head on the node's network."""
    interfaces: tuple[Interface, ...] = ()
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    modules: tuple[Module, ...] = ()
    blacklist: tuple[str, ...] = ()
    peers: tuple[Peer, ...] = ()
    kerrighed: Kerrighed | None = None
    host_keys: tuple[HostKey, ...] = ()
    root_authorized_keys: tuple[str, ...] = ()
    machine_id: str | None = None
    timezone: str = "UTC"
