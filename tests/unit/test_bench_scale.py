"""The page of `BENCH=scale`: most memory, growth of a check, and what rsync found."""

from __future__ import annotations

from pathlib import Path

from tests.bench import scale
from tests.bench.figures import Measured, figure
from tests.bench.scale import Scaled


def _measured(node_cpu_s: float, rss_bytes: int) -> Measured:
    return Measured(1.5, 1000, 10, 0.0, node_cpu_s, rss_bytes)


def test_the_page_says_what_counts() -> None:
    found = Scaled(
        date="2026-11-22 12:00 UTC",
        machine={"processor": "2 × some"},
        versions={"sis": "abc"},
        figures=(
            figure("ours", "commit, 250,000 files", _measured(0.0, 400_000_000)),
            figure("ours", "check, 250,000 files", _measured(1.0, 300_000_000), differences=0),
            figure("ours", "bring 250,000 files about", _measured(1.0, 910_000_000), differences=0),
            figure("ours", "check, 1,000,000 files", _measured(4.1, 900_000_000), differences=2),
            figure("ours", "cold, 4 GiB", _measured(9.0, 150_000_000), differences=0),
        ),
    )
    text = scale.page(found)
    assert "most memory with many files: 910 MB, at most 1.00 GB wanted" in text
    assert "check of 4 times the files takes 4.10 times the processor time" in text
    assert "with a 4 GiB file: 150 MB, 250 MB wanted" in text
    assert text.count("equal") == 3
    assert text.count("DIFFERS") == 1


def test_a_tree_grows_by_the_files_that_lack(tmp_path: Path) -> None:
    scale._grow(tmp_path, 0, 700)
    before = {path: path.read_bytes() for path in tmp_path.rglob("file-*")}
    scale._grow(tmp_path, 1000, 1200)
    assert len(before) == 700
    assert len(list(tmp_path.rglob("file-*"))) == 900
    assert all(path.read_bytes() == content for path, content in before.items())
