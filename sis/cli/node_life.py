"""sis-node install, resync and agent: the verbs the boot answer, the timer and the service call."""

from __future__ import annotations

import logging
import sys

import click


@click.command
def install() -> None:
    """Install this machine as its head says. Called by the installer; needs the boot answer's parameters."""
    from sis.node.config import boot_config
    from sis.node.install import install as run

    _log_to_console()
    run(boot_config())


@click.command
@click.option("--check", "only_check", is_flag=True, help="Only say what differs, and report it.")
@click.option("--full", is_flag=True, help="Trust nothing remembered: read every byte.")
@click.option("--order", type=int, hidden=True, help="The head's order this run answers.")
def resync(only_check: bool, full: bool, order: int | None) -> int:
    """Make this node equal to what its head wants, and report what had drifted. The nightly timer calls it."""
    from sis.errors import DifferencesFound
    from sis.node.config import read_config
    from sis.node.resync import resync as run

    _log_to_console()
    report = run(read_config(), "check" if only_check else "sync", full=full, order=order)
    for change in report.changes:
        click.echo(f"{change.action:<8} {','.join(change.what) or '-':<20} {change.path}")
    return 0 if report.in_sync or not only_check else DifferencesFound.exit_code


@click.command
def agent() -> None:
    """Wait for the head's orders and carry them out. The service sis-node.service runs it."""
    from sis.node.agent import serve

    _log_to_console()
    serve()


def _log_to_console() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="sis: %(message)s")
