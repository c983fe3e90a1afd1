"""A real PostgreSQL server for tests: private, as an unprivileged user, in a temporary folder, gone afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
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

    def wait(self, child: subprocess.Popen[bytes]) -> None:
        """Until it answers."""
        import psycopg

        while True:
            try:
                self.run("SELECT 1")
            except psycopg.OperationalError:
                assert child.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

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
        options = ("listen_addresses=", f"unix_socket_directories={folder}", "fsync=off", "max_connections=60")
        # It ends with us, however we end: a test run that is killed leaves no server behind.
        argv = ["setpriv", "--pdeathsig", "QUIT", programs / "postgres", "-D", data]
        argv += [word for option in options for word in ("-c", option)]
        with Path(folder, "log").open("w") as log:
            child = subprocess.Popen(argv, user=user, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            running = Server(Path(folder))
            running.wait(child)
            yield running
        finally:
            child.send_signal(signal.SIGQUIT)
            child.wait(30)
