"""The web console: pages made on the head from the same values the API gives; each shows the command that does it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args
from urllib.parse import parse_qs, urlencode

from anyio import to_thread
from fastapi import FastAPI, Query, Request
from starlette.responses import RedirectResponse, Response

from sis import __version__
from sis.errors import SisError, UsageFault
from sis.head import acts, images, installs, views
from sis.head.admin import LARGEST_ID
from sis.head.answers import raw_body, status_of
from sis.head.files import EACH_TIME, FileResponse
from sis.head.who import COOKIE, Actor, Rejected, rejection, same_token
from sis.inventory.admins import SESSION_LIFE_S, may
from sis.inventory.clock import age
from sis.inventory.drift import fold_changes
from sis.inventory.model import Node, Role
from sis.inventory.names import fold
from sis.inventory.overview import Tile
from sis.inventory.stream import KINDS
from sis.system.amounts import human_bytes
from sis.wire import State

if TYPE_CHECKING:
    import jinja2

    from sis.head.app import Head

FORM_LIMIT_BYTES = 64 << 10
EVENTS_SHOWN = 200
PATHS_SHOWN = 500
CHANGES_SHOWN = 500
DENSE_ABOVE = 96
"""Groups of more nodes show letters only; names are a hover, a focus or a click away."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}

