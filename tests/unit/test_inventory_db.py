"""The inventory on real SQLite files: opening, migrations, faults of the database itself."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from sis.errors import Locked, NoSpace, SisError, Unreachable
from sis.inventory import database, db, schema


def tables_of(path: Path) -> dict[str, object]:
    engine = sa.create_engine(f"sqlite:///{path}")
    inspector = sa.inspect(engine)
    found = {}
    for table in sorted(inspector.get_table_names()):
        found[table] = {
            "columns": [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)],
            "key": sorted(inspector.get_pk_constraint(table)["constrained_columns"]),
            "foreign": sorted(
                (tuple(k["constrained_columns"]), k["referred_table"], k["options"].get("ondelete"))
                for k in inspector.get_foreign_keys(table)
            ),
            "unique": sorted(tuple(k["column_names"]) for k in inspector.get_unique_constraints(table)),
            "indexes": sorted((i["name"], tuple(i["column_names"])) for i in inspector.get_indexes(table)),
        }
    engine.dispose()
    return found


def test_created_at_once_and_migrated_step_by_step_are_the_same(tmp_path: Path) -> None:
    db.open(tmp_path / "created.db").close()
    opened = database._engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    store = database.Database(opened, "migrated.db")
    with store.write() as connection:
        database.upgrade(connection, "migrated.db")
    store.close()
    assert tables_of(tmp_path / "created.db") == tables_of(tmp_path / "migrated.db")
    assert set(tables_of(tmp_path / "created.db")) == {*schema.metadata.tables, "alembic_version"}


def test_autoincrement_survives_migration(tmp_path: Path) -> None:
    store = database.Database(database._engine(f"sqlite:///{tmp_path / 'x.db'}"), "x.db")
    with store.write() as connection:
        database.upgrade(connection, "x.db")
        sql = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'nodes'").scalar()
    store.close()
    assert "AUTOINCREMENT" in str(sql)


def test_head_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [database.HEAD_REVISION]


def test_a_newer_database_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    db.open(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(SisError, match=r"state\.db was written by a newer sis") as caught:
        db.open(path)
    assert caught.value.hint == "use that sis, or restore a backup of the database"


def test_rubbish_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(SisError, match="is not a sound database") as caught:
        db.open(path)
    assert "restore it from a backup" in str(caught.value.hint)


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    db.open(tmp_path / "state.db").close()
    assert stat.S_IMODE((tmp_path / "state.db").stat().st_mode) == 0o600


def test_a_lock_held_by_another_says_who_to_look_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    with db.open(tmp_path / "state.db") as inventory:
        other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(Locked, match="is held by another process") as caught:
                inventory.settings.set(cluster="demo")
        finally:
            other.execute("ROLLBACK")
            other.close()
        assert "fuser -v" in str(caught.value.hint)


def test_writes_are_whole_or_not_at_all(tmp_path: Path) -> None:
    with db.open(tmp_path / "state.db") as inventory:
        before = inventory.settings.revision()

        def write_half() -> None:
            with inventory.database.write() as connection:
                connection.execute(sa.insert(schema.settings).values(name="half", value=1))
                raise RuntimeError("killed here")

        with pytest.raises(RuntimeError):
            write_half()
        assert inventory.settings.get("half") is None
        assert inventory.settings.revision() == before


def test_no_sql_of_sqlite_only_in_the_tables() -> None:
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateTable

    for table in schema.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))


@pytest.mark.parametrize(
    ("reason", "kind", "said", "hint"),
    [
        ("database is locked", Locked, "is held by another process for more than 30 s", "fuser -v state.db"),
        ("canceling statement due to lock timeout", Locked, "is held by another process", "fuser"),
        ("database or disk is full", NoSpace, "the disk of the inventory state.db is full", "sis inventory prune"),
        ("disk I/O error", SisError, "does not work: disk I/O error", "restore a backup"),
        ("attempt to write a readonly database", SisError, "cannot open the inventory", "run as root, or give --state"),
        ('FATAL: role "sis" does not exist', SisError, "the database server refuses", "createuser sis"),
        ("connection refused", Unreachable, "does not answer: connection refused", "systemctl status postgresql"),
    ],
)
def test_what_hinders_the_database_is_told_with_its_remedy(
    reason: str, kind: type[SisError], said: str, hint: str
) -> None:
    fault = database._unavailable("state.db", reason)
    assert type(fault) is kind
    assert said in fault.message
    assert hint in str(fault.hint)
