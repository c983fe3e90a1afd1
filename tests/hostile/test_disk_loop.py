"""Real partitions on image files: what a plan says is what then lies on the disk, and the guards hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sis.disk import bootloader, devices, mounts
from sis.disk.apply import apply
from sis.disk.model import Partition
from sis.disk.plan import make_plan
from sis.disk.planned import DiskPlan, PlannedDisk
from sis.disk.probe import found_disks, signature
from sis.errors import Locked, NotFound, ProgramFailed, Refused
from sis.system import process
from tests.disks import actions, digest, image, layout, nothing_left_behind, partition, plan_for

pytestmark = pytest.mark.root

GIB = 1 << 30


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    with nothing_left_behind(tmp_path):
        yield


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return image(tmp_path / "node 1.img", 6 * GIB)


def _installed(name: str, disk: Path) -> DiskPlan:
    plan = plan_for(name, disk)
    apply(plan)
    return plan


def _labels(disk: Path) -> dict[str, tuple[str | None, str | None]]:
    table = found_disks([disk])[0].table
    assert table is not None
    return {
        part.label: (part.content.type, part.content.label) if part.content else (None, None)
        for part in table.partitions
    }


def test_ext4_and_xfs_end_to_end(disk: Path, tmp_path: Path) -> None:
    said: list[str] = []
    apply(plan_for("keep", disk), observe=said.append)
    assert said[:2] == [f"clear old signatures on {disk}", f"write the partition table of {disk}"]
    assert said[-2:] == ["make xfs on sis-scratch", f"name sis-scratch on {disk}"]
    assert "No errors detected" in process.run(["sfdisk", "--verify", disk]).stdout
    assert _labels(disk) == {
        "sis-bios-boot": (None, None),
        "sis-esp": ("vfat", "SIS-ESP"),
        "sis-root": ("ext4", "sis-root"),
        "sis-scratch": ("xfs", "sis-scratch"),
    }

    again = plan_for("keep", disk)
    assert not again.changes
    target = tmp_path / "target"
    with mounts.mounted(again, target) as root:
        assert mounts.mounted_below(target) == [root, root / "scratch"]
        (root / "etc").mkdir()
        (root / "etc/hostname").write_text("n001\n")
        (root / "scratch/results").write_bytes(os.urandom(1 << 20))
    assert mounts.mounted_below(target) == []

    said.clear()
    apply(again, observe=said.append)
    assert said == []
    with mounts.mounted(plan_for("keep", disk), target) as root:
        assert (root / "etc/hostname").read_text() == "n001\n"


def test_a_fresh_install_makes_all_anew_and_keeps_scratch_to_the_byte(disk: Path, tmp_path: Path) -> None:
    first = _installed("keep", disk)
    with mounts.mounted(first, tmp_path / "target") as root:
        (root / "old").touch()
        (root / "scratch/results").write_bytes(os.urandom(1 << 20))
    scratch = partition(first, "sis-scratch")
    before, uuids = digest(disk, scratch), [part.uuid for part in plan_for("keep", disk).disks[0].partitions]

    fresh = plan_for("keep", disk, fresh=True)
    assert actions(fresh) == {
        "sis-bios-boot": "reuse",
        "sis-esp": "format",
        "sis-root": "format",
        "sis-scratch": "keep",
    }
    apply(fresh)
    split = plan_for("keep-split-root", disk)
    apply(split)

    assert digest(disk, scratch) == before
    assert partition(plan_for("keep-split-root", disk), "sis-scratch").uuid == uuids[3]
    with mounts.mounted(split, tmp_path / "target") as root:
        assert mounts.mounted_below(root) == [root, root / "scratch", root / "var"]
        assert not (root / "old").exists()
        assert (root / "scratch/results").stat().st_size == 1 << 20


def test_kept_partition_elsewhere_is_refused_and_untouched(disk: Path) -> None:
    scratch = partition(_installed("keep", disk), "sis-scratch")
    before = digest(disk, scratch)
    with pytest.raises(Refused, match="'sis-scratch' is to be kept, but the layout puts it elsewhere"):
        plan_for("keep-larger-root", disk)
    assert digest(disk, scratch) == before


def test_foreign_file_systems_are_named(disk: Path, tmp_path: Path) -> None:
    script = "label: dos\nstart=2048, size=131072, type=83\nstart=133120, size=131072, type=82\n"
    process.run(["sfdisk", "--quiet", disk], stdin=script)
    part = image(tmp_path / "part", 64 << 20)
    process.run(["mkfs.ext4", "-q", "-L", "my data", part])
    with disk.open("r+b") as file:
        file.seek(2048 * 512)
        file.write(part.read_bytes())
    with pytest.raises(Refused) as refused:
        plan_for("single", disk)
    assert refused.value.message == f"{disk} holds content that sis did not make"
    assert refused.value.details == (
        f"ext4 labelled 'my data' on {disk}1",
        f"partition {disk}2, 64 MiB, content unknown",
    )

    allowed = plan_for("single", disk, allow_foreign=True)
    assert f"  lost: ext4 labelled 'my data' on {disk}1" in allowed.describe()
    apply(allowed)
    assert _labels(disk)["sis-root"] == ("ext4", "sis-root")
    assert not plan_for("single", disk).changes


@pytest.mark.parametrize("mkfs", [("mkfs.ext4", "-q", "-L", "data"), ("mkfs.xfs", "-q", "-L", "data")])
def test_file_system_on_the_whole_disk(disk: Path, mkfs: tuple[str, ...]) -> None:
    process.run([*mkfs, disk])
    kind = mkfs[0].removeprefix("mkfs.")
    with pytest.raises(Refused, match=f"{kind} labelled 'data' on {disk}"):
        plan_for("single", disk)
    apply(plan_for("single-wipe", disk))
    found = found_disks([disk])[0]
    assert (found.contents, found.table is not None and found.table.label) == ((), "gpt")


def test_stale_file_system_where_a_new_partition_begins(disk: Path) -> None:
    """A file system of an earlier table never shows up as the content of a new partition."""
    _installed("keep", disk)
    process.run(["wipefs", "--quiet", "--force", "--all", disk])
    plan = plan_for("keep", disk)
    assert actions(plan)["sis-root"] == "create"
    whole = plan.disks[0]
    with pytest.raises(ProgramFailed):
        apply(msgspec.structs.replace(plan, disks=(_without_programs(plan),)))
    assert set(_labels(disk).values()) == {(None, None)}
    assert [part.label for part in whole.partitions if part.mkfs] == ["sis-esp", "sis-root", "sis-scratch"]
    apply(plan_for("keep", disk))
    assert _labels(disk)["sis-root"] == ("ext4", "sis-root")


def _without_programs(plan: DiskPlan) -> PlannedDisk:
    parts = [
        msgspec.structs.replace(part, mkfs=("false", part.node) if part.mkfs else ())
        for part in plan.disks[0].partitions
    ]
    return msgspec.structs.replace(plan.disks[0], partitions=tuple(parts))


def test_damaged_first_table_is_repaired(disk: Path, tmp_path: Path) -> None:
    with mounts.mounted(_installed("keep", disk), tmp_path / "target") as root:
        (root / "there").touch()
    with disk.open("r+b") as file:
        file.seek(512)
        file.write(bytes(512))
    plan = plan_for("keep", disk)
    assert plan.describe()[0].endswith("the damaged partition table is written again")
    apply(plan)
    assert "No errors detected" in process.run(["sfdisk", "--verify", disk]).stdout
    with mounts.mounted(plan_for("keep", disk), tmp_path / "target") as root:
        assert (root / "there").exists()


def test_missing_programs_are_all_named_before_anything_is_changed(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for("keep", disk)
    found = process.find
    monkeypatch.setattr(process, "find", lambda name: None if name in ("mkfs.xfs", "mcopy") else found(name))
    with pytest.raises(NotFound, match=r"programs are missing: mcopy, mkfs\.xfs\nhint: install mtools xfsprogs"):
        apply(plan)
    monkeypatch.undo()
    assert found_disks([disk])[0].table is None


def test_too_small(tmp_path: Path) -> None:
    small = image(tmp_path / "small.img", 300 << 20)
    with pytest.raises(Refused, match=r"small\.img is too small for layout single: needs 339 MiB, has 300 MiB"):
        plan_for("single", small)
    assert small.read_bytes().count(0) == 300 << 20


def test_least_disk_is_enough(tmp_path: Path) -> None:
    least = image(tmp_path / "least.img", 339 << 20)
    apply(plan_for("single", least))
    assert "No errors detected" in process.run(["sfdisk", "--verify", least]).stdout
    assert not plan_for("single", least).changes


def test_no_such_disk(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such disk: /dev/nonesuch"):
        found_disks(["/dev/nonesuch"])
    with pytest.raises(NotFound, match="is neither a disk nor an image file"):
        found_disks([tmp_path])


def test_mounted_disk_is_refused_by_plan_and_by_apply(disk: Path, tmp_path: Path) -> None:
    plan = _installed("single", disk)
    later = plan_for("single", disk, fresh=True)
    with mounts.mounted(plan, tmp_path / "target"):
        with pytest.raises(Refused, match=r"is mounted at .*/target"):
            plan_for("single", disk, fresh=True)
        with pytest.raises(Locked, match="is being worked on by another program"):
            apply(later)
        (loop,) = devices.loops_over(str(disk))
        on_loop = msgspec.structs.replace(later.disks[0], path=loop)
        with pytest.raises(Refused, match=f"{loop} is in use"):
            apply(msgspec.structs.replace(later, disks=(on_loop,)))


def test_loop_device_by_path(disk: Path, tmp_path: Path) -> None:
    loop = process.run(["losetup", "--find", "--show", disk]).stdout.strip()
    try:
        found = found_disks([loop])
        assert (found[0].kind, found[0].size_bytes) == ("loop", 6 * GIB)
        plan = make_plan(layout("single", Path(loop)), found)
        apply(plan)
        with mounts.mounted(plan, tmp_path / "target") as root:
            assert mounts.source_of(root) == f"{loop}p4"
    finally:
        process.run(["losetup", "--detach", loop])
    assert not plan_for("single", disk).changes


def test_where_the_kernel_shows_no_partitions(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such kernels exist; here it is told so: then loop devices over the partitions' bytes stand for them."""
    monkeypatch.setattr(devices, "_kernel_knows", lambda *_: False)
    plan = _installed("keep", disk)
    with mounts.mounted(plan, tmp_path / "target") as root:
        assert mounts.source_of(root).startswith("/dev/loop")
        assert signature(mounts.source_of(root))["LABEL"] == "sis-root"
        (root / "there").touch()
    monkeypatch.undo()
    again = plan_for("keep", disk)
    assert not again.changes
    with mounts.mounted(again, tmp_path / "target") as root:
        assert (root / "there").exists()


