"""How commands take nodes: a node set, selectors, or both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sis.errors import UsageFault

if TYPE_CHECKING:
    from sis.inventory.db import Inventory
    from sis.inventory.model import Node

F = TypeVar("F", bound=Callable[..., Any])


def takes_nodes(command: F) -> F:
    """Give a command the argument NODESET and the option -l; it gets `nodeset` (or None) and `where`."""
    option = click.option(
        "-l",
        "--where",
        "where",
        multiple=True,
        metavar="ATTR=VALUE",
        help="Only nodes with this: state=failed, image!=compute@stable, name~^rack1-, seen>1h (may be repeated).",
    )
    return option(click.argument("nodeset", required=False)(command))


def chosen(inventory: Inventory, nodeset: str | None, where: tuple[str, ...]) -> tuple[Node, ...]:
    """The nodes a command is to act on. Raises UsageFault when none are named, or none match."""
    if not nodeset and not where:
        raise UsageFault("which nodes?", hint="name some (n001, n[001-016], @rack1, @*), or select: -l state=failed")
    nodes = inventory.nodes.select(nodeset or "", where)
    if not nodes:
        raise UsageFault(f"no node matches {' '.join(where)}", hint="see: sis node list")
    return nodes


def named(inventory: Inventory, nodeset: str | None, where: tuple[str, ...]) -> str:
    """The same as one node set."""
    from sis.inventory.names import fold

    return fold(node.name for node in chosen(inventory, nodeset, where))


def shown(inventory: Inventory, nodeset: str | None, where: tuple[str, ...]) -> tuple[Node, ...]:
    """The nodes a command is to show: all of them when none are named. May be none."""
    return inventory.nodes.select(nodeset or "", where) if nodeset or where else inventory.nodes.list()
