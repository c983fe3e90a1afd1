"""The one way nodes are defined, changed, accepted and deleted by commands, the API and the console."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from sis.errors import SisError
from sis.inventory import changes, cluster_file, naming, settings
from sis.inventory.cluster_file import Read
from sis.inventory.db import Inventory
from sis.inventory.discoveries import strangers
from sis.inventory.model import NewNode, Node, SettingChange
from sis.inventory.names import expand
from sis.inventory.naming import NamedBy, Proposal, Template
from sis.inventory.node_read import load
from sis.inventory.node_write import add_nodes, delete_nodes, rewrite_nodes
from sis.inventory.nodes import Change
from sis.inventory.profile import read_profile, write_profile

if TYPE_CHECKING:
    from sis.inventory.cluster_edit import Edit


@dataclass(frozen=True)
class Done:
    """What was done, or with a dry run would be: the nodes as they are then, and every setting that differs."""

    nodes: tuple[Node, ...]
    lines: tuple[SettingChange, ...]
    text: str = ""
    """What became of the cluster file, as a unified diff; "" when none is followed or it stays as it is."""


class Intent:
    """Changes of what is wanted, each all or nothing. With `dry_run` all is tried and taken back.

    Where the inventory follows a cluster file its text is changed too, and `kept` is told path and text.
    """

    def __init__(self, inventory: Inventory, kept: Callable[[Path, bytes], None] = lambda _path, _raw: None) -> None:
        self._inventory = inventory
        self._kept = kept
        self._database = inventory.database

    def add(self, new: Sequence[NewNode], *, dry_run: bool = False) -> Done:
        """Define nodes. Raises SisError with every fault at once."""
        return self._apply(new, {}, Change().of, {}, dry_run=dry_run)

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
        return self._apply((), wanted, change.of, expected or {}, dry_run=dry_run)

    def accept(self, chosen: Mapping[str, str], template: Template = Template(), *, dry_run: bool = False) -> Done:  # noqa: B008  # frozen
        """Make nodes of discovered machines (MAC → name): new ones by `template`, or the MAC of those that lack it.

        Nothing is installed by this. Raises NotFound for a MAC that is not discovered, SisError with every fault.
        """
        self._inventory.discoveries.get(chosen)
        with self._database.read() as connection:
            nodes = {node.name: node for node in load(connection, list(chosen.values()))}
        new, wired = naming.of_proposals(chosen, nodes, template)
        return self._apply(new, dict.fromkeys(wired), Change(interfaces=wired).of, {}, dry_run=dry_run)

    def replace(
        self,
        new: Sequence[NewNode],
        there: Mapping[str, NewNode],
        *,
        expected: Mapping[str, int] | None = None,
        dry_run: bool = False,
    ) -> Done:
        """Define nodes, and make those that are there what is said of them; `Done.nodes` are those that differ."""
        done = self._apply(new, dict.fromkeys(there), lambda node: there[node.name], expected or {}, dry_run=dry_run)
        added = {node.name for node in new}
        touched = {name for line in done.lines for name in expand(line.nodes, {})}
        return Done(tuple(node for node in done.nodes if node.name in added | touched), done.lines, done.text)

    def delete(self, names: Collection[str]) -> int:
        """Remove nodes with every trace of them, and of nothing else. Returns how many there were."""
        with cluster_file.opened(self._database) as file, self._database.write() as connection:
            removed = delete_nodes(connection, names)
            settings.touch(connection)
            if file is not None:
                from sis.inventory.cluster_edit import Edit

                edit = Edit(file.raw, str(file.path))
                edit.delete(edit.names.intersection(names))
                self._write(connection, file, edit, (), dry_run=False)
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
        of: Callable[[Node], NewNode],
        expected: Mapping[str, int],
        *,
        dry_run: bool,
    ) -> Done:
        with (
            cluster_file.opened(self._database) as file,
            self._database.trial() if dry_run else self._database.write() as connection,
        ):
            before = load(connection, names) if names else ()
            changes.refuse_stale(connection, before, expected)
            add_nodes(connection, new)
            rewritten = rewrite_nodes(connection, before, [of(node) for node in before])
            settings.touch(connection)
            added = load(connection, [node.name for node in new]) if new else ()
            changed, lines = rewritten.nodes, rewritten.lines
            text = ""
            if file is not None:
                from sis.inventory.cluster_edit import Edit

                edit = Edit(file.raw, str(file.path))
                known = [pair for pair in zip(before, changed, strict=True) if pair[0].name in edit.names]
                edit.change([old for old, _ in known], [now for _, now in known])
                edit.add(added)
                free = {now.name for old, now in known if old.profile.get("profiles") != now.profile.get("profiles")}
                text = self._write(connection, file, edit, free | {node.name for node in added}, dry_run=dry_run)
                added = load(connection, [node.name for node in new]) if new else ()
                changed = load(connection, names) if names else ()
                lines = changes.differences(before, changed)
        blank = [Node(0, node.name, None, "", "") for node in added]
        return Done((*added, *changed), (*changes.differences(blank, added), *lines), text)

    def _write(self, connection: Connection, file: Read, edit: Edit, free: Collection[str], *, dry_run: bool) -> str:
        """Bring an edited cluster file in and write it; returns the difference, "" when there is none."""
        raw = edit.raw
        if raw == file.raw:
            return ""
        _brought_in(connection, file, raw, free)
        if not dry_run:
            file.write(raw)
            cluster_file.remember(connection, file.path, raw)
            self._kept(file.path, raw)
        return file.difference(raw)


def _brought_in(connection: Connection, file: Read, raw: bytes, free: Collection[str]) -> None:
    """Bring a new text of the cluster file in, within the transaction that changed nodes.

    What the file comes to must be what was asked for: else SisError. `free` are nodes whose profiles or whole
    definition are new: for them the file's profiles and defaults count where nothing else was asked.
    """
    from sis.inventory.cluster import bring_in
    from sis.spec import cluster as cluster_spec

    asked = {node.name: node for node in load(connection)}
    bring_in(connection, cluster_spec.parse(raw, str(file.path)))
    now = {node.name: node for node in load(connection)}
    held = [name for name in asked if name in now and name not in free]
    others = changes.differences([_unsaid(asked[name]) for name in held], [_unsaid(now[name]) for name in held])
    told = [f"{each.nodes}: {each.setting} would be {each.after} instead of {each.before}" for each in others]
    told += [f"{name} would still be named" for name in now if name not in asked]
    for name in free:
        wanted, made = asked[name], now[name]
        if wanted.macs != made.macs or wanted.address != made.address or not set(wanted.groups) <= set(made.groups):
            told.append(f"{name} would be {changes.wires(made.interfaces)} in {changes.shown(made.groups)}")
        elif wanted.assignment and (made.assignment is None or made.assignment.image != wanted.assignment.image):
            told.append(f"{name}: image would be {made.assignment.reference if made.assignment else '-'}")
    if told:
        raise SisError(
            f"{file.path} cannot be made to say that by a few lines; nothing was changed",
            details=told[:20],
            hint=f"edit it by hand, then: sis cluster apply {file.path}",
        )


def _unsaid(node: Node) -> Node:
    """The node without settings that say the default: a file that says it over what a wider entry says keeps none."""
    plain = write_profile(read_profile(node.profile, node.name))
    return node if plain == node.profile else replace(node, profile=plain)