def test_unmounted_after_an_error_with_everything_mounted_since(disk: Path, tmp_path: Path) -> None:
    plan = _installed("keep", disk)

    def fail_inside(root: Path) -> None:
        assert (root / "proc/self/mountinfo").exists()
        assert (root / "dev/null").is_char_device()
        (root / "tmp").mkdir()
        process.run(["mount", "-t", "tmpfs", "tmpfs", root / "tmp"])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), mounts.mounted(plan, tmp_path / "target", bind_system=True) as root:
        fail_inside(root)
    assert mounts.mounted_below(tmp_path) == []


def test_release_ends_what_a_killed_run_left_mounted(disk: Path, tmp_path: Path) -> None:
    plan = _installed("keep", disk)
    held = mounts.mounted(plan, tmp_path / "target", bind_system=True)
    held.__enter__()
    mounts.release(tmp_path / "target")
    assert mounts.mounted_below(tmp_path) == []
    held.__exit__(None, None, None)


def test_file_system_that_cannot_be_mounted(disk: Path, tmp_path: Path) -> None:
    plan = _installed("keep", disk)
    scratch = partition(plan, "sis-scratch")
    with disk.open("r+b") as file:
        file.seek(scratch.start_bytes)
        file.write(bytes(1 << 16))
    with (
        pytest.raises(ProgramFailed, match="mount failed"),
        mounts.mounted(plan, tmp_path / "target"),
    ):
        pytest.fail("mounted")
    assert mounts.mounted_below(tmp_path) == []


