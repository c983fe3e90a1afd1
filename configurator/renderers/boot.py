"""Boot entries where the tree reads them from files: Boot Loader Specification, systemd-boot, extlinux."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import NamedTuple

from configurator.errors import NotRenderable
from configurator.footprint import Footprint
from configurator.hardware import default_kernel
from configurator.kernel import command_line
from configurator.record import Boot, Record
from configurator.rendered import RenderedFile, text_file
from configurator.renderers import Context, renderer
from configurator.templating import from_template

NAME = "boot"
_ONE_WORD = re.compile(r"[A-Za-z0-9/=:._+,@-]+", re.ASCII)


class Entry(NamedTuple):
    """One kernel as boot loaders see it: paths from the file system that holds /boot."""

    release: str
    linux: str
    initrd: str
    options: str


@renderer(
    NAME,
    reads="boot id kerrighed mounts",
    speaks=lambda footprint: bool(footprint.boot),
    owns=("/boot/loader/entries/sis-*.conf",),
)
def boot(context: Context) -> Iterator[RenderedFile]:
    record, footprint = context.record, context.footprint
    wanted = record.boot
    if wanted is None:
        return
    entries = [*_entries(record, wanted, footprint)]
    if not entries:
        return
    default = default_kernel(record, footprint)
    release = default.release if default is not None else entries[0].release
    if "bls" in footprint.boot or "systemd-boot" in footprint.boot:
        for entry in entries:
            path = f"/boot/loader/entries/sis-{entry.release}.conf"
            yield from_template(path, NAME, "boot/entry.j2", {"entry": entry})
    if "systemd-boot" in footprint.boot:
        yield text_file(
            "/boot/loader/loader.conf", NAME, [f"default sis-{release}.conf", f"timeout {wanted.timeout_s}"]
        )
    if "extlinux" in footprint.boot:
        values = {"entries": entries, "default": release, "timeout": wanted.timeout_s * 10}
        yield from_template("/boot/extlinux/extlinux.conf", NAME, "boot/extlinux.conf.j2", values)


def _entries(record: Record, wanted: Boot, footprint: Footprint) -> Iterator[Entry]:
    """The default kernel first, then the others, the newest first."""
    kernels = [kernel for kernel in reversed(footprint.kernels) if kernel.image]
    releases = [kernel.release for kernel in kernels]
    if wanted.kernel is not None and wanted.kernel not in releases:
        near = difflib.get_close_matches(wanted.kernel, releases, n=1)
        raise NotRenderable(
            f"record.boot.kernel: the image has no kernel {wanted.kernel}, only {', '.join(releases) or 'none'}",
            hint=f"did you mean {near[0]}?" if near else None,
        )
    options = " ".join(_options(record))
    separate = any(mount.path == "/boot" for mount in record.mounts)
    for kernel in sorted(kernels, key=lambda kernel: kernel.release != wanted.kernel):
        linux, initrd = (path.removeprefix("/boot") if separate else path for path in (kernel.image, kernel.initrd))
        yield Entry(kernel.release, linux, initrd, options)


def _options(record: Record) -> list[str]:
    words = [*command_line(record)]
    if any(word.startswith("root=") for word in words):
        return words
    for at, mount in enumerate(record.mounts):
        if mount.path == "/":
            if not _ONE_WORD.fullmatch(mount.source):
                raise NotRenderable(f"record.mounts[{at}].source: cannot be said on a kernel's command line")
            return [f"root={mount.source}", *([] if {"ro", "rw"} & {*words} else ["ro"]), *words]
    raise NotRenderable(
        "record.boot: nothing is mounted at / and the parameters have no root=",
        hint="give the node a disk layout, or root= among its parameters",
    )
