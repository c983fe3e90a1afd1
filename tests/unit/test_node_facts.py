"""A node tells its facts once, and again when its hardware differs; a head that is away is told next time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sis.errors import Unreachable
from sis.node.facts import tell_facts
from sis.wire import Hello


class Listener:
    """The one call of a head's connection that is made here."""

    def __init__(self) -> None:
        self.node = "n1"
        self.heard: list[Hello] = []
        self.is_away = False

    def hello(self, hello: Hello, *, patience_s: float) -> None:
        assert patience_s <= 60
        if self.is_away:
            raise Unreachable("the head does not answer")
        self.heard.append(hello)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    root = tmp_path / "machine"
    port = root / "sys/class/net/eth0"
    port.mkdir(parents=True)
    (root / "proc").mkdir()
    for name, text in (("address", "52:54:00:00:00:01"), ("type", "1"), ("carrier", "1"), ("speed", "1000")):
        (port / name).write_text(f"{text}\n")
    device = root / "sys/devices/pci0000:00/0000:00:03.0"
    device.mkdir(parents=True)
    (port / "device").symlink_to(device)
    (root / "proc/meminfo").write_text("MemTotal: 1024 kB\n")
    return root


def test_facts_are_told_once_and_when_they_change(machine: Path, tmp_path: Path) -> None:
    head: Any = Listener()
    assert tell_facts(head, tmp_path, machine)
    assert not tell_facts(head, tmp_path, machine)
    assert [(hello.node, hello.token, hello.macs) for hello in head.heard] == [("n1", None, ("52:54:00:00:00:01",))]
    assert head.heard[0].facts["interfaces"][0]["name"] == "eth0"
    (machine / "sys/class/net/eth0/carrier").write_text("0\n")
    assert not tell_facts(head, tmp_path, machine), "a link that goes is no other machine"
    (machine / "proc/meminfo").write_text("MemTotal: 2048 kB\n")
    assert tell_facts(head, tmp_path, machine)
    shutil.rmtree(machine / "sys/class/net/eth0")
    assert tell_facts(head, tmp_path, machine)
    assert head.heard[-1].macs == ()


def test_a_head_that_is_away_is_told_next_time(machine: Path, tmp_path: Path) -> None:
    head: Any = Listener()
    head.is_away = True
    assert not tell_facts(head, tmp_path, machine)
    head.is_away = False
    assert tell_facts(head, tmp_path, machine)