def test_boot_loader_in_every_place_it_belongs(disk: Path, tmp_path: Path) -> None:
    plan = _installed("single", disk)
    with mounts.mounted(plan, tmp_path / "target") as root:
        installed = bootloader.install(root, plan)
        assert installed == (f"BIOS on {disk}", f"UEFI on {disk}, partition 2")
        assert bootloader.install(root, plan) == installed
    raw = disk.open("rb")
    with raw:
        sector = raw.read(512)
        raw.seek(partition(plan, "sis-bios-boot").start_bytes)
        core = raw.read(512)
    assert b"GRUB" in sector
    assert int.from_bytes(sector[0x5C:0x64], "little") == 2048
    assert int.from_bytes(core[500:508], "little") == 2049
    offset = partition(plan, "sis-esp").start_bytes
    listed = process.run(["mdir", "-b", "-i", f"{disk}@@{offset}", "::/EFI/BOOT"], env={"MTOOLS_SKIP_CHECK": "1"})
    assert listed.stdout.split() == ["::/EFI/BOOT/BOOTX64.EFI"]
    assert "No errors detected" in process.run(["sfdisk", "--verify", disk]).stdout
    assert not plan_for("single", disk).changes


def test_boot_loader_faults(disk: Path, tmp_path: Path) -> None:
    plan = _installed("single", disk)
    parts = plan.disks[0].partitions
    bare = msgspec.structs.replace(plan.disks[0], partitions=parts[2:])
    with mounts.mounted(plan, tmp_path / "target") as root:
        with pytest.raises(Refused, match="the layout has no place for a boot loader"):
            bootloader.install(root, msgspec.structs.replace(plan, disks=(bare,)))
        with pytest.raises(NotFound, match="install the package grub-pc-bin"):
            bootloader.install(root, plan, grub=tmp_path)


def test_xfs_root_and_separate_boot(disk: Path, tmp_path: Path) -> None:
    boot = Partition(role="data", label="sis-boot", filesystem="ext4", size=1 << 29, mount="/boot")
    wanted = layout("single", disk)
    parts = (*wanted.disks[0].partitions[:2], boot, wanted.disks[0].partitions[3])
    wanted = msgspec.structs.replace(wanted, disks=(msgspec.structs.replace(wanted.disks[0], partitions=parts),))
    plan = make_plan(wanted, found_disks([disk]))
    assert "^metadata_csum_seed" in partition(plan, "sis-boot").mkfs
    assert "^metadata_csum_seed" not in partition(plan, "sis-root").mkfs
    apply(plan)
    with mounts.mounted(plan, tmp_path / "target") as root:
        (root / "boot/vmlinuz-6").touch()
        bootloader.install(root, plan)
        path = bootloader.write_menu(root, bootloader.kernels_in(root), root_spec=bootloader.root_spec(wanted))
        assert "    linux /vmlinuz-6 root=PARTLABEL=sis-root ro\n" in path.read_text()
