"""Plans from recorded machines: every case in fixtures/disk/cases, read word for word."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sis.disk.choose import on_paths
from sis.disk.found import FoundDisk, Recording, parse
from sis.disk.plan import make_plan
from sis.disk.planned import DiskPlan
from sis.errors import NotFound, Refused, SisError, UsageFault
from tests.disks import FIXTURES, layout, machine

CASES = sorted((FIXTURES / "cases").glob("*.json"))
TYPES: dict[str, type[SisError]] = {"NotFound": NotFound, "Refused": Refused}


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_case(case: Path) -> None:
    told: dict[str, Any] = json.loads(case.read_text())
    wanted, found = layout(told["layout"]), machine(told["machine"])
    if "error" in told:
        with pytest.raises(TYPES[told["error"]["type"]]) as refused:
            make_plan(wanted, found, **told.get("options", {}))
        assert str(refused.value).splitlines() == told["error"]["text"]
        return
    plan = make_plan(wanted, found, **told.get("options", {}))
    assert plan.describe() == told["plan"]
    assert [disk.script.splitlines() for disk in plan.disks if disk.script] == told.get("scripts", [])
    made = [part.mkfs for disk in plan.disks for part in disk.partitions if part.mkfs]
    assert [shlex.join(argv) for argv in made] == told.get("mkfs", [])


def test_a_plan_is_a_value_that_travels() -> None:
    plan = make_plan(layout("keep"), machine("ours-keep"))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=DiskPlan) == plan
    assert not plan.changes


def test_every_machine_is_used_by_a_case() -> None:
    used = {json.loads(case.read_text())["machine"] for case in CASES}
    assert {path.stem for path in (FIXTURES / "machines").glob("*.json")} == used


def test_recorded_nvme_disks_keep_what_identifies_them() -> None:
    first, second = machine("two-nvme")
    assert (first.path, first.kind, first.serial) == ("/dev/nvme0n1", "nvme", "S4EWNX0R500001")
    assert first.links == ("/dev/disk/by-id/nvme-Samsung_SSD_970_EVO_Plus_1TB_S4EWNX0R500001",)
    assert second.size_bytes == 512_110_190_592


def test_a_drive_without_medium_is_no_disk() -> None:
    assert [disk.path for disk in machine("usb-stick")] == ["/dev/sda", "/dev/sdc"]


def test_disks_are_ordered_as_people_count() -> None:
    rows = [{"path": f"/dev/{name}", "kname": name, "type": "disk", "size": 1 << 40} for name in ("vdaa", "vdb", "vda")]
    assert [disk.path for disk in parse(Recording(lsblk=tuple(rows)))] == ["/dev/vda", "/dev/vdb", "/dev/vdaa"]


def test_a_disk_that_cannot_be_read_is_not_used() -> None:
    disk = FoundDisk(path="/dev/sda", kind="hdd", size_bytes=1 << 40, users=("/dev/sda cannot be read: I/O error",))
    with pytest.raises(Refused, match="cannot be read: I/O error"):
        make_plan(layout("single-wipe"), [disk], allow_foreign=True)


def test_read_only_disks_do_not_fit() -> None:
    disk = FoundDisk(path="/dev/sda", kind="hdd", size_bytes=1 << 40, read_only=True)
    with pytest.raises(NotFound, match="/dev/sda: is read-only"):
        make_plan(layout("single"), [disk])


def test_no_disk_at_all() -> None:
    with pytest.raises(NotFound, match="no disk was found at all"):
        make_plan(layout("single"), [])


def test_as_many_paths_as_disks() -> None:
    with pytest.raises(UsageFault, match="layout by-serial has 2 disks, 1 paths were given"):
        on_paths(layout("by-serial"), ["/dev/vda"])


def test_commands_can_be_pasted_into_a_shell() -> None:
    lines = make_plan(layout("single"), machine("empty-virtio")).commands()
    assert lines[0].startswith("sfdisk ")
    assert lines[0].endswith(" /dev/vda <<END")
    assert lines[lines.index("END") + 1] == "mkfs.vfat -F 32 -n SIS-ESP /dev/vda2"
