"""The one way nodes are defined, changed, accepted and deleted by commands, the API and the console."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sis.inventory import changes, naming, settings
from sis.inventory.db import Inventory
from sis.inventory.discoveries import strangers
from sis.inventory.model import NewNode, Node, SettingChange
from sis.inventory.naming import NamedBy, Proposal, Template
from sis.inventory.nodes import Change, add_nodes, delete_nodes, load, rewrite_nodes


@dataclass(frozen=True)
class Done:
    """What was done, or with a dry run would be: the nodes as they are now, and every setting that differs."""

    nodes: tuple[Node, ...]
    lines: tuple[SettingChange, ...]


class Intent:
    """Changes of what is wanted, each all or nothing. With `dry_run` all is tried and taken back."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._database = inventory.database

    def add(self, new: Sequence[NewNode], *, dry_run: bool = False) -> Done:
        """Define nodes. Raises SisError with every fault at once."""
        return self._apply(new, {}, Change(), {}, dry_run=dry_run)

    def change(
        self,
        names: Collection[str],
        change: Change,
        *,
        expected: Mapping[str, int] | None = None,
        dry_run: bool = False,
    ) -> Done:
        """Change nodes; with `expected` (node → version looked at) Conflict when someone else did since."""
        wanted = dict.fromkeys(names)
        return self._apply((), wanted, change, expected or {}, dry_run=dry_run)

    def accept(self, chosen: Mapping[str, str], template: Template = Template(), *, dry_run: bool = False) -> Done:  # noqa: B008  # frozen
        """Make nodes of discovered machines (MAC → name): new ones by `template`, or the MAC of those that lack it.

        Nothing is installed by this. Raises NotFound for a MAC that is not discovered, SisError with every fault.
        """
        self._inventory.discoveries.get(chosen)
        with self._database.read() as connection:
            nodes = {node.name: node for node in load(connection, list(chosen.values()))}
        new, wired = naming.of_proposals(chosen, nodes, template)
        return self._apply(new, dict.fromkeys(wired), Change(interfaces=wired), {}, dry_run=dry_run)

    def delete(self, names: Collection[str]) -> int:
        """Remove nodes with every trace of them, and of nothing else. Returns how many there were."""
        with self._database.write() as connection:
            removed = delete_nodes(connection, names)
            settings.touch(connection)
        return removed

    def proposals(
        self, by: NamedBy, *, names: Sequence[str] = (), listed: Mapping[str, str] | None = None
    ) -> tuple[Proposal, ...]:
        """A name for every discovered machine that was not turned away; see `naming.propose`."""
        with self._database.read() as connection:
            machines = [each for each in strangers(connection) if each.rejected is None]
            nodes = {node.name: node for node in load(connection)}
        return naming.propose(machines, nodes, by, names=names, listed=listed)

    def _apply(
        self,
        new: Sequence[NewNode],
        names: Mapping[str, None],
        change: Change,
        expected: Mapping[str, int],
        *,
        dry_run: bool,
    ) -> Done:
        with self._database.trial() if dry_run else self._database.write() as connection:
            before = load(connection, names) if names else ()
            changes.refuse_stale(connection, before, expected)
            add_nodes(connection, new)
            rewrite_nodes(connection, before, [change.of(node) for node in before])
            if not dry_run:
                settings.touch(connection)
            added = load(connection, [node.name for node in new]) if new else ()
            changed = load(connection, names) if names else ()
        blank = [Node(0, node.name, None, "", "") for node in added]
        lines = (*changes.differences(blank, added), *changes.differences(before, changed))
        return Done((*added, *changed), lines)
