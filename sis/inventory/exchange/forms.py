"""Every form by name: which are read, which are written, and how a file's form is told by its content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sis.errors import UsageFault
from sis.inventory.db import Inventory
from sis.inventory.exchange import genders, heritage, outward, rows
from sis.inventory.exchange.told import Reader, Reading, Told
from sis.inventory.model import Node

Form = Literal[
    "csv",
    "json",
    "yaml",
    "ansible",
    "slurm",
    "genders",
    "clustershell",
    "prometheus",
    "c3.conf",
    "machines",
    "cluster.xml",
]
EXPORTER_PORT = 9100
"""Where Prometheus' node exporter listens."""

READERS: dict[str, Reader] = {
    "csv": rows.read_csv,
    "json": rows.read_json,
    "genders": genders.read,
    "c3.conf": heritage.read_c3,
    "machines": heritage.read_machines,
    "cluster.xml": heritage.read_cluster_xml,
}


def write(inventory: Inventory, nodes: tuple[Node, ...], form: str) -> str:
    """The nodes in a form. Raises UsageFault for one that is only read, or not known."""
    writers: dict[str, Callable[[], str]] = {
        "csv": lambda: rows.write_csv(nodes),
        "json": lambda: rows.write_json(nodes),
        "yaml": lambda: _cluster_file(inventory, nodes),
        "ansible": lambda: outward.ansible(nodes, {each.name: each for each in inventory.networks.list()}),
        "slurm": lambda: outward.slurm(nodes, inventory.history.all_facts()),
        "genders": lambda: genders.write(nodes),
        "clustershell": lambda: outward.clustershell(nodes),
        "prometheus": lambda: outward.prometheus(nodes, port=EXPORTER_PORT),
        "c3.conf": lambda: heritage.write_c3(nodes, cluster=_cluster(inventory), head=_head(inventory)),
    }
    if form not in writers:
        raise UsageFault(f"{form} is not written", hint=f"written are: {', '.join(writers)}")
    return writers[form]()


def read(text: str, form: str | None, file: str, known: frozenset[str]) -> tuple[list[Told], Reading]:
    """What a file tells of nodes; `form` None: as its content has it. Raises SpecInvalid with every fault."""
    chosen = form or form_of(text, file)
    if chosen not in READERS:
        hint = (
            f"read are: {', '.join(READERS)}"
            if chosen != "yaml"
            else f"that is a cluster file: sis cluster apply {file}"
        )
        raise UsageFault(f"{chosen} is not read here", hint=hint)
    reading = Reading(file, text, known)
    told = READERS[chosen](reading)
    reading.refuse()
    return told, reading


def form_of(text: str, file: str) -> str:
    """The form a file is in, by its content, then by its name. Raises UsageFault."""
    head = text.lstrip("\ufeff \t\r\n")
    if head.startswith(("<?xml", "<xml")):
        return "cluster.xml"
    if head.startswith(("#Name:", "#Machine:")):
        return "machines"
    if head.startswith(("[", "{")):
        return "json"
    body = "\n".join(line for line in head.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    if body.startswith("cluster ") and "{" in body:
        return "c3.conf"
    if body.startswith("cluster:"):
        return "yaml"
    for ending in ("csv", "json", "genders"):
        if file.endswith(ending):
            return ending
    first = body.partition("\n")[0].lower()
    if any(separator in first for separator in ",;\t") and any(word in first for word in ("name", "node", "host")):
        return "csv"
    raise UsageFault(f"{file}: its form is not clear", hint=f"say it: --format {' | '.join(READERS)}")


def _cluster(inventory: Inventory) -> str:
    return str(inventory.settings.get("cluster", "cluster"))


def _head(inventory: Inventory) -> str:
    """What C3 calls the head: its name, and its address on the nodes' network."""
    import socket

    address = next((str(each.data["head"]) for each in inventory.networks.list() if each.data.get("head")), "")
    name = socket.gethostname().partition(".")[0]
    return f"{name}:{address}" if address else name


def _cluster_file(inventory: Inventory, nodes: tuple[Node, ...]) -> str:
    from sis.inventory.exchange import cluster_text

    return cluster_text.write(_cluster(inventory), inventory.networks.list(), nodes)
