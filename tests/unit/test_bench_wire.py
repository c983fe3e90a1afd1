"""The benchmark's wire: bytes, processor time and memory are counted on the right side, and nothing stays."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sis.errors import NoSpace
from sis.system import process
from tests.bench import counters, disk, memory
from tests.bench.wire import HEAD, Wire

_PORT = 8099
_BUSY = "x = bytearray(60_000_000); [n * n for n in range(600_000)]; import time; time.sleep(0.15)"


@pytest.mark.root
def test_both_sides_are_counted_and_nothing_stays(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/file").write_bytes(bytes(3_000_000))
    server = [sys.executable, "-m", "http.server", str(_PORT), "--bind", HEAD, "--directory", str(tmp_path / "served")]
    fetch = f"import urllib.request as r; r.urlopen('http://{HEAD}:{_PORT}/file').read()"
    with Wire(tmp_path) as wire:
        with wire.serving(server, _PORT):
            fetched = wire.measure([sys.executable, "-c", fetch])
        worked = wire.measure([sys.executable, "-c", _BUSY], on="head")
        failed = wire.measure(["sh", "-c", "echo no such luck; exit 3"], ["true"])
        assert wire.speed(1_000_000) > 1_000_000
        with wire.slowed(10_000_000):
            assert wire.speed(5_000_000) < 20_000_000
    assert fetched.fault == ""
    assert 3_000_000 < fetched.down_bytes < 3_300_000
    assert fetched.up_bytes < 100_000
    assert fetched.head_cpu_s > 0
    assert worked.head_cpu_s > 0
    assert worked.down_bytes < 1000
    assert worked.rss_bytes > 60_000_000
    assert failed.fault == "sh ended with 3: no such luck"
    assert not Path("/run/netns", wire.head).exists()
    assert not Path("/run/netns", wire.node).exists()
    if kind := counters.kind_of_groups():
        base = Path("/sys/fs/cgroup", "cpuacct" if kind == "v1" else "")
        assert not (base / wire.head).exists()


@pytest.mark.root
def test_nodes_have_a_disk_that_is_written_before_and_nothing_stays(tmp_path: Path) -> None:
    nodes = disk.Disk(tmp_path / "nodes.img", tmp_path / "nodes", 96 << 20)
    parts = [tmp_path / "many" / str(number) for number in range(2)]
    with nodes:
        assert nodes.folder.is_mount()
        assert nodes.image.stat().st_blocks * 512 >= nodes.size
        (nodes.folder / "file").touch()
        with nodes.divided(parts):
            assert not nodes.folder.is_mount()
            assert all(part.is_mount() for part in parts)
            assert os.statvfs(parts[1]).f_blocks * os.statvfs(parts[1]).f_frsize < 48 << 20
            features = process.run(["dumpe2fs", "-h", _device_at(parts[0])]).stdout
        assert nodes.folder.is_mount()
        assert not (nodes.folder / "file").exists()
        assert nodes.image.stat().st_blocks * 512 >= nodes.size
    assert "has_journal" in features
    assert not nodes.folder.is_mount()
    assert not any(part.is_mount() for part in parts)
    assert not nodes.image.exists()
    assert str(nodes.image) not in process.run(["losetup", "--list", "--noheadings"]).stdout


@pytest.mark.root
def test_a_disk_of_a_killed_run_is_made_anew(tmp_path: Path) -> None:
    nodes = disk.Disk(tmp_path / "nodes.img", tmp_path / "nodes", 48 << 20)
    nodes.__enter__()
    (nodes.folder / "file").touch()
    with nodes:
        assert not (nodes.folder / "file").exists()
    assert not nodes.folder.is_mount()


def test_a_disk_for_which_there_is_no_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match="takes 1048576 GiB"), disk.Disk(tmp_path / "nodes.img", tmp_path, 1 << 50):
        pass
    assert not (tmp_path / "nodes.img").exists()


def test_memory_is_held_and_given_to_whom_is_measured() -> None:
    before = _resident_bytes()
    with memory.Held(64 << 20) as held:
        assert _resident_bytes() > before + (60 << 20)
        with held.given():
            assert _resident_bytes() < before + (10 << 20)
        assert _resident_bytes() > before + (60 << 20)
    assert _resident_bytes() < before + (10 << 20)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _device_at(folder: Path) -> str:
    return process.run(["findmnt", "-n", "-o", "SOURCE", str(folder)]).stdout.strip()
