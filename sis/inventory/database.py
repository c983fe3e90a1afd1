"""Opening the inventory's database: SQLite (WAL) by path, PostgreSQL by URL; older ones are brought up to date."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from sis.errors import Locked, NoSpace, NotFound, SisError, Unreachable, UsageFault
from sis.inventory.schema import metadata

HEAD_REVISION = "0008"
"""The newest migration; a test holds it to `migrations/versions`."""

BUSY_TIMEOUT_S = 30.0
_WRITER = 0x515
"""The advisory lock every write holds on PostgreSQL; migrations are writes too."""
_SNAPSHOT: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_MIGRATIONS = Path(__file__).with_name("migrations")


class Database:
    """Connections for reading and for writing. A write is one transaction: all of it or nothing.

    Raises Locked when another process holds the database for longer than the busy timeout, and SisError when it
    cannot be read or written.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self._writer: contextlib.AbstractContextManager[Any] = (
            threading.RLock() if engine.dialect.name == "sqlite" else contextlib.nullcontext()
        )

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        with _faults(self.name), self.engine.connect() as connection:
            yield connection.execution_options(**_SNAPSHOT) if self._is_postgresql else connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        with _faults(self.name), self._writer, self.engine.connect() as connection:
            writing = connection.execution_options(sis_write=True)
            with writing.begin():
                self._wait_for_my_turn(writing)
                yield writing

    @contextlib.contextmanager
    def trial(self) -> Iterator[Connection]:
        """A write that is taken back at the end of the block, whatever was done in it."""
        with _faults(self.name), self._writer, self.engine.connect() as connection:
            trying = connection.execution_options(sis_write=True)
            with trying.begin() as transaction:
                self._wait_for_my_turn(trying)
                try:
                    yield trying
                finally:
                    transaction.rollback()

    def close(self) -> None:
        self.engine.dispose()

    @property
    def _is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    def _wait_for_my_turn(self, connection: Connection) -> None:
        """One writer at a time, as SQLite has it: what a write has read no other write changes before it ends."""
        if self._is_postgresql:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITER)))


def connect(where: str | Path) -> Database:
    """Open (making it if need be) the database at a path or SQLAlchemy URL, with the newest tables in it."""
    if isinstance(where, Path) or "://" not in where:
        path = Path(where)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with contextlib.suppress(FileExistsError):
                path.touch(mode=0o600, exist_ok=False)
        url, name = f"sqlite:///{path}", str(path)
    else:
        url, name = where, _shown(where)
    engine = _engine(url)
    database = Database(engine, name)
    try:
        _bring_up_to_date(database)
    except BaseException:
        engine.dispose()
        raise
    return database


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return _postgresql(url)
    engine = sa.create_engine(url, pool_size=8, max_overflow=64, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("sis_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _postgresql(url: str) -> Engine:
    """An engine for a PostgreSQL server. Raises UsageFault for other databases, NotFound without its driver."""
    wanted = sa.make_url(url)
    if wanted.get_backend_name() != "postgresql":
        raise UsageFault(
            f"the inventory can be in SQLite or PostgreSQL, not in {wanted.get_backend_name()}",
            hint="give a path, or postgresql://USER:PASSWORD@HOST/DATABASE",
        )
    try:
        return sa.create_engine(
            wanted.set(drivername="postgresql+psycopg"),
            pool_size=8,
            max_overflow=40,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "options": f"-c lock_timeout={int(BUSY_TIMEOUT_S * 1000)}"},
        )
    except ModuleNotFoundError as error:
        raise NotFound(
            "the driver for PostgreSQL is not installed", hint="pip install 'siscluster[postgresql]'"
        ) from error


def _shown(url: str) -> str:
    """A database URL without its password. Raises UsageFault for what is no URL."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise UsageFault(
            f"not a database URL: {url.partition('://')[0]}://…", hint="it looks like postgresql://sis@/sis"
        ) from error


def _bring_up_to_date(database: Database) -> None:
    with database.read() as connection:
        current = _revision(connection)
    if current == HEAD_REVISION:
        return
    with database.write() as connection:
        current = _revision(connection)
        if current == HEAD_REVISION:
            return
        if current is None and not sa.inspect(connection).get_table_names():
            create(connection)
            return
        upgrade(connection, database.name)


def create(connection: Connection) -> None:
    """All tables at once in an empty database, marked as of the newest migration."""
    metadata.create_all(connection)
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.execute(sa.text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": HEAD_REVISION})


def upgrade(connection: Connection, name: str) -> None:
    """Run the migrations an older database lacks. Raises SisError when it is newer than this program."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SisError(
            f"{name} was written by a newer sis: {error}", hint="use that sis, or restore a backup of the database"
        ) from error


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


@contextlib.contextmanager
def _faults(name: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        raise _unavailable(name, str(error.orig).strip()) from error
    except sa.exc.DataError as error:
        raise UsageFault(f"a value does not fit into the inventory: {str(error.orig).splitlines()[0]}") from error
    except sa.exc.DatabaseError as error:
        reason = str(error.orig)
        if "malformed" in reason or "not a database" in reason:
            raise SisError(
                f"{name} is not a sound database: {reason}", hint="restore it from a backup, or move it away"
            ) from error
        raise


def _unavailable(name: str, reason: str) -> SisError:
    """What it means that the database did not do as it was told, and what to do about it."""
    if "locked" in reason or "lock timeout" in reason:
        who = (
            f"fuser -v {name}" if "://" not in name else "SELECT * FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
        return Locked(
            f"the inventory {name} is held by another process for more than {BUSY_TIMEOUT_S:.0f} s",
            hint=f"see who has it open with: {who}",
        )
    if "readonly" in reason or "unable to open" in reason:
        return SisError(f"cannot open the inventory {name}: {reason}", hint="run as root, or give --state")
    if "disk is full" in reason or "No space left" in reason:
        return NoSpace(f"the disk of the inventory {name} is full", hint="make room, then: sis inventory prune")
    if "disk I/O error" in reason:
        return SisError(
            f"the disk of the inventory {name} does not work: {reason}", hint="see: dmesg | tail; restore a backup"
        )
    if "authentication failed" in reason or "does not exist" in reason:
        return SisError(
            f"the database server refuses {name}: {reason.splitlines()[-1]}",
            hint="make user and database: createuser sis; createdb -O sis sis",
        )
    if any(word in reason for word in ("connection", "server closed", "resolve host")):
        return Unreachable(
            f"the database server of {name} does not answer: {reason.splitlines()[-1]}",
            hint="is it running? systemctl status postgresql",
        )
    return SisError(f"the inventory {name} does not answer: {reason}")
