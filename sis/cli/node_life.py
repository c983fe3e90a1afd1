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
@click.option("--stage", "only_stage", is_flag=True, help="Fetch now, apply early in the next boot.")
@click.option("--unasked", is_flag=True, help="Outside maintenance windows only check: how the timer calls it.")
@click.option("--full", is_flag=True, help="Trust nothing remembered: read every byte.")
@click.option("--order", type=int, hidden=True, help="The head's order this run answers.")
def resync(only_check: bool, only_stage: bool, unasked: bool, full: bool, order: int | None) -> int:
    """Make this node equal to what its head wants, and report what had drifted. The nightly timer calls it."""
    from sis.errors import DifferencesFound
    from sis.node.config import read_config
    from sis.node.resync import Kind
    from sis.node.resync import resync as run

    _log_to_console()
    kind: Kind = "check" if only_check else "stage" if only_stage else "sync"
    report = run(read_config(), kind, full=full, order=order, unasked=unasked)
    for change in report.changes:
        click.echo(f"{change.action:<8} {','.join(change.what) or '-':<20} {change.path}")
    return 0 if report.in_sync or not only_check else DifferencesFound.exit_code


@click.command("apply-staged")
def apply_staged() -> int:
    """Put in place what 'resync --stage' fetched. sis-apply.service calls it early in the boot."""
    from pathlib import Path

    from sis.node import at_boot
    from sis.node.resync import STATE

    _log_to_console()
    report = at_boot.apply(Path("/"), STATE)
    if report is None:
        click.echo("nothing is staged")
        return 0
    click.echo(report.error or f"{report.image}@{report.generation}: {len(report.changes)} changes")
    return 0 if report.outcome == "ok" else 1


@click.command
def agent() -> None:
    """Wait for the head's orders and carry them out. The service sis-node.service runs it."""
    from sis.node.agent import serve

    _log_to_console()
    serve()


def _log_to_console() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="sis: %(message)s")
