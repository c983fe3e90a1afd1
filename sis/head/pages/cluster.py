"""The cluster map: a tile a node, by group, rack or state, live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.head.pages.frame import Console
from sis.head.pages.shown import LOOKS
from sis.head.who import Actor
from sis.inventory.names import natural_key
from sis.inventory.overview import Tile

if TYPE_CHECKING:
    from sis.head.app import Head

DENSE_ABOVE = 96
"""Groups of more nodes show letters only; names are a hover, a focus or a click away."""


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    inventory = head.inventory

    @app.get("/", include_in_schema=False)
    async def cluster_map(
        request: Request,
        by: Annotated[str, Query(max_length=16)] = "group",
        only: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            newest = inventory.stream.newest()
            tiles = inventory.overview.tiles()
            shown = [tile for tile in tiles if fits(tile, only)]
            return {
                "command": "sis status --watch",
                "groups": grouped(shown, by),
                "by": by,
                "only": only,
                "shown": len(shown),
                "total": len(tiles),
                "counts": Counter(tile.state for tile in tiles),
                "since": newest,
                "strangers": inventory.discoveries.list(),
                "cluster": inventory.settings.get("cluster", ""),
                "dense_above": DENSE_ABOVE,
            }

        return await console.show(request, "map.html", work)


def fits(tile: Tile, only: str) -> bool:
    """Whether a node has the text in its name, or its state begins with it."""
    wanted = only.strip().lower()
    return wanted in tile.name or tile.state.startswith(wanted)


def grouped(tiles: Sequence[Tile], by: str) -> list[tuple[str, list[Tile]]]:
    """Tiles under a heading each: their first group, their group rack…, or their state (troubled ones first)."""
    found: dict[str, list[Tile]] = {}
    if by == "state":
        for state in LOOKS:
            found[state] = [tile for tile in tiles if tile.state == state]
        return [(name, members) for name, members in found.items() if members]
    for tile in tiles:
        groups = [group for group in tile.groups if group.startswith("rack")] if by == "rack" else tile.groups
        found.setdefault(groups[0] if groups else "", []).append(tile)
    return sorted(found.items(), key=lambda each: (not each[0], natural_key(each[0])))
