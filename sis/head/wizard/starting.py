"""The wizard's first pages: the whole way, and whether this machine can be a head."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from sis.head.who import Actor
from sis.head.wizard.frame import SpecName, Wizard


def add_routes(app: FastAPI, wizard: Wizard) -> None:
    console = wizard.console

    @app.get("/wizard", include_in_schema=False)
    async def way(request: Request, spec: SpecName = "") -> Response:
        def work(_: Actor) -> dict[str, Any]:
            return {
                **wizard.around("preflight", spec),
                "key": "",
                "before": None,
                "after": None,
                "command": "sis status",
            }

        return await console.show(request, "wizard/way.html", work)

    @app.get("/wizard/preflight", include_in_schema=False)
    async def preflight(request: Request, spec: SpecName = "") -> Response:
        def work(_: Actor) -> dict[str, Any]:
            around = wizard.around("preflight", spec, afresh=True)
            order = {"missing": 0, "warning": 1, "ok": 2}
            findings = sorted(around["survey"].findings, key=lambda each: order[each.verdict])
            packages = [each.remedy.split()[-1] for each in findings if each.remedy.startswith("apt-get install")]
            return {
                **around,
                "command": "sis doctor --all",
                "findings": findings,
                "install": "apt-get install " + " ".join(dict.fromkeys(packages)) if packages else "",
            }

        return await console.show(request, "wizard/preflight.html", work)
