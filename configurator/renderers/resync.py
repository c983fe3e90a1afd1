"""When the node makes itself equal to its image: every night as the image has it, every hour, or only when told."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.rendered import RenderedFile, symlink, text_file
from configurator.renderers import Context, renderer

NAME = "resync"
_TIMER = "/etc/systemd/system/sis-resync.timer"


@renderer(NAME, reads="resync", speaks=lambda footprint: footprint.init == "systemd", owns=(f"{_TIMER}.d/sis.conf",))
def resync(context: Context) -> Iterator[RenderedFile]:
    if context.record.resync == "hourly":
        lines = ["[Timer]", "OnCalendar=", "OnCalendar=hourly", "RandomizedDelaySec=10min"]
        yield text_file(f"{_TIMER}.d/sis.conf", NAME, lines)
    elif context.record.resync == "off":
        yield symlink(_TIMER, NAME, "/dev/null")
