"""Rollouts in SQL: made, listed, moved on; and what they hold nodes to. Driving them is the head's job."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.errors import NotFound
from sis.inventory import schema
from sis.inventory.clock import now
from sis.inventory.database import Database
from sis.inventory.node_write import delete_of
from sis.inventory.rollout import ENDED, Held, Hold, NodeStep, Plan, Rollout, RolloutNode, Tally

_IN_PARTS = 500


class Rollouts:
    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, limit: int = 50) -> tuple[Rollout, ...]:
        """The last rollouts, newest first."""
        table = schema.rollouts
        with self._database.read() as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.id.desc()).limit(limit))
            return tuple(_rollout(row) for row in rows)

    def get(self, rollout_id: int) -> Rollout:
        """Raises NotFound."""
        with self._database.read() as connection:
            return load(connection, rollout_id)

    def nodes(self, rollout_id: int) -> tuple[RolloutNode, ...]:
        """The nodes of a rollout in the order of its waves; none once they are deleted."""
        with self._database.read() as connection:
            return nodes_of(connection, rollout_id)

    def tallies(self, ids: Collection[int]) -> dict[int, Tally]:
        """Rollouts summed up by SQL: a list of many large ones reads no node."""
        table = schema.rollout_nodes
        steps: dict[int, dict[NodeStep, int]] = {each: {} for each in ids}
        targets: dict[int, dict[str, None]] = {each: {} for each in ids}
        waves = dict.fromkeys(ids, 0)
        sizes = dict.fromkeys(ids, 0)
        query = (
            sa.select(
                table.c.rollout_id,
                table.c.state,
                table.c.target,
                sa.func.count().label("nodes"),
                sa.func.max(table.c.wave).label("wave"),
                sa.func.sum(table.c.bytes).label("size"),
            )
            .where(table.c.rollout_id.in_(list(ids)))
            .group_by(table.c.rollout_id, table.c.state, table.c.target)
        )
        with self._database.read() as connection:
            for row in connection.execute(query):
                of = row.rollout_id
                steps[of][row.state] = steps[of].get(row.state, 0) + row.nodes
                targets[of][row.target] = None
                waves[of] = max(waves[of], row.wave + 1)
                sizes[of] += int(row.size)
        return {of: Tally(steps[of], waves[of], sizes[of], tuple(targets[of])) for of in ids}

    def open(self) -> tuple[int, ...]:
        """Rollouts with something left to do: not ended, or with nodes that have not come to an end, oldest first."""
        rollouts, nodes = schema.rollouts, schema.rollout_nodes
        unfinished = sa.select(nodes.c.rollout_id).where(nodes.c.state.not_in((*ENDED, "waiting")))
        query = (
            sa.select(rollouts.c.id)
            .where(sa.or_(rollouts.c.state.in_(("running", "paused")), rollouts.c.id.in_(unfinished)))
            .order_by(rollouts.c.id)
        )
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def holds(self) -> dict[str, Hold]:
        """What is held to what, by node name."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(schema.holds, schema.nodes.c.name).join_from(schema.holds, schema.nodes)
            )
            return {row.name: hold_of(row) for row in rows}

    def needed(self) -> set[tuple[str, int]]:
        """Generations (image, number) that nodes are held to, or would go back to."""
        found: set[tuple[str, int]] = set()
        with self._database.read() as connection:
            for table in (schema.holds, schema.last_good):
                rows = connection.execute(sa.select(table.c.image, table.c.generation).distinct())
                found.update((row.image, row.generation) for row in rows)
        return found


def insert(
    connection: Connection, *, who: str, nodeset: str, plan: Plan, nodes: Sequence[RolloutNode], moment: str
) -> Rollout:
    """A new running rollout with its nodes, whose `rollout_id` is filled in."""
    result = connection.execute(
        sa.insert(schema.rollouts).values(
            created=moment,
            who=who[:64],
            nodeset=nodeset,
            state="running",
            reason="",
            wave=0,
            started=moment,
            plan=msgspec.to_builtins(plan),
        )
    )
    assert result.inserted_primary_key is not None
    rollout_id = int(result.inserted_primary_key[0])
    rows = [{**_columns(each), "rollout_id": rollout_id, "node_id": each.node_id} for each in nodes]
    if rows:
        connection.execute(sa.insert(schema.rollout_nodes), rows)
    return load(connection, rollout_id)


def load(connection: Connection, rollout_id: int, *, lock: bool = False) -> Rollout:
    """One rollout; with `lock` other writers wait for this transaction (SQLite has one writer as it is)."""
    table = schema.rollouts
    query = sa.select(table).where(table.c.id == rollout_id)
    found = connection.execute(query.with_for_update() if lock else query).first()
    if found is None:
        known = connection.execute(sa.select(table.c.id).order_by(table.c.id.desc()).limit(8)).scalars()
        raise NotFound.of("rollout", str(rollout_id), map(str, known))
    return _rollout(found)


