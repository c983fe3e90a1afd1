"""Where screenshots go: a folder that stays after the run, named at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

SCREENS = Path(__file__).resolve().parents[2] / ".demo" / "screens"
_taken = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def screens(request: pytest.FixtureRequest) -> Path:
    """The folder for screenshots."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    request.config.stash[_taken] = True
    return SCREENS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash.get(_taken, False):
        terminalreporter.write_line(f"screenshots: {SCREENS}")
