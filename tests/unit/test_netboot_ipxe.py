"""Boot answers: what they say, and what they refuse to say."""

from __future__ import annotations

import pytest

from sis.errors import Refused
from sis.netboot import ipxe

HEAD = "http://10.77.0.1:8700"
ROOT = ipxe.RamRoot(files=f"{HEAD}/boot/files/abcd", root_sha256="0f" * 32, root_bytes=72_000_000)


def install(**changes: object) -> ipxe.Install:
    values = {"node": "n001", "token": "tok_-1", "key": "ab" * 32, "root": ROOT, "console": "ttyS0,115200"}
    return ipxe.Install(**{**values, **changes})  # type: ignore[arg-type]


def test_an_install_names_kernel_initrd_root_and_identity() -> None:
    script = ipxe.answer(install(kernel_cmdline="quiet  sis.debug"), head=HEAD)
    assert script.startswith("#!ipxe\n")
    assert f"initrd --name initrd {HEAD}/boot/files/abcd/initrd " in script
    (line,) = [line for line in script.splitlines() if line.startswith("kernel ")]
    assert line.startswith(f"kernel --name vmlinuz {HEAD}/boot/files/abcd/vmlinuz initrd=initrd ")
    words = line.split()
    for word in (
        f"sis.head={HEAD}",
        "sis.node=n001",
        "sis.token=tok_-1",
        f"sis.key={'ab' * 32}",
        f"sis.root={HEAD}/boot/files/abcd/root.squashfs",
        f"sis.root_sha256={'0f' * 32}",
        "sis.root_bytes=72000000",
        "BOOTIF=01-${netX/mac:hexhyp}",
        "quiet",
        "sis.debug",
    ):
        assert word in words
    assert words.index("console=tty0") < words.index("console=ttyS0,115200")


def test_without_key_and_console_their_words_are_absent() -> None:
    line = ipxe.arguments(install(key=None, console=None), head=HEAD)
    assert "sis.key" not in line
    assert "console" not in line


def test_a_disk_is_booted_in_the_way_of_each_firmware() -> None:
    script = ipxe.answer(ipxe.Local("n001"), head=HEAD + "/")
    assert "echo sis: n001 boots from its disk" in script
    assert "sanboot --no-describe --drive 0x80 || exit 1" in script
    assert f"chain {HEAD}/boot/loader/disk.efi ||" in script


def test_a_stranger_is_told_what_to_do() -> None:
    script = ipxe.answer(ipxe.Unknown("52:54:00:00:00:01", wait_s=3), head=HEAD)
    assert "echo sis: 52:54:00:00:00:01 is not in the inventory of http://10.77.0.1:8700" in script
    assert "sleep 3" in script
    assert "sanboot" in script


def test_the_first_script_asks_a_bounded_number_of_times() -> None:
    script = ipxe.entry(HEAD, tries=3, pause_s=1)
    assert (
        f"chain --autofree {HEAD}/boot/ipxe?mac=${{netX/mac:hexhyp}}&uuid=${{uuid}}&platform=${{platform}}"
        "&serial=${serial:uristring}&manufacturer=${manufacturer:uristring}&product=${product:uristring} ||" in script
    )
    assert "iseq ${tries} 3 && goto local ||" in script
    assert "chain disk.efi ||" in script


@pytest.mark.parametrize(
    "hostile",
    [
        "n001\nshell",
        "n001 || shell",
        "${shell}",
        "a;b",
        "a b",
        "a#b",
        "n001\r",
        "-n",
        "",
        "a..b",
        "näme",
        "a`b`",
        "a&b",
    ],
)
def test_hostile_node_names_are_refused(hostile: str) -> None:
    with pytest.raises(Refused, match="cannot be part of a boot answer"):
        ipxe.answer(install(node=hostile), head=HEAD)
    with pytest.raises(Refused, match="cannot be part of a boot answer"):
        ipxe.answer(ipxe.Local(hostile), head=HEAD)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token", "a b"),
        ("token", "a\nboot"),
        ("key", "xyz"),
        ("console", "ttyS0 init=/bin/sh"),
        ("kernel_cmdline", "a=${b}"),
        ("kernel_cmdline", "quiet || shell"),
        ("kernel_cmdline", "quiet ; shell"),
        ("kernel_cmdline", "# quiet"),
        ("kernel_cmdline", 'a="b c"'),
        ("root", ipxe.RamRoot(files="http://h/a b", root_sha256="00", root_bytes=1)),
        ("root", ipxe.RamRoot(files="tftp://h/a", root_sha256="00", root_bytes=1)),
        ("root", ipxe.RamRoot(files=HEAD, root_sha256="00\n", root_bytes=1)),
    ],
)
def test_hostile_values_are_refused(field: str, value: object) -> None:
    with pytest.raises(Refused, match="cannot be part of a boot answer") as caught:
        ipxe.answer(install(**{field: value}), head=HEAD)
    assert "letters, digits" in (caught.value.hint or "")


@pytest.mark.parametrize("mac", ["52:54:00:00:00:01\nshell", "52-54-00-00-00-01", "${net0/mac}"])
def test_hostile_macs_are_refused(mac: str) -> None:
    with pytest.raises(Refused, match="MAC"):
        ipxe.answer(ipxe.Unknown(mac), head=HEAD)


def test_a_line_too_long_for_kernels_is_refused_with_its_length() -> None:
    with pytest.raises(Refused, match=r"the kernel command line of n001 has \d+ bytes; 2000 fit"):
        ipxe.answer(install(kernel_cmdline=" ".join(["a" * 100] * 20)), head=HEAD)
