"""`/metrics`: the cluster in Prometheus' text format, from a few small queries."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from anyio import to_thread
from fastapi import FastAPI, Request
from starlette.responses import Response

from sis import __version__
from sis.errors import SisError
from sis.head import openapi
from sis.head.answers import fault, status_of
from sis.inventory.db import Inventory
from sis.wire import State

if TYPE_CHECKING:
    from sis.head.app import Head

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]


def add_routes(app: FastAPI, head: Head) -> None:
    @app.get("/metrics", tags=["admin"], response_class=Response, **openapi.metrics())
    async def metrics(request: Request) -> Response:
        """The cluster for Prometheus. Give it a token of role view (`authorization: credentials_file:`)."""
        await head.gate.require(request, "view")
        try:
            text = await to_thread.run_sync(lambda: _now(head))
        except SisError as error:
            return fault(status_of(error), str(error))
        return Response(text, headers={"content-type": CONTENT_TYPE, "cache-control": "no-store"})


def _now(head: Head) -> str:
    admission = head.admission
    return exposition(
        head.inventory, listeners=head.live.listeners, transfers=admission.active, refused=admission.refused
    )


def exposition(inventory: Inventory, *, listeners: int = 0, transfers: int = 0, refused: int = 0) -> str:
    """Every metric as text. Names and meanings are in docs/web.md."""
    tiles = inventory.overview.tiles()
    states = Counter(tile.state for tile in tiles)
    reports = inventory.overview.last_reports()
    counters = inventory.overview.counters()
    families = [
        _family("sis_build_info", "gauge", "The head's version.", [({"version": __version__}, 1)]),
        _family(
            "sis_nodes", "gauge", "Nodes by state.", [({"state": state}, states[state]) for state in get_args(State)]
        ),
        _family("sis_drifted_paths", "gauge", "Paths that differ.", [({}, sum(tile.drift for tile in tiles))]),
        _family(
            "sis_node_drifted_paths",
            "gauge",
            "Paths of a node that differ; nodes without any are left out.",
            [({"node": tile.name}, tile.drift) for tile in tiles if tile.drift],
        ),
        _family(
            "sis_node_last_report_timestamp_seconds",
            "gauge",
            "When a node last reported an install, a sync or a check.",
            [({"node": node}, _epoch(received)) for node, received in reports.items()],
        ),
        _family("sis_nodes_never_reported", "gauge", "Nodes that never reported.", [({}, len(tiles) - len(reports))]),
        *_counted(counters),
        _family("sis_stream_last_id", "counter", "Rows of the event stream so far.", [({}, inventory.stream.newest())]),
        _family("sis_transfers", "gauge", "Machines that fetch packs, deltas or roots now.", [({}, transfers)]),
        _family("sis_transfers_refused_total", "counter", "Requests told to come back later.", [({}, refused)]),
        _family("sis_stream_listeners", "gauge", "Who follows the event stream now.", [({}, listeners)]),
        _family(
            "sis_discovered_machines",
            "gauge",
            "Machines that asked for a boot answer and are no one's.",
            [({}, len(inventory.discoveries.list()))],
        ),
        _family("process_resident_memory_bytes", "gauge", "Memory of the head.", [({}, _resident_bytes())]),
    ]
    return "".join(families)


def _counted(counters: Mapping[str, int]) -> Iterable[str]:
    moved = [({"from": where}, counters.get(f"bytes_{where}", 0)) for where in ("fetched", "local")]
    yield _family(
        "sis_moved_bytes_total", "counter", "Bytes nodes fetched, and those they took from what they had.", moved
    )
    written: list[Sample] = [({}, counters.get("bytes_written", 0))]
    yield _family("sis_written_bytes_total", "counter", "Bytes nodes wrote.", written)
    reports: list[Sample] = []
    for name, value in sorted(counters.items()):
        if name.startswith("reports_"):
            kind, outcome = name.removeprefix("reports_").split("_")
            reports.append(({"kind": kind, "outcome": outcome}, value))
    yield _family("sis_reports_total", "counter", "Reports by kind and outcome.", reports)
    events: list[Sample] = [
        ({"outcome": name.removeprefix("events_")}, value)
        for name, value in sorted(counters.items())
        if name.startswith("events_")
    ]
    yield _family("sis_events_total", "counter", "Events of nodes by outcome.", events)


def _family(name: str, kind: Literal["gauge", "counter"], about: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{pairs}}} {value!r}" if pairs else f"{name} {value!r}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _epoch(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
