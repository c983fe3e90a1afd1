"""Facts: recorded machines give their recorded facts, a live one gives believable ones, fillers count as nothing."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from configurator.__main__ import main
from configurator.errors import ConfiguratorError
from configurator.facts import Facts, decode_facts, read_facts
from tests.trees import FIXTURES, make_tree, read_listing

MACHINES = sorted(file.name.removesuffix(".sys.json") for file in (FIXTURES / "facts").glob("*.sys.json"))


@pytest.mark.parametrize("machine", MACHINES)
def test_recorded_machine(machine: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    root = make_tree(read_listing(FIXTURES / "facts" / f"{machine}.sys.json"), tmp_path)
    recorded = (FIXTURES / "facts" / f"{machine}.json").read_bytes()
    assert read_facts(root) == decode_facts(recorded)
    assert main(["facts", "--root-sys", str(root)]) == 0
    assert capsysbinary.readouterr().out == recorded


def test_machines_differ() -> None:
    assert len(MACHINES) >= 11
    facts = [decode_facts((FIXTURES / "facts" / f"{machine}.json").read_bytes()) for machine in MACHINES]
    assert {each.boot_mode for each in facts} == {"bios", "uefi"}
    assert max(each.cpu.sockets for each in facts if each.cpu.cores > 2) >= 2
    assert any({disk.type for disk in each.disks} == {"nvme"} for each in facts)
    assert {each.architecture for each in facts} >= {"x86_64", "aarch64"}
    assert {disk.driver for each in facts for disk in each.disks} >= {
        "ahci", "hv_storvsc", "megaraid_sas", "nvme", "qla2xxx", "usb_storage", "virtio_blk",
    }  # fmt: skip
    assert "infiniband" in {interface.kind for each in facts for interface in each.interfaces}


def test_live_machine() -> None:
    facts = read_facts()
    assert facts.kernel == os.uname().release
    assert facts.architecture == os.uname().machine
    assert facts.cpu.threads == os.cpu_count()
    assert facts.memory_bytes > 0
    assert all(interface.name != "lo" for interface in facts.interfaces)
    assert msgspec.json.decode(msgspec.json.encode(facts), type=Facts) == facts


@pytest.mark.parametrize(
    ("raw", "serial"),
    [
        (b"To Be Filled By O.E.M.\n", ""),
        (b"Default string\n", ""),
        (b"  \n", ""),
        (b"0000000\n", ""),
        (b"0123456789\n", ""),
        (b"None\n", ""),
        (b" A1 / 7 \n", "A1 / 7"),
        (b"\xff\x1b[31m<b>\0\n", "\ufffd?[31m<b>"),
        (b"xxxxxxxx\n", ""),
        (b"S" * 5000, "S" * 256),
    ],
)
def test_odd_serials(raw: bytes, serial: str, tmp_path: Path) -> None:
    identity = tmp_path / "sys/class/dmi/id"
    identity.mkdir(parents=True)
    (identity / "product_serial").write_bytes(raw)
    assert read_facts(tmp_path).serial == serial


def test_links_that_leave_the_tree_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "sys/class/net/evil0").mkdir(parents=True)
    (tmp_path / "sys/class/net/evil0/device").symlink_to("/")
    assert read_facts(tmp_path).interfaces == ()


def test_no_sys(tmp_path: Path) -> None:
    with pytest.raises(ConfiguratorError) as caught:
        read_facts(tmp_path)
    assert str(caught.value) == f"no sys directory in {tmp_path}\nhint: give the directory that holds sys and proc"


def test_facts_that_are_none() -> None:
    with pytest.raises(ConfiguratorError, match=r"^f\.json does not hold facts\nExpected `int`, got `str`"):
        decode_facts(b'{"memory_bytes": "much"}', "f.json")
