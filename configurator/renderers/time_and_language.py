"""Time zone, the clock's servers, locale and keyboard."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from configurator.errors import NotRenderable
from configurator.rendered import RenderedFile, plain_file, symlink, text_file
from configurator.renderers import Context, renderer
from configurator.templating import from_template


@renderer("timezone", reads="timezone")
def timezone(context: Context) -> Iterator[RenderedFile]:
    zone, zones = context.record.timezone, context.footprint.zones
    if zones and zone not in zones:
        near = difflib.get_close_matches(zone, zones, n=1, cutoff=0.7)
        raise NotRenderable(
            f"record.timezone: the image has no time zone {zone}",
            hint=f"did you mean {near[0]}?" if near else "see /usr/share/zoneinfo in the image",
        )
    yield symlink("/etc/localtime", "timezone", f"/usr/share/zoneinfo/{zone}")
    if context.footprint.timezone_file:
        yield plain_file("/etc/timezone", "timezone", [zone])


@renderer(
    "time_servers",
    reads="time_servers",
    speaks=lambda footprint: footprint.time != "none",
    owns=("/etc/systemd/timesyncd.conf.d/sis.conf",),
)
def time_servers(context: Context) -> Iterator[RenderedFile]:
    servers = context.record.time_servers
    if not servers:
        return
    if context.footprint.time == "chrony":
        path = context.footprint.chrony_conf
        yield from_template(path, "time_servers", "time_servers/chrony.conf.j2", {"servers": servers})
    else:
        lines = ["[Time]", f"NTP={' '.join(servers)}", "FallbackNTP="]
        yield text_file("/etc/systemd/timesyncd.conf.d/sis.conf", "time_servers", lines)


@renderer("locale", reads="locale", speaks=lambda footprint: footprint.locale_file != "")
def locale(context: Context) -> Iterator[RenderedFile]:
    if context.record.locale is not None:
        yield text_file(context.footprint.locale_file, "locale", [f"LANG={context.record.locale}"])


@renderer("keyboard", reads="keyboard", speaks=lambda footprint: footprint.keyboard != "none")
def keyboard(context: Context) -> Iterator[RenderedFile]:
    wanted = context.record.keyboard
    if wanted is None:
        return
    if context.footprint.keyboard == "vconsole":
        yield text_file("/etc/vconsole.conf", "keyboard", [f'KEYMAP="{wanted.keymap or wanted.layout}"'])
        return
    lines = [
        f'XKBMODEL="{wanted.model}"',
        f'XKBLAYOUT="{wanted.layout}"',
        f'XKBVARIANT="{wanted.variant}"',
        f'XKBOPTIONS="{wanted.options}"',
        'BACKSPACE="guess"',
    ]
    lines.extend([f'KMAP="{wanted.keymap}"'] if wanted.keymap else [])
    yield text_file("/etc/default/keyboard", "keyboard", lines)
