"""What tests of several folders share: signals, and where an inventory can be: a SQLite file, a PostgreSQL server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.postgres import Server, server

settings.register_profile("the same each time", derandomize=True)
settings.register_profile("new each time")


def pytest_configure() -> None:
    """What tests start can be interrupted, although whoever started the tests (a shell's `&`) ignores that.

    Generated values are the same in each run, so that a change is not stopped by what it did not do; new ones with
    SIS_TEST_NEW_VALUES=1.
    """
    settings.load_profile("new each time" if os.environ.get("SIS_TEST_NEW_VALUES") else "the same each time")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes name no test: packed ones may tell the time (gzip), and each process that runs tests would name another."""
    if isinstance(val, bytes) and not (len(val) <= 100 and val.isascii() and val.decode().isprintable()):
        return "bytes"
    return None


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
