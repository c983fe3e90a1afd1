"""What a reboot is due for: told until the node has booted with it, remembered no longer than its boot."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sis.node import due, reports
from sis.node.due import behind, reboot_due, replaced
from sis.node.held import Held
from sis.sync.model import Change, Outcome
from sis.wire import Desired

WORDS = ("root=PARTLABEL=sis-root", "ro", "quiet", "console=ttyS0,115200")
RUNS = "BOOT_IMAGE=/boot/vmlinuz-6.1.0-1 root=PARTLABEL=sis-root ro quiet console=ttyS0,115200\n"


@pytest.mark.parametrize(
    ("running", "first", "why"),
    [
        (RUNS, "6.1.0-1", []),
        (RUNS.replace("BOOT", "initrd=\\x BOOT"), "6.1.0-1", []),
        (RUNS.replace(" quiet", ' "quiet"'), "6.1.0-1", []),
        (RUNS.replace(" quiet", ""), "6.1.0-1", ["kernel command line (+quiet)"]),
        (RUNS.replace("quiet", "debug nosmt"), "6.1.0-1", ["kernel command line (+quiet -debug -nosmt)"]),
        (RUNS.replace("ro quiet", "quiet ro"), "6.1.0-1", ["kernel command line (other order)"]),
        (RUNS, "6.1.0-2", ["kernel 6.1.0-2 instead of 6.1.0-1"]),
        (RUNS, "", []),
    ],
)
def test_what_runs_beside_what_the_menu_has(running: str, first: str, why: list[str]) -> None:
    assert behind(running, WORDS, "6.1.0-1", first) == why


def test_what_was_replaced_under_the_running_system() -> None:
    changes = [
        Change(action="update", path="/usr/lib/x86_64-linux-gnu/libc.so.6", what=("content",)),
        Change(action="metadata", path="/boot/vmlinuz-6.1.0-1", what=("mtime",)),
        Change(action="update", path="/boot/initrd.img-6.1.0-1", what=("content",)),
        Change(action="update", path="/etc/motd", what=("content",)),
    ]
    assert replaced(changes) == ["C library", "initrd"]


def no_disk(held_to: str = "1") -> Held:
    """Held to something without a disk layout: no menu to compare with."""
    desired = Desired(
        node="n1", image="c", channel=None, generation=1, version=held_to, store="store", layer=(), layout=None
    )
    return Held(desired, None, None, None)  # type: ignore[arg-type]  # only what it desires is looked at


def test_it_is_remembered_until_the_next_boot(tmp_path: Path) -> None:
    change = Change(action="update", path="/usr/lib/x86_64-linux-gnu/libc.so.6", what=("content",))
    heavy = Outcome(changes=(change,), reboot_needed=True)
    assert reboot_due(tmp_path, no_disk(), heavy) == ["C library"]
    assert reboot_due(tmp_path, no_disk(), Outcome()) == ["C library"], "the next check must not forget it"
    assert reboot_due(tmp_path, no_disk(), Outcome(), early=True) == []

    kept = tmp_path / due.REMEMBERED
    kept.write_bytes(msgspec.json.encode(due.Remembered(boot_id="another boot", why=("C library",))))
    assert reboot_due(tmp_path, no_disk(), Outcome()) == []
    kept.write_text("{half")
    assert reboot_due(tmp_path, no_disk(), Outcome()) == []


def test_a_report_says_why() -> None:
    told = reports.of_outcome(
        "check", no_disk().desired, Outcome(), started="2026-01-01T00:00:00.000Z", seconds=1,
        reboot_why=["kernel command line (+quiet)"],
    )  # fmt: skip
    assert (told.reboot_needed, told.reboot_why) == (True, ("kernel command line (+quiet)",))
