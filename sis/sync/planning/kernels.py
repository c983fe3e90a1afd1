"""Which kernel a path belongs to, and whose files stay although the desired tree has them not."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sis.sync.walk.remembered import Remembered

_KERNEL = re.compile(
    rb"boot/(?:vmlinu[xz]|initrd\.img|System\.map|config)-([^/]+)|boot/initramfs-([^/]+)\.img|(?:usr/)?lib/modules/([^/]+)(?:/.*)?",
    re.DOTALL,
)
_IMAGE_OF_KERNEL = re.compile(rb"boot/vmlinu[xz]-([^/]+)")


def kernels_of(paths: Iterable[bytes]) -> tuple[str, ...]:
    """The kernel releases that have an image (`boot/vmlinuz-<release>`) among `paths`, sorted."""
    found = (_IMAGE_OF_KERNEL.fullmatch(path) for path in paths if path.startswith(b"boot/"))
    return tuple(sorted(match[1].decode("utf-8", "surrogateescape") for match in found if match))


def kernel_of(path: bytes) -> str | None:
    """The kernel release a path belongs to by its name: image, initrd, map, configuration, modules."""
    match = _KERNEL.fullmatch(path)
    if match is None:
        return None
    release: bytes = match[1] or match[2] or match[3]
    return release.decode("utf-8", "surrogateescape")


def retained_of(kernels: tuple[str, ...], retain: frozenset[str], remembered: Remembered) -> frozenset[str]:
    """The releases to keep beside `kernels`: those in `retain`, and what earlier runs kept of the same kernels."""
    earlier = remembered.retained if kernels == remembered.kernels else ()
    return (retain | frozenset(earlier)) - frozenset(kernels)
