"""When the node makes itself equal to its image: every night or in its windows, every hour, or only when told."""

from __future__ import annotations

from collections.abc import Iterator

from configurator import windows
from configurator.rendered import RenderedFile, symlink, text_file
from configurator.renderers import Context, renderer

NAME = "resync"
_TIMER = "/etc/systemd/system/sis-resync.timer"


@renderer(
    NAME,
    reads="resync windows",
    speaks=lambda footprint: footprint.init == "systemd",
    owns=(f"{_TIMER}.d/sis.conf",),
)
def resync(context: Context) -> Iterator[RenderedFile]:
    if context.record.resync == "nightly" and context.record.windows:
        openings = windows.on_calendar(context.record.windows)
        # Spread over half of the shortest window, so that each node still has the other half for its work.
        spread = min(60, min(minutes for _, minutes in openings) // 2)
        lines = ["[Timer]", "OnCalendar=", *(f"OnCalendar={opening}" for opening, _ in openings)]
        yield text_file(f"{_TIMER}.d/sis.conf", NAME, [*lines, f"RandomizedDelaySec={spread}min", "Persistent=false"])
    elif context.record.resync == "hourly":
        lines = ["[Timer]", "OnCalendar=", "OnCalendar=hourly", "RandomizedDelaySec=10min"]
        yield text_file(f"{_TIMER}.d/sis.conf", NAME, lines)
    elif context.record.resync == "off":
        yield symlink(_TIMER, NAME, "/dev/null")
