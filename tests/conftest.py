"""What tests of several folders share: signals, and where an inventory can be: a SQLite file, a PostgreSQL server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Server, server


def pytest_configure() -> None:
    """What tests start can be interrupted, although whoever started the tests (a shell's `&`) ignores that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this run, on a unix socket in a temporary folder."""
    with server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | Path]:
    """Where to open an inventory: every test that takes it runs on both databases."""
    if request.param == "sqlite":
        yield tmp_path / "state.db"
        return
    running: Server = request.getfixturevalue("postgres")
    with running.database() as url:
        yield url
