"""What is PostgreSQL's own: its migrations, many writers at once, and what is told when it cannot be used."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from sis.cli import main
from sis.errors import SisError, Unreachable, UsageFault
from sis.inventory import database, db, schema
from sis.inventory.model import NewNode
from sis.wire import Event
from tests.heads import serving
from tests.postgres import Server

T = "2026-01-01T00:00:00.000Z"


def shape(url: str) -> dict[str, object]:
    engine = database._engine(url)
    inspector = sa.inspect(engine)
    found = {
        table: (
            sorted((c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)),
            sorted(
                (tuple(k["constrained_columns"]), k["referred_table"], k["options"].get("ondelete"))
                for k in inspector.get_foreign_keys(table)
            ),
            sorted((i["name"], tuple(i["column_names"])) for i in inspector.get_indexes(table)),
        )
        for table in inspector.get_table_names()
    }
    engine.dispose()
    return found


def test_created_at_once_and_migrated_step_by_step_are_the_same(postgres: Server) -> None:
    with postgres.database() as made, postgres.database(empty=True) as empty:
        store = database.Database(database._engine(empty), "x")
        with store.write() as connection:
            database.upgrade(connection, "x")
        store.close()
        assert shape(made) == shape(empty)
        assert set(shape(made)) == {*schema.metadata.tables, "alembic_version"}


def test_many_open_an_empty_database_at_once(postgres: Server) -> None:
    with postgres.database(empty=True) as url:
        faults: list[BaseException] = []

        def opens() -> None:
            try:
                db.open(url).close()
            except BaseException as fault:  # noqa: BLE001  # told below
                faults.append(fault)

        threads = [threading.Thread(target=opens) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        with db.open(url) as inventory:
            assert inventory.nodes.list() == ()


def test_events_of_many_writers_keep_the_order_of_their_ids(postgres: Server) -> None:
    with postgres.database() as url, db.open(url) as inventory:
        nodes = inventory.nodes.add([NewNode(f"n{at}") for at in range(8)])
        seen: list[int] = []
        done = threading.Event()

        def follows() -> None:
            while not done.is_set() or inventory.stream.newest() > (seen[-1] if seen else 0):
                seen.extend(row.id for row in inventory.stream.after(seen[-1] if seen else 0))

        def tells(node_id: int) -> None:
            for _ in range(10):
                event = Event(time=T, stage="pulling", outcome="note", message="x")
                inventory.history.record_events(node_id, [event])

        follower = threading.Thread(target=follows)
        tellers = [threading.Thread(target=tells, args=(node.id,)) for node in nodes]
        for thread in (follower, *tellers):
            thread.start()
        for thread in tellers:
            thread.join()
        done.set()
        follower.join()
        assert len(seen) == 80
        assert seen == sorted(seen)


def test_values_that_do_not_fit_are_the_askers_fault(postgres: Server) -> None:
    with postgres.database() as url, db.open(url) as inventory:
        inventory.nodes.add([NewNode("n1", profile={"timezone": "UTC"})])
        with pytest.raises(UsageFault, match="a value does not fit into the inventory"):
            inventory.settings.set(**{"x" * 100: 1})
        assert inventory.nodes.names() == ("n1",)


def test_a_server_that_is_not_there_is_told_with_what_to_do(tmp_path: Path, postgres: Server) -> None:
    with pytest.raises(Unreachable, match="does not answer") as caught:
        db.open(f"postgresql://sis:topsecret@/sis?host={tmp_path}")
    assert "topsecret" not in str(caught.value)
    assert "systemctl status postgresql" in str(caught.value.hint)
    with pytest.raises(SisError, match="the database server refuses") as refused:
        db.open(postgres.url("nowhere"))
    assert "createdb -O sis sis" in str(refused.value.hint)
    with pytest.raises(UsageFault, match="SQLite or PostgreSQL, not in mysql"):
        db.open("mysql://x@y/z")
    with pytest.raises(UsageFault, match="not a database URL"):
        db.open("postgresql://host:port/z")


def test_commands_use_the_database_the_head_was_given(postgres: Server, tmp_path: Path) -> None:
    with postgres.database() as url:

        def said(*words: str) -> str:
            done = CliRunner().invoke(main, ["--state", str(tmp_path), *words])
            assert done.exit_code == 0, done.output
            return done.output

        said("head", "init", "--database", url, "--network", "mgmt=10.77.0.0/24")
        said("node", "add", "n[001-003]", "--mac", "52:54:00:00:00:01,52:54:00:00:00:02,52:54:00:00:00:03")
        assert "3 nodes" in said("node", "list", "-l", "state=defined")
        assert not (tmp_path / "state.db").exists()
        assert (tmp_path / "database.url").stat().st_mode & 0o777 == 0o600
        said("node", "delete", "n001", "--yes")
        with db.open(url) as inventory:
            assert inventory.nodes.names() == ("n002", "n003")


def test_a_head_serves_from_it(postgres: Server, tmp_path: Path) -> None:
    with postgres.database() as url, db.open(url) as inventory:
        inventory.nodes.add([NewNode(f"n{at}", groups=("rack1",)) for at in (1, 2, 10)])
        with serving(tmp_path, inventory) as head:
            admin = head.token("admin")
            with head.listening("?since=0", token=admin) as stream:
                tag = {"If-Match": head.ask("GET", "/api/v1/nodes/n1", token=admin).headers["etag"]}
                change = {"nodeset": "@rack1", "where": ["number<5"], "settings": ["timezone=Asia/Tokyo"]}
                assert head.ask("PATCH", "/api/v1/nodes", change, token=admin).json["nodes"] == "n[1-2]"
                assert (
                    head.ask("PATCH", "/api/v1/nodes", {**change, "nodeset": "n1"}, token=admin, headers=tag).status
                    == 412
                )
                assert head.ask("GET", "/boot/ipxe?mac=52:54:00:00:00:0a&serial=A%00B").status == 200
                kind, _, told = next(row for row in stream if row[2].get("subject"))
                assert (kind, told["subject"], "serial AB" in told["text"]) == ("discovered", "52:54:00:00:00:0a", True)
            for path in ("/metrics", "/api/v1/drift", "/api/v1/audit", "/api/v1/changes", "/api/v1/discoveries"):
                assert head.ask("GET", path, token=admin).status == 200, path
            session = head.log_in("admin")
            for path in ("/", "/drift", "/events", "/audit"):
                assert head.ask("GET", path, session=session).status == 200, path
