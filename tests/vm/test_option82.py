"""A real lease with a relay's option 82, from real dnsmasq between two namespaces: the head learns the port."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from sis.netboot import ports, tftp
from sis.netboot.dnsmasq import BootNetwork

HEAD, NODE = "sis-o82-head", "sis-o82-node"


@pytest.fixture
def wire() -> Iterator[None]:
    """Two namespaces with a cable between them."""
    steps = (
        f"netns add {HEAD}", f"netns add {NODE}", f"link add va netns {HEAD} type veth peer name vb netns {NODE}",
        f"-n {HEAD} addr add 10.99.0.1/24 dev va", f"-n {HEAD} link set va up", f"-n {NODE} link set vb up",
    )  # fmt: skip
    try:
        for step in steps:
            subprocess.run(["ip", *step.split()], check=True)
        yield
    finally:
        for namespace in (HEAD, NODE):
            subprocess.run(["ip", "netns", "del", namespace], check=False)


@pytest.mark.root
@pytest.mark.usefixtures("wire")
def test_the_port_of_a_leased_machine_is_known(tmp_path: Path) -> None:
    pool = (IPv4Address("10.99.0.100"), IPv4Address("10.99.0.120"))
    network = BootNetwork(interface="va", address=IPv4Interface("10.99.0.1/24"), pool=pool)
    argv = tftp.prepare(tmp_path, network, [], head="http://10.99.0.1:8700")
    option = f"0x52:0106{b'Eth1/3'.hex()}0203{b'sw1'.hex()}"
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(["ip", "netns", "exec", HEAD, *argv], stderr=log)
        try:
            time.sleep(0.5)
            client = [
                "busybox",
                "udhcpc",
                "-i",
                "vb",
                "-f",
                "-n",
                "-q",
                "-t",
                "4",
                "-T",
                "5",
                "-s",
                "/bin/true",
                "-x",
                option,
            ]
            subprocess.run(["ip", "netns", "exec", NODE, *client], check=True, timeout=60)
            deadline = time.monotonic() + 10
            while not ports.seen(tmp_path / "run" / ports.FOLDER) and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            server.terminate()
            server.wait(10)
    (told,) = ports.seen(tmp_path / "run" / ports.FOLDER).values()
    assert told == {"switch": "sw1", "port": "Eth1/3"}