LOOKS: dict[State, tuple[str, str]] = {
    "failed": ("F", "bad"),
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

ACTIONS = {
    "check": ("Check", "sis sync {nodes} -n"),
    "sync": ("Sync", "sis sync {nodes}"),
    "full": ("Sync, reading every byte", "sis sync {nodes} --full"),
    "deploy": ("Install", "sis deploy {nodes}"),
    "cancel": ("Take arming back", "sis deploy {nodes} --cancel"),
}
"""What may be done to nodes: its name, and the command that does the same."""

_STATIC = ("sis.css", "sis.js", "icon.svg")
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")

Id = Annotated[int | None, Query(ge=1, le=LARGEST_ID)]
NodeSet = Annotated[str, Query(max_length=48_000)]


def add_routes(app: FastAPI, head: Head) -> None:
    console = Console(head)

    @app.exception_handler(Rejected)
    async def rejected(request: Request, error: Exception) -> Response:
        assert isinstance(error, Rejected)
        if request.url.path.startswith(("/api/", "/metrics")):
            return rejection(error)
        if error.status == 401:
            return console.page("login.html", None, status=401)
        return console.fault(None, error.status, "Not allowed", error.detail)

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        """Style, script and icon of the console, out of the package."""
        if name not in _STATIC:
            return Response(status_code=404)
        return FileResponse(_STATIC_FOLDER, (name,), cache=EACH_TIME, kind=_KINDS[name.rpartition(".")[2]])

    _doors(app, head, console)
    _pages(app, head, console)
    _doing(app, head, console)


class Console:
    """Makes pages, for whoever may see them."""

    def __init__(self, head: Head) -> None:
        self._head = head

    def page(self, template: str, actor: Actor | None, *, status: int = 200, **values: Any) -> Response:
        text = environment().get_template(template).render(actor=actor, version=__version__, **values)
        return Response(text, status, media_type="text/html", headers=HEADERS)

    def fault(self, actor: Actor | None, status: int, title: str, reason: str) -> Response:
        return self.page("fault.html", actor, status=status, title=title, reason=reason)

    async def show(
        self, request: Request, template: str, work: Callable[[Actor], dict[str, Any]], *, role: Role = "view"
    ) -> Response:
        """A page of what `work`, run in a thread, finds. Without a session: how to get one."""
        actor = await self._head.gate.actor(request)
        if actor is None:
            return self.page("login.html", None, status=401)
        if not may(actor.role, role):
            return self.fault(actor, 403, "Not for this role", f"It needs the role {role}; yours is {actor.role}.")
        try:
            values = await to_thread.run_sync(work, actor)
            return await to_thread.run_sync(lambda: self.page(template, actor, **values))
        except SisError as error:
            return self.fault(actor, status_of(error), "That cannot be shown", str(error))


def _doors(app: FastAPI, head: Head, console: Console) -> None:
    @app.get("/login", include_in_schema=False)
    async def login(request: Request, code: Annotated[str, Query(max_length=128)] = "") -> Response:
        """Open a session with a code of `sis web login`, which is spent by it."""
        session = await to_thread.run_sync(head.inventory.admins.log_in, code) if code else None
        if session is None:
            return console.page("login.html", None, status=401, spent=bool(code))
        answer = console.page("welcome.html", None)
        answer.set_cookie(
            COOKIE,
            session,
            max_age=SESSION_LIFE_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    @app.post("/logout", include_in_schema=False)
    async def logout(request: Request) -> Response:
        actor, _ = await _form(request, head, "view", "logout")
        await to_thread.run_sync(head.inventory.admins.log_out, actor.session)
        answer = console.page("login.html", None)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer


def _pages(app: FastAPI, head: Head, console: Console) -> None:
    inventory = head.inventory

    @app.get("/", include_in_schema=False)
    async def cluster_map(request: Request, by: Annotated[str, Query(max_length=16)] = "group") -> Response:
        def work(_: Actor) -> dict[str, Any]:
            newest = inventory.stream.newest()
            tiles = inventory.overview.tiles()
            return {
                "command": "sis status --watch",
                "groups": grouped(tiles, by),
                "by": by,
                "total": len(tiles),
                "counts": Counter(tile.state for tile in tiles),
                "since": newest,
                "strangers": inventory.discoveries.list(),
                "cluster": inventory.settings.get("cluster", ""),
                "dense_above": DENSE_ABOVE,
            }

        return await console.show(request, "map.html", work)

    @app.get("/nodes/{name}", include_in_schema=False)
    async def node(request: Request, name: str, did: Annotated[str, Query(max_length=16)] = "") -> Response:
        def work(_: Actor) -> dict[str, Any]:
            since = inventory.stream.newest()
            found = inventory.nodes.get(name)
            reports = inventory.history.reports(name, 10)
            drift = inventory.overview.changes_of_drifted().get(name, ()) if found.state.drift else ()
            return {
                "command": f"sis node show {name}",
                "node": found,
                "row": views.node_row(found),
                "facts": inventory.history.facts(found.id) or {},
                "events": inventory.history.events(name, limit=100)[::-1],
                "reports": reports,
                "drift": fold_changes({name: drift[:CHANGES_SHOWN]}) if drift else (),
                "layer": layer_of(head, found),
                "since": since,
                "did": ACTIONS.get(did),
            }

        return await console.show(request, "node.html", work)

    @app.get("/images", include_in_schema=False)
    async def all_images(request: Request) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            return {
                "command": "sis image list",
                "images": images.every_image(head.renders.store),
                "since": inventory.stream.newest(),
            }

        return await console.show(request, "images.html", work)

    @app.get("/images/{name}", include_in_schema=False)
    async def image(
        request: Request,
        name: str,
        before: Annotated[str, Query(max_length=64)] = "",
        after: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            found = images.one_image(head.renders.store, name)
            command, difference = f"sis image list {name}", None
            if before and after:
                old, new = f"{name}@{before}", f"{name}@{after}"
                command = f"sis image diff {old} {new}"
                difference = images.difference(head.renders.store, old, new, most_paths=PATHS_SHOWN)
            return {
                "command": command,
                "image": found,
                "difference": difference,
                "before": before,
                "after": after,
                "since": inventory.stream.newest(),
            }

        return await console.show(request, "image.html", work)

    @app.get("/drift", include_in_schema=False)
    async def drift(request: Request) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            since = inventory.stream.newest()
            changes = inventory.overview.changes_of_drifted()
            folded = fold_changes(changes)
            return {
                "command": "sis drift",
                "nodes": fold(changes) if changes else "",
                "count": len(changes),
                "changes": folded[:CHANGES_SHOWN],
                "left_out": max(0, len(folded) - CHANGES_SHOWN),
                "since": since,
            }

        return await console.show(request, "drift.html", work)

    @app.get("/events", include_in_schema=False)
    async def events(
        request: Request,
        kind: Annotated[str, Query(max_length=16)] = "",
        node: Annotated[str, Query(max_length=63)] = "",
        did: Annotated[str, Query(max_length=16)] = "",
    ) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            kinds = (kind,) if kind in KINDS else ()
            filters = (f" --node {node}" if node else "") + (f" --kind {kind}" if kinds else "")
            if node:
                inventory.nodes.get(node)
            rows = inventory.stream.last(EVENTS_SHOWN, node=node or None, kinds=kinds)
            return {
                "command": f"sis events --follow{filters}",
                "events": rows[::-1],
                "kinds": KINDS,
                "kind": kind if kinds else "",
                "node": node,
                "since": rows[-1].id if rows else inventory.stream.newest(),
                "did": ACTIONS.get(did),
            }

        return await console.show(request, "events.html", work)

    @app.get("/audit", include_in_schema=False)
    async def audit(request: Request, before: Id = None) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            entries = inventory.audit.last(EVENTS_SHOWN, before=before)
            older = entries[-1].id if len(entries) == EVENTS_SHOWN else None
            return {"command": "sis audit", "entries": entries, "older": older}

        return await console.show(request, "audit.html", work, role="admin")


def _doing(app: FastAPI, head: Head, console: Console) -> None:
    @app.get("/ask", include_in_schema=False)
    async def ask(request: Request, do: Annotated[str, Query(max_length=16)] = "", nodeset: NodeSet = "") -> Response:
        """What an action would do, to how many nodes: asked before it is done."""

        def work(_: Actor) -> dict[str, Any]:
            if do not in ACTIONS:
                raise UsageFault(f"no such action: {do}", hint=f"there is: {', '.join(ACTIONS)}")
            nodes = head.inventory.nodes.select(nodeset)
            folded = fold(node.name for node in nodes)
            planned: Sequence[installs.Install] = ()
            if do == "deploy":
                planned = installs.plan(head.state, head.renders, nodes)
            return {
                "command": ACTIONS[do][1].format(nodes=folded),
                "do": do,
                "title": ACTIONS[do][0],
                "nodes": folded,
                "count": len(nodes),
                "planned": _alike(planned),
                "describe": installs.describe_layout,
            }

        return await console.show(request, "ask.html", work, role="operate")

    @app.post("/do", include_in_schema=False)
    async def do(request: Request) -> Response:
        """Do it, when the node set still has as many nodes as were shown."""
        actor, form = await _form(request, head, "operate", "do")
        action, nodeset = form.get("do", ""), form.get("nodeset", "")
        foreign = form.get("foreign") == "yes"

        def work() -> tuple[Node, ...]:
            if action not in ACTIONS:
                raise UsageFault(f"no such action: {action[:16]}", hint=f"there is: {', '.join(ACTIONS)}")
            nodes = head.inventory.nodes.select(nodeset)
            if form.get("count", str(len(nodes))) != str(len(nodes)):
                raise UsageFault(
                    f"{nodeset} has {len(nodes)} nodes now, not {form['count']}", hint="someone changed it; look again"
                )
            _perform(head, action, nodeset, foreign=foreign)
            return nodes

        try:
            nodes = await head.gate.audited(actor, f"console {action}", nodeset, work)
        except SisError as error:
            return console.fault(actor, status_of(error), "Nothing was done", str(error))
        where = f"/nodes/{nodes[0].name}" if len(nodes) == 1 else "/events"
        return RedirectResponse(f"{where}?{urlencode({'did': action})}", 303, headers=HEADERS)

    @app.post("/images/{name}/channels", include_in_schema=False)
    async def channels(request: Request, name: str) -> Response:
        """Point a channel at a generation, or back at what it named before."""
        actor, form = await _form(request, head, "admin", "publish")
        channel, number = form.get("channel", ""), form.get("generation", "")
        target = f"{name}@{channel} → " + (number or "before")

        def work() -> views.Published:
            if number and not (number.isascii() and number.isdecimal()):
                raise UsageFault(f"not a generation: {number[:16]}")
            return acts.publish(head.renders.store, name, channel, int(number) if number else None)

        try:
            await head.gate.audited(actor, "console publish" if number else "console rollback", target, work)
        except SisError as error:
            return console.fault(actor, status_of(error), "The channel was not moved", str(error))
        return RedirectResponse(f"/images/{name}", 303, headers=HEADERS)


async def _form(request: Request, head: Head, role: Role, action: str) -> tuple[Actor, dict[str, str]]:
    """The session's actor and the form's fields. Raises Rejected: no session, a small role, or another site's form."""
    raw = await raw_body(request, FORM_LIMIT_BYTES)
    actor = await head.gate.require(request, role, action=action)
    if actor.via != "session":
        raise Rejected(403, "forms are for sessions; a program uses the API")
    fields = parse_qs(raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=32)
    form = {name: values[-1] for name, values in fields.items()}
    elsewhere = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if elsewhere or not same_token(form.pop("csrf", ""), actor.csrf):
        await head.gate.refused(actor, action, "form of another site or session")
        raise Rejected(403, "this form is not of your session; load the page again")
    return actor, form


def _perform(head: Head, action: str, nodeset: str, *, foreign: bool) -> None:
    match action:
        case "deploy":
            acts.deploy(head.state, head.inventory, head.renders, nodeset, allow_foreign_disk=foreign, dry_run=False)
        case "cancel":
            acts.cancel(head.inventory, nodeset)
        case "check":
            acts.order(head.inventory, nodeset, "check", full=False)
        case _:
            acts.order(head.inventory, nodeset, "sync", full=action == "full")


def grouped(tiles: Sequence[Tile], by: str) -> list[tuple[str, list[Tile]]]:
    """Tiles under a heading each: their first group, or their state (troubled ones first)."""
    found: dict[str, list[Tile]] = {}
    if by == "state":
        for state in LOOKS:
            found[state] = [tile for tile in tiles if tile.state == state]
        return [(name, members) for name, members in found.items() if members]
    for tile in tiles:
        found.setdefault(tile.groups[0] if tile.groups else "", []).append(tile)
    return sorted(found.items(), key=lambda each: (not each[0], each[0]))


def layer_of(head: Head, node: Node) -> dict[str, Any]:
    """The node's own files, where each comes from; or why they cannot be told. Contents are for the command line."""
    try:
        image = head.renders.image(node)
        layout = head.renders.layout(node, image.version)
        return {"files": head.renders.layer(node, image.version, image.version_id, layout), "fault": ""}
    except SisError as fault:
        return {"files": (), "fault": fault.message}


def readable(text: str) -> str:
    """A log as plain text: colours and cursor movements gone, other control characters shown as \\x.."""
    if text.isprintable():
        return text
    plain = _ANSI.sub("", text.replace("\r\n", "\n"))
    return "".join(char if char in "\n\t" or char.isprintable() else f"\\x{ord(char):02x}" for char in plain)


def moment(time: str | None) -> str:
    """A time as the console shows it: 2026-01-31 12:00:05 (UTC)."""
    return time[:19].replace("T", " ") if time else ""


def _alike(planned: Sequence[installs.Install]) -> list[tuple[str, installs.Install]]:
    """Installs that are the same, under their node set."""
    found: dict[tuple[str, str, str], list[installs.Install]] = {}
    for each in planned:
        found.setdefault((each.image, each.version, each.layout.name), []).append(each)
    return [(fold(each.node.name for each in alike), alike[0]) for alike in found.values()]


def _shown(value: Any) -> Any:
    """Every value on its way into a page: control characters are seen, not obeyed. Markup is the templates' own."""
    return readable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


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
    made.globals.update(LOOKS=LOOKS, STATES=get_args(State), may=may)
    return made


_STATIC_FOLDER = Path(str(files("sis.head"))) / "static"
_KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
