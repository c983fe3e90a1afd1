"""The boot code of a disk that is not installed yet: it fits, and leaves everything else on the disk alone."""

from __future__ import annotations

from pathlib import Path

from sis.disk import unready


def test_the_code_ends_before_the_partition_table_and_says_what_is_the_matter() -> None:
    code = unready.boot_code()
    assert len(code) == 440
    start = code.index(unready.MESSAGE)
    assert int.from_bytes(code[12:14], "little") == 0x7C00 + start, "the code knows where its message lies"
    assert code[start + len(unready.MESSAGE)] == 0


def test_only_the_code_and_the_signature_are_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xee" * 2048)
    unready.mark(str(disk))
    data = disk.read_bytes()
    assert data[:440] == unready.boot_code()
    assert data[440:510] == b"\xee" * 70
    assert data[510:512] == b"\x55\xaa"
    assert data[512:] == b"\xee" * 1536
