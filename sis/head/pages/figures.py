"""Pictures of what the cluster moves and how it drifts: bytes over time, drift by night, sizes of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.head import charts, images
from sis.head.charts import Chart, Series
from sis.head.pages.frame import Console
from sis.head.who import Actor
from sis.inventory.trends import Grain, Period
from sis.system.amounts import human_bytes

if TYPE_CHECKING:
    from sis.head.app import Head

HOURS, DAYS = 48, 30
GENERATIONS_SHOWN = 24


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    @app.get("/figures", include_in_schema=False)
    async def figures(request: Request, by: Annotated[str, Query(max_length=8)] = "day") -> Response:
        def work(_: Actor) -> dict[str, Any]:
            grain: Grain = "hour" if by == "hour" else "day"
            periods = head.inventory.trends.periods(grain, HOURS if grain == "hour" else DAYS)
            nights = periods if grain == "day" else head.inventory.trends.periods("day", DAYS)
            return {
                "command": f"sis figures --by {grain}",
                "by": grain,
                "pictures": [
                    moved(periods, grain),
                    rates(periods, grain),
                    drift(nights),
                    sizes(images.every_image(head.renders.store)),
                ],
                "since": head.inventory.stream.newest(),
                "totals": head.inventory.overview.counters(),
            }

        return await console.show(request, "figures.html", work)


def moved(periods: tuple[Period, ...], grain: Grain) -> tuple[str, str, Chart]:
    """Bytes that came over the wire, and those that need not."""
    fetched = sum(each.bytes_fetched for each in periods)
    saved = sum(each.bytes_local for each in periods)
    told = f"{human_bytes(fetched)} fetched, {human_bytes(saved)} taken from what nodes had"
    series = [
        Series("fetched", tuple(float(each.bytes_fetched) for each in periods), "busy"),
        Series("saved", tuple(float(each.bytes_local) for each in periods), "good"),
    ]
    return "Bytes moved and saved", told, charts.bars("Bytes moved", told, _labels(periods, grain), series, _bytes)


def rates(periods: tuple[Period, ...], grain: Grain) -> tuple[str, str, Chart]:
    """What a node fetched in a second of its work."""
    best = max((each.rate for each in periods), default=0.0)
    told = f"at best {_rate(best)} a node"
    series = Series("rate", tuple(each.rate for each in periods), "busy")
    return "Transfer rate of a node at work", told, charts.line("Rate", told, _labels(periods, grain), series, _rate)


def drift(nights: tuple[Period, ...]) -> tuple[str, str, Chart]:
    """Nodes found to differ, by day."""
    last = nights[-1] if nights else None
    told = f"{last.differing} of {last.nodes} nodes that reported today differed" if last else "nothing yet"
    series = [
        Series("differed", tuple(float(each.differing) for each in nights), "warn"),
        Series("in-sync", tuple(float(max(0, each.nodes - each.differing)) for each in nights), "good"),
    ]
    return "Drift by night", told, charts.bars("Drift", told, _labels(nights, "day"), series, _count)


def sizes(known: tuple[images.Image, ...]) -> tuple[str, str, Chart]:
    """The newest generations: what each added to the store, and what it holds besides."""
    rows = [each for image in known for each in image.generations][:GENERATIONS_SHOWN]
    number = sum(len(image.generations) for image in known)
    told = f"{number} generation{'' if number == 1 else 's'} of {len(known)} image{'' if len(known) == 1 else 's'}"
    series = [
        Series("stored anew", tuple(float(each.stored_bytes) for each in rows), "busy"),
        Series("shared", tuple(float(max(0, each.content_bytes - each.stored_bytes)) for each in rows), "good"),
    ]
    return "Sizes of images", told, charts.beside("Sizes", told, [each.name for each in rows], series, _bytes)


def _labels(periods: tuple[Period, ...], grain: Grain) -> list[str]:
    return [each.name[11:] + ":00" if grain == "hour" else each.name[5:] for each in periods]


def _bytes(value: float) -> str:
    return human_bytes(round(value))


def _rate(value: float) -> str:
    return f"{human_bytes(round(value))}/s"


def _count(value: float) -> str:
    return f"{value:g}"
