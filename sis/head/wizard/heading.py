"""The wizard's head: the cluster's name, the network nodes are on, and DHCP and TFTP on and off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.errors import SisError, SpecInvalid, UsageFault
from sis.head import netboot, schema_forms
from sis.head.answers import status_of
from sis.head.netboot import Wanted
from sis.head.schema_forms import Field, Section
from sis.head.specs import Changed, version_of
from sis.head.who import Actor
from sis.head.wizard.frame import SpecName, Wizard
from sis.head.wizard.survey import serving
from sis.inventory.cluster import network_of
from sis.inventory.model import Network
from sis.spec import cluster, edit, schema

FIRST = "mgmt"
"""The name a first network is offered."""


def add_routes(app: FastAPI, wizard: Wizard) -> None:
    head, console = wizard.head, wizard.console
    inventory = head.inventory

    def page(
        spec: str,
        chosen: str = "",
        typed: Mapping[str, str] | None = None,
        fault: SisError | None = None,
        note: str = "",
    ) -> dict[str, Any]:
        around = wizard.around("head", spec)
        networks = {network.name: network for network in inventory.networks.list()}
        name = chosen or next(iter(networks), FIRST)
        network = networks.get(name)
        known = netboot.interfaces()
        values = as_written(network) if network is not None else suggested(known)
        faults = _faults(fault, name) if isinstance(fault, SpecInvalid) else []
        made, left = schema_forms.filled(sections(), values, typed=typed, faults=faults)
        up, told = serving(head)
        fitting = [
            interface
            for interface, addresses in known.items()
            if any(address.ip in each.range for address in addresses for each in networks.values())
        ]
        return {
            **around,
            "command": command_of(name, values) if network is not None else "sis head init --network …",
            "note": note,
            "networks": networks,
            "name": name,
            "held": state_of(inventory.settings.get("cluster", ""), network),
            "cluster": (typed or {}).get("cluster", inventory.settings.get("cluster", "")),
            "sections": made,
            "left": left,
            "fault": fault,
            "interfaces": {each: [str(address) for address in addresses] for each, addresses in known.items()},
            "fitting": fitting,
            "up": up,
            "told": told,
            "netboot": head.netboot.status if head.netboot is not None else None,
            "fixed": head.netboot is not None and head.netboot.fixed,
            "wanted": netboot.read(inventory),
        }

    @app.get("/wizard/head", include_in_schema=False)
    async def settings(
        request: Request,
        spec: SpecName = "",
        network: Annotated[str, Query(max_length=64)] = "",
        did: Annotated[str, Query(max_length=16)] = "",
    ) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            return page(spec, network, note=_NOTES.get(did, ""))

        return await console.show(request, "wizard/head.html", work)

    @app.post("/wizard/head", include_in_schema=False)
    async def save(request: Request) -> Response:
        actor, form = await console.form(request, "admin", "network")
        spec, name, typed = form.get("spec"), form.get("network"), form.flat()

        def work() -> None:
            known = {each.name: each for each in inventory.networks.list()}
            now = state_of(inventory.settings.get("cluster", ""), known.get(name))
            if form.get("version") != now:
                was = "\n".join(
                    f"+{line}" for line in now_lines(inventory.settings.get("cluster", ""), known.get(name))
                )
                raise Changed(f"network {name}", was)
            made = read_network(name, schema_forms.values_of(sections(), typed), known)
            inventory.networks.put(made)
            wanted = form.get("cluster")
            if wanted != inventory.settings.get("cluster", ""):
                inventory.settings.set(cluster=wanted)

        try:
            await console.audited(actor, "network", name, work)
        except SisError as error:
            kept = error
            return await console.render(
                actor, "wizard/head.html", lambda: page(spec, name, typed, kept), status=status_of(error)
            )
        return console.go(wizard.where("head", spec=spec, network=name, did="saved"))

    @app.post("/wizard/head/netboot", include_in_schema=False)
    async def serve(request: Request) -> Response:
        """Serve DHCP and TFTP on an interface, or nowhere."""
        actor, form = await console.form(request, "admin", "netboot")
        spec, interface, mode = form.get("spec"), form.get("interface"), form.get("mode")
        wanted = None if form.get("off") else Wanted(interface, mode if mode in ("full", "proxy") else None)  # type: ignore[arg-type]  # as just checked

        def work() -> None:
            netboot.write(inventory, wanted)

        try:
            await console.audited(actor, "netboot", interface or "off", work)
        except SisError as error:
            kept = error
            return await console.render(
                actor, "wizard/head.html", lambda: page(spec, fault=kept), status=status_of(error)
            )
        return console.go(wizard.where("head", spec=spec, did="off" if wanted is None else "on"))


_LABELS = {
    "cidr": ("Network", "10.77.0.0/24"),
    "head": ("Address of the head on it", "10.77.0.1"),
    "gateway": ("Gateway", "none"),
    "domain": ("Domain", "cluster.example"),
    "dhcp.range": ("Range for unknown machines", "10.77.0.200-10.77.0.250"),
}
"""Fields whose key alone does not say enough: a longer label, and an example."""

_NOTES = {
    "saved": "Saved.",
    "on": "DHCP and TFTP start within seconds.",
    "off": "DHCP and TFTP stop within seconds.",
}


@lru_cache(maxsize=1)
def sections() -> tuple[Section, ...]:
    """The fields of a network, out of the cluster file's schema."""
    whole = schema.schema("cluster")
    made = schema_forms.sections({**whole["$defs"]["NetworkSpec"], "$defs": whole["$defs"]})
    return tuple(replace(each, fields=tuple(_labelled(field) for field in each.fields)) for each in made)


