"""The benchmark's wire: bytes, processor time and memory are counted on the right side, and nothing stays."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sis.system import process
from tests.bench import counters, disk
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
def test_nodes_have_a_disk_with_a_journal_and_nothing_stays(tmp_path: Path) -> None:
    image, folder = tmp_path / "nodes.img", tmp_path / "nodes"
    with disk.mounted(image, folder, 1 << 28):
        assert folder.is_mount()
        (folder / "file").write_bytes(bytes(1 << 20))
        (folder / "file").unlink()
        disk.trim(folder)
        features = process.run(["dumpe2fs", "-h", str(image)]).stdout
    assert "has_journal" in features
    assert not folder.is_mount()
    assert not image.exists()
    assert str(image) not in process.run(["losetup", "--list", "--noheadings"]).stdout