def nodes_of(connection: Connection, rollout_id: int) -> tuple[RolloutNode, ...]:
    table = schema.rollout_nodes
    rows = connection.execute(
        sa.select(table, schema.nodes.c.name)
        .join_from(table, schema.nodes)
        .where(table.c.rollout_id == rollout_id)
        .order_by(table.c.wave, table.c.position)
    )
    return tuple(_node(row) for row in rows)


def unfinished_of(connection: Connection, node_ids: Collection[int]) -> tuple[RolloutNode, ...]:
    """Places of nodes in rollouts where they have not come to an end."""
    table = schema.rollout_nodes
    found: list[RolloutNode] = []
    for part in _parts(node_ids):
        rows = connection.execute(
            sa.select(table, schema.nodes.c.name)
            .join_from(table, schema.nodes)
            .where(table.c.node_id.in_(part), table.c.state.not_in(ENDED))
            .order_by(table.c.rollout_id, table.c.position)
        )
        found += [_node(row) for row in rows]
    return tuple(found)


def save(connection: Connection, rollout: Rollout) -> None:
    table = schema.rollouts
    connection.execute(
        sa.update(table)
        .where(table.c.id == rollout.id)
        .values(
            state=rollout.state,
            reason=rollout.reason,
            wave=rollout.wave,
            started=rollout.started,
            ended=rollout.ended,
            plan=msgspec.to_builtins(rollout.plan),
        )
    )


def save_nodes(connection: Connection, nodes: Iterable[RolloutNode]) -> None:
    table = schema.rollout_nodes
    rows = [{**_columns(each), "of_rollout": each.rollout_id, "of_node": each.node_id} for each in nodes]
    if not rows:
        return
    connection.execute(
        sa.update(table).where(
            table.c.rollout_id == sa.bindparam("of_rollout"), table.c.node_id == sa.bindparam("of_node")
        ),
        rows,
    )


def hold(connection: Connection, held: Mapping[int, Held], rollout_id: int, moment: str) -> None:
    """Hold nodes, by id, to a version each; what held them before does no longer."""
    delete_of(connection, schema.holds, held)
    rows = [
        {
            "node_id": node_id,
            "image": each.image,
            "generation": each.generation,
            "version": each.version,
            "since": moment,
            "rollout_id": rollout_id,
        }
        for node_id, each in held.items()
    ]
    if rows:
        connection.execute(sa.insert(schema.holds), rows)


def let_go(connection: Connection, node_ids: Collection[int]) -> None:
    """Nodes follow their assignment again."""
    delete_of(connection, schema.holds, node_ids)


def let_go_of(connection: Connection, rollout_id: int) -> None:
    """Whatever a rollout holds follows its assignment again."""
    connection.execute(sa.delete(schema.holds).where(schema.holds.c.rollout_id == rollout_id))


def holds_of(connection: Connection, node_ids: Collection[int]) -> dict[int, Hold]:
    found: dict[int, Hold] = {}
    for part in _parts(node_ids):
        rows = connection.execute(sa.select(schema.holds).where(schema.holds.c.node_id.in_(part)))
        found.update((row.node_id, hold_of(row)) for row in rows)
    return found


def last_good_of(connection: Connection, node_ids: Collection[int]) -> dict[int, Held]:
    """The version each node last reported in-sync and healthy; nodes that never did are left out."""
    table = schema.last_good
    found: dict[int, Held] = {}
    for part in _parts(node_ids):
        rows = connection.execute(sa.select(table).where(table.c.node_id.in_(part)))
        found.update((row.node_id, Held(row.image, row.generation, row.version)) for row in rows)
    return found


def note_good(connection: Connection, node_id: int, held: Held, moment: str | None = None) -> None:
    """A node reported that it is in-sync at this version and healthy."""
    table = schema.last_good
    known = connection.execute(sa.select(table.c.version).where(table.c.node_id == node_id)).scalar()
    if known == held.version:
        return
    delete_of(connection, table, [node_id])
    connection.execute(
        sa.insert(table).values(
            node_id=node_id,
            image=held.image,
            generation=held.generation,
            version=held.version,
            since=moment or now(),
        )
    )


def hold_of(row: Any) -> Hold:
    """A row of `holds` as a value."""
    return Hold(Held(row.image, row.generation, row.version), row.since, row.rollout_id)


_columns_of_node = tuple(column.name for column in schema.rollout_nodes.c if not column.primary_key)


def _columns(node: RolloutNode) -> dict[str, Any]:
    return {name: getattr(node, name) for name in _columns_of_node}


def _rollout(row: Any) -> Rollout:
    return Rollout(
        id=row.id,
        created=row.created,
        who=row.who,
        nodeset=row.nodeset,
        state=row.state,
        reason=row.reason,
        wave=row.wave,
        started=row.started,
        ended=row.ended,
        plan=msgspec.convert(row.plan, Plan),
    )


def _node(row: Any) -> RolloutNode:
    return RolloutNode(
        rollout_id=row.rollout_id,
        node_id=row.node_id,
        name=row.name,
        **{name: getattr(row, name) for name in _columns_of_node},
    )


def _parts(values: Collection[int]) -> Iterable[list[int]]:
    whole = list(values)
    return (whole[at : at + _IN_PARTS] for at in range(0, len(whole), _IN_PARTS))
