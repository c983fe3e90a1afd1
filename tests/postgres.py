"""A real PostgreSQL server for tests: private, as an unprivileged user, in a temporary folder, gone afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sis.inventory import db

_ROOT = Path("/usr/lib/postgresql")
_NUMBERS = itertools.count(1)


@dataclass
class Server:
    """`folder` holds its socket; every database is a copy of one that has the inventory's tables already."""

    folder: Path
    template: str = field(default="")

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    @contextlib.contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """A database of its own, with the newest tables unless `empty`."""
        if not self.template and not empty:
            self.run("CREATE DATABASE tables")
            db.open(self.url("tables")).close()
            self.template = "tables"
        name = f"test{next(_NUMBERS)}"
        self.run(f"CREATE DATABASE {name}" + ("" if empty else f" TEMPLATE {self.template}"))
        try:
            yield self.url(name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, statement: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Start a server; it is stopped and its folder removed at the end of the block."""
    found = sorted(_ROOT.glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    programs = found[-1].parent
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="sis-pg-") as folder:
        if user:
            shutil.chown(folder, user)
        data = Path(folder, "data")

        def run(*argv: str | Path) -> None:
            subprocess.run(argv, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

        run(programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--locale=C", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=60"
        run(programs / "pg_ctl", "-D", data, "-l", Path(folder, "log"), "-o", options, "-w", "start")
        try:
            yield Server(Path(folder))
        finally:
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
