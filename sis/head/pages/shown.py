"""How values look on pages: states by letter and colour, times, and text of nodes made harmless."""

from __future__ import annotations

import json
import re
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, get_args

from sis.inventory.admins import may
from sis.inventory.clock import age
from sis.inventory.stream import KINDS
from sis.system.amounts import human_bytes
from sis.wire import State

if TYPE_CHECKING:
    import jinja2

LOOKS: dict[State, tuple[str, str]] = {
    "failed": ("F", "bad"),
    "quarantined": ("Q", "bad"),
    "drifted": ("D", "warn"),
    "armed": ("A", "busy"),
    "netbooted": ("N", "busy"),
    "partitioning": ("P", "busy"),
    "pulling": ("L", "busy"),
    "rendering": ("R", "busy"),
    "bootloader": ("B", "busy"),
    "rebooting": ("O", "busy"),
    "syncing": ("Y", "busy"),
    "in-sync": ("S", "good"),
    "maintenance": ("M", "idle"),
    "defined": ("–", "idle"),
    "discovered": ("?", "idle"),
    "unknown": ("U", "idle"),
}
"""The letter and the colour of each state, in the order the legend has them."""

NAVIGATION = (
    ("/", "Cluster", "view"),
    ("/images", "Images", "view"),
    ("/rollouts", "Rollouts", "view"),
    ("/drift", "Drift", "view"),
    ("/figures", "Figures", "view"),
    ("/events", "Events", "view"),
    ("/wizard", "Wizard", "view"),
    ("/audit", "Audit", "admin"),
    ("/settings", "Settings", "admin"),
)
"""The pages of the head line: path, name, and the least role that sees it."""

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def readable(text: str) -> str:
    """A log as plain text: colours and cursor movements gone, other control characters shown as \\x.."""
    if text.isprintable():
        return text
    plain = _ANSI.sub("", text.replace("\r\n", "\n"))
    return "".join(char if char in "\n\t" or char.isprintable() else f"\\x{ord(char):02x}" for char in plain)


def moment(time: str | None) -> str:
    """A time as the console shows it: 2026-01-31 12:00:05 (UTC)."""
    return time[:19].replace("T", " ") if time else ""


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Templates out of the package: what they show is escaped, a name that is not there is a fault."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("sis.head"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        age=age, bytes=human_bytes, moment=moment, json=partial(json.dumps, indent=2, ensure_ascii=False)
    )
    made.globals.update(LOOKS=LOOKS, STATES=get_args(State), NAVIGATION=NAVIGATION, KINDS=KINDS, may=may)
    return made


def _shown(value: Any) -> Any:
    """Every value on its way into a page: control characters are seen, not obeyed. Markup is the templates' own."""
    return readable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
