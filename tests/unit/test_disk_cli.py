"""`sis disk` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from click.testing import CliRunner, Result

from sis.cli import main
from sis.disk.found import Recording, parse
from sis.disk.planned import DiskPlan
from tests.disks import FIXTURES, image

SINGLE = str(FIXTURES / "layouts/single.yaml")


def _sis(*argv: str) -> Result:
    return CliRunner().invoke(main, ["disk", *argv], prog_name="sis")


def test_plan_on_an_image_file(tmp_path: Path) -> None:
    disk = image(tmp_path / "node.img", 2 << 30)
    shown = _sis("plan", SINGLE, "--disk", str(disk), "--commands")
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert lines[0] == f"{disk}  2 GiB  file: a new GPT partition table"
    assert lines[4].split() == ["4", "sis-root", "1.7", "GiB", "at", "322", "MiB", "ext4", "/", "create"]
    assert f"mkswap -f -L sis-swap {disk}3" in lines
    assert disk.stat().st_blocks == 0


def test_plan_as_json_is_the_plan(tmp_path: Path) -> None:
    disk = image(tmp_path / "node.img", 2 << 30)
    shown = _sis("plan", SINGLE, "--disk", str(disk), "-o", "json")
    plan = msgspec.json.decode(shown.output, type=DiskPlan)
    assert [part.label for part in plan.disks[0].partitions] == ["sis-bios-boot", "sis-esp", "sis-swap", "sis-root"]


def test_refused_is_exit_code_5(tmp_path: Path) -> None:
    shown = _sis("plan", SINGLE, "--disk", str(image(tmp_path / "small.img", 1 << 20)))
    assert shown.exit_code == 5
    assert "small.img is too small for layout single: needs 339 MiB, has 1 MiB" in shown.output
    assert "hint: choose a larger disk" in shown.output


def test_unknown_layout_and_unknown_disk(tmp_path: Path) -> None:
    unknown = _sis("plan", "singel")
    assert (unknown.exit_code, "did you mean single" in unknown.output) == (1, True)
    missing = _sis("plan", SINGLE, "--disk", str(tmp_path / "none"))
    assert (missing.exit_code, f"no such disk: {tmp_path}/none" in missing.output) == (1, True)


def test_a_recording_can_be_read_back(tmp_path: Path) -> None:
    disk = image(tmp_path / "node.img", 2 << 30)
    shown = _sis("record", str(disk))
    found = parse(msgspec.json.decode(shown.output, type=Recording))
    assert [each.size_bytes for each in found if each.path == str(disk)] == [2 << 30]
    assert json.loads(shown.output)["signatures"] == {str(disk): []}
