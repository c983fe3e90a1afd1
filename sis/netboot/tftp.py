"""The files dnsmasq runs from: boot loaders and the entry script below STATE/run, its configuration and its leases."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from sis.errors import NotFound
from sis.netboot import dnsmasq, ipxe, ports
from sis.system import files, process

LOADER_FOLDER = Path("/usr/lib/ipxe")

# The script runs line by line without conditions: a line that fails prints why, and the next one runs.
_DISK_MODULES = ("part_gpt", "part_msdos", "fat", "search", "search_fs_file", "chain", "echo", "sleep", "boot")
_DISK_SCRIPT = """\
search --no-floppy --set=root --file /EFI/BOOT/BOOTX64.EFI
echo sis: starting /EFI/BOOT/BOOTX64.EFI of $root
chainloader /EFI/BOOT/BOOTX64.EFI
boot
echo sis: no disk of this machine could be started
sleep 5
exit
"""


def prepare(
    state: Path,
    network: dnsmasq.BootNetwork,
    leases: Iterable[dnsmasq.Lease],
    *,
    head: str,
    loaders: Path = LOADER_FOLDER,
) -> tuple[str, ...]:
    """Write everything dnsmasq needs below STATE/run and return the command that runs it in the foreground.

    The boot loaders lie in STATE/run/tftp, from where the head serves them as /boot/loader/<name> too (UEFI HTTP boot).
    Raises NotFound without Debian's iPXE; SpecInvalid when network or leases are wrong.
    """
    run = (state / "run").absolute()
    served = run / "tftp"
    served.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in dnsmasq.LOADERS:
        source = loaders / name
        if not source.is_file():
            raise NotFound(f"boot loader {source} is missing", hint="apt-get install ipxe")
        _replace(served / name, source.read_bytes())
    _replace(served / ipxe.DISK_LOADER, _disk_loader())
    _replace(served / ipxe.ENTRY_NAME, ipxe.entry(head).encode())
    told = run / ports.FOLDER
    told.mkdir(mode=0o700, exist_ok=True)
    lease_script = run / ports.SCRIPT_NAME
    files.atomic_write(lease_script, ports.script(told).encode(), mode=0o755)
    text = dnsmasq.configuration(network, head=head, run=run, account=_account(served))
    _replace(run / "dnsmasq.conf", text.encode())
    write_hosts(state, leases)
    return ("dnsmasq", f"--conf-file={run}/dnsmasq.conf")


def write_hosts(state: Path, leases: Iterable[dnsmasq.Lease]) -> None:
    """Replace STATE/run/dnsmasq.hosts; a running dnsmasq reads it again on SIGHUP."""
    _replace(state / "run" / "dnsmasq.hosts", dnsmasq.hosts(leases).encode())


def loader(state: Path, name: str) -> Path:
    """The boot loader or entry script `name` as the head serves it. Raises NotFound for any other name."""
    known = (*dnsmasq.LOADERS, ipxe.DISK_LOADER, ipxe.ENTRY_NAME)
    path = state / "run" / "tftp" / name
    if name not in known or not path.is_file():
        raise NotFound.of("boot loader", name, known)
    return path


def _disk_loader() -> bytes:
    """A GRUB that finds the removable-path boot loader on a disk of this machine and starts it."""
    with tempfile.TemporaryDirectory(prefix="sis-disk-loader-") as folder:
        script, made = Path(folder, "grub.cfg"), Path(folder, "disk.efi")
        script.write_text(_DISK_SCRIPT)
        argv = ["grub-mkimage", "-O", "x86_64-efi", "-p", "/", "-c", str(script), "-o", str(made)]
        process.run([*argv, *_DISK_MODULES])
        return made.read_bytes()


def _account(served: Path) -> str:
    """`nobody` where every folder above the served files lets strangers pass, else root: dnsmasq opens them late."""
    open_to_all = all(folder.stat().st_mode & 0o001 for folder in (served, *served.parents))
    return "nobody" if open_to_all else "root"


def _replace(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        files.atomic_write(path, content)
