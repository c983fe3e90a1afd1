"""The fstab lines of a layout."""

from __future__ import annotations

from sis.disk.filesystems import filesystem_label
from sis.disk.mounts import FstabMount, fstab_mounts
from tests.disks import layout


def test_fstab_has_parents_before_children_and_swap_last() -> None:
    assert fstab_mounts(layout("single")) == (
        FstabMount("PARTLABEL=sis-root", "/", "ext4", "defaults", 0, 1),
        FstabMount("PARTLABEL=sis-esp", "/boot/efi", "vfat", "defaults,nofail", 0, 0),
        FstabMount("PARTLABEL=sis-swap", "none", "swap", "sw", 0, 0),
    )


def test_fstab_keeps_options_and_checks_only_ext4() -> None:
    assert fstab_mounts(layout("nvme"))[1:] == (
        FstabMount("PARTLABEL=sis-scratch", "/scratch", "xfs", "noatime,nodev", 0, 0),
        FstabMount("PARTLABEL=sis-esp", "/boot/efi", "vfat", "defaults,nofail", 0, 0),
    )


def test_labels_fit_their_file_system() -> None:
    long = "sis-var-lib-containers"
    assert filesystem_label(long, "ext4") == "sis-var-lib-cont"
    assert filesystem_label(long, "xfs") == "sis-var-lib-"
    assert filesystem_label("sis-esp.old", "vfat") == "SIS-ESP_OLD"
