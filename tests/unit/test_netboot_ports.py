"""Switch ports from DHCP option 82: the script dnsmasq runs, and what is read of what it writes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sis.netboot import ports

MAC = "52:54:00:00:00:0a"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the script writes; the script itself lies beside it."""
    made = tmp_path / ports.FOLDER
    made.mkdir()
    script = tmp_path / ports.SCRIPT_NAME
    script.write_text(ports.script(made))
    script.chmod(0o755)
    return made


def leased(folder: Path, *words: str, circuit: str = "", remote: str = "") -> None:
    told = {"DNSMASQ_CIRCUIT_ID": circuit, "DNSMASQ_REMOTE_ID": remote}
    env = {"PATH": os.environ["PATH"], **{name: value for name, value in told.items() if value}}
    subprocess.run([folder.parent / ports.SCRIPT_NAME, *words], check=True, env=env)


def test_what_a_relay_added_is_kept_by_mac(folder: Path) -> None:
    leased(folder, "add", MAC, "10.77.0.201", circuit="45:74:68:31:2f:33", remote="73:77:31")
    assert ports.seen(folder) == {MAC: {"switch": "sw1", "port": "Eth1/3"}}
    leased(folder, "old", MAC, "10.77.0.201", circuit="00:04:00:01")
    assert ports.seen(folder) == {MAC: {"port": "00040001"}}
    ports.forget(folder, MAC)
    assert ports.seen(folder) == {}


def test_without_a_relay_and_for_strange_macs_nothing_is_written(folder: Path) -> None:
    leased(folder, "add", MAC, "10.77.0.201")
    leased(folder, "del", MAC, "10.77.0.201", circuit="41")
    leased(folder, "add", "../../etc/passwd", "10.77.0.201", circuit="41")
    leased(folder, "add", "06-52:54:00:00:00:0a", "10.77.0.201", circuit="41")
    assert list(folder.iterdir()) == []
    assert ports.seen(folder.parent / "nowhere") == {}


def test_old_files_go_and_strange_ones_are_left_alone(folder: Path) -> None:
    leased(folder, "add", MAC, "10.77.0.201", circuit="41")
    os.utime(folder / MAC, (1, 1))
    (folder / "readme").write_text("x")
    assert ports.seen(folder) == {MAC: {"port": "A"}}
    assert ports.seen(folder) == {}
    assert [path.name for path in folder.iterdir()] == ["readme"]


def test_ids_are_text_where_they_can_be() -> None:
    assert ports.readable("45:74:68:31") == "Eth1"
    assert ports.readable("00:04") == "0004"
    assert ports.readable("zz\x1b[31m") == "zz[31m"
    assert ports.readable("") == ""