def _labelled(field: Field) -> Field:
    """The field with a longer name and an example, where its key alone does not say enough."""
    label, example = _LABELS.get(field.name, (field.label, field.placeholder))
    return replace(field, label=label, placeholder=example)


def as_written(network: Network) -> dict[str, Any]:
    """A network of the inventory as the cluster file would say it."""
    said = {"cidr": network.cidr, "gateway": network.gateway, "domain": network.domain, **network.data}
    return {name: value for name, value in said.items() if value not in (None, "", [], ())}


def suggested(interfaces: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The network of this machine's last interface that has a private address: most likely the one nodes are on."""
    found = [each for name, addresses in interfaces.items() if name != "lo" for each in addresses if each.ip.is_private]
    if not found:
        return {}
    span, own = found[-1].network, found[-1].ip
    said: dict[str, Any] = {"cidr": str(span), "head": str(own)}
    if span.num_addresses >= 128:
        said["dhcp"] = {"range": f"{span[-56]}-{span[-6]}"}
    return said


def read_network(name: str, values: Mapping[str, Any], known: Mapping[str, Network]) -> Network:
    """The network that a form says, held against the others. Raises SpecInvalid with the path of each fault."""
    if not name:
        raise UsageFault("the network needs a name")
    others = {other: as_written(network) for other, network in known.items() if other != name}
    text = edit.flow({"cluster": "cluster", "networks": {**others, name: dict(values)}})
    spec = cluster.parse(text.encode(), "network")
    return network_of(name, spec.networks[name])


def command_of(name: str, values: Mapping[str, Any]) -> str:
    """The command that defines the same network."""
    words = [f"sis head init --network {name}={values.get('cidr', '')}"]
    dhcp = values.get("dhcp") or {}
    for option, value in (
        ("--address", values.get("head")),
        ("--gateway", values.get("gateway")),
        ("--domain", values.get("domain")),
        ("--dhcp-range", dhcp.get("range") if isinstance(dhcp, Mapping) else None),
    ):
        if value:
            words.append(f"{option} {value}")
    return " ".join(words)


def state_of(name: str, network: Network | None) -> str:
    """Differs whenever what the form shows does."""
    return version_of("\n".join(now_lines(name, network)))


def now_lines(name: str, network: Network | None) -> list[str]:
    said = as_written(network) if network is not None else {}
    return [f"cluster: {name}", *(f"{key}: {json.dumps(value)}" for key, value in sorted(said.items()))]


def _faults(fault: SpecInvalid, name: str) -> list[tuple[str, str]]:
    """`network:1: networks.mgmt.cidr: must …` → ("cidr", "must …")."""
    found = []
    for line in fault.details:
        text = line.partition(": ")[2] if line.startswith("network:") else line
        path, _, what = text.partition(": ")
        found.append((path.removeprefix(f"networks.{name}").removeprefix("."), what))
    return found
