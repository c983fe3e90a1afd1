"""`sis sync`: ask nodes to make themselves equal to their image now, and show what that changed, folded by node set."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context
from sis.cli.nodesets import chosen, takes_nodes
from sis.cli.output import emit, human_bytes, printable
from sis.cli.shown import age, counted
from sis.errors import DifferencesFound, SomeNodesFailed

if TYPE_CHECKING:
    from sis.inventory.db import Inventory
    from sis.inventory.model import Node, StoredReport

_LOOK_EVERY_S = 0.3
_LINES_SHOWN = 500


@dataclass(frozen=True)
class _Answer:
    """What came of one node's order: its report, or why there is none."""

    node: str
    report: StoredReport | None
    failure: str


@click.command(epilog="Example: sis sync @compute -n")
@takes_nodes
@click.option("-n", "--dry-run", is_flag=True, help="Only say what differs; exit code 4 when something does.")
@click.option("--full", is_flag=True, help="Read every byte again instead of trusting sizes and times.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), default=1800, show_default=True, help="Seconds to wait."
)
@click.pass_obj
def sync(
    context: Context, nodeset: str | None, where: tuple[str, ...], dry_run: bool, full: bool, timeout_s: float
) -> None:
    """Have the nodes of NODESET make themselves equal to their image now, and wait for their reports.

    Exit code 3 when some nodes failed or did not answer.
    """
    with context.open_inventory() as inventory:
        nodes = chosen(inventory, nodeset, where)
        orders = inventory.orders.create([node.id for node in nodes], "check" if dry_run else "sync", full=full)
        try:
            _wait(inventory, orders, timeout_s, quiet=context.output != "table")
        finally:
            inventory.orders.cancel(orders, "not taken in time")
        answers = _answers(inventory, orders, nodes, timeout_s)
    if context.output == "table":
        _show(answers, dry_run=dry_run)
    else:
        emit([_row(answer) for answer in answers], ["node"], context.output)
    _raise_outcome(answers, dry_run=dry_run)


def _wait(inventory: Inventory, orders: Sequence[int], timeout_s: float, *, quiet: bool) -> None:
    """Until every order is answered, or the time is up. Progress goes to a terminal only."""
    deadline = time.monotonic() + timeout_s
    shown = ""
    while True:
        states = inventory.orders.get(orders)
        open_orders = [order for order in states if order.done is None]
        if sys.stderr.isatty() and not quiet:
            waiting = sum(order.taken is None for order in open_orders)
            text = f"{len(states) - len(open_orders)} of {counted(len(states), 'node')} done, {waiting} not begun"
            if text != shown:
                click.echo(f"\r\x1b[K{text}", err=True, nl=False)
                shown = text
        if not open_orders or time.monotonic() >= deadline:
            break
        time.sleep(_LOOK_EVERY_S)
    if shown:
        click.echo("\r\x1b[K", err=True, nl=False)


def _answers(inventory: Inventory, orders: Sequence[int], nodes: Sequence[Node], timeout_s: float) -> list[_Answer]:
    ended = inventory.orders.get(orders)
    reports = inventory.history.reports_by_id([order.report_id for order in ended if order.report_id is not None])
    seen = {node.name: node.state.seen for node in nodes}
    answers = []
    for order in ended:
        report = reports.get(order.report_id) if order.report_id is not None else None
        failure = order.failure
        if report is None and order.taken is None:
            failure = f"did not ask for its order within {timeout_s:.0f} s (last seen: {age(seen[order.node])} ago)"
            failure = failure.replace("never ago", "never")
        elif report is None and not failure:
            failure = f"began, but did not report within {timeout_s:.0f} s"
        answers.append(_Answer(order.node, report, failure))
    return answers


def _show(answers: Sequence[_Answer], *, dry_run: bool) -> None:
    from sis.inventory.drift import fold_changes
    from sis.inventory.names import fold

    lines = fold_changes({answer.node: answer.report.changes for answer in answers if answer.report})
    for line in lines[:_LINES_SHOWN]:
        click.echo(printable(line.line))
    left_out = len(lines) - _LINES_SHOWN
    if left_out > 0:
        click.echo(f"… {left_out} more lines (all of them: -o json)")
    for answer in answers:
        if answer.failure:
            click.echo(click.style(f"{answer.node} failed: {printable(answer.failure)}", fg="red"))
    due: dict[str, list[str]] = {}
    for answer in answers:
        if answer.report and answer.report.reboot_needed:
            due.setdefault("; ".join(answer.report.reboot_why), []).append(answer.node)
    for why, names in due.items():
        click.echo(printable(f"{fold(names)}: reboot needed" + (f" ({why})" if why else "")))
    click.echo(_totals(answers, dry_run=dry_run))


def _totals(answers: Sequence[_Answer], *, dry_run: bool) -> str:
    reports = [answer.report for answer in answers if answer.report and answer.report.outcome == "ok"]
    changes = sum(len(report.changes) + report.changes_left_out for report in reports)
    failed = sum(bool(answer.failure) for answer in answers)
    parts = [counted(len(answers), "node") + ":"]
    if dry_run:
        clean = sum(report.in_sync for report in reports)
        parts.append(f"{clean} in-sync, {len(reports) - clean} differing, {counted(changes, 'difference')}")
        parts[-1] += ", nothing was changed"
    else:
        fetched = sum(int(report.totals.get("bytes_fetched", 0)) for report in reports)
        written = sum(int(report.totals.get("bytes_written", 0)) for report in reports)
        in_sync = sum(report.in_sync for report in reports)
        parts.append(f"{in_sync} in-sync, {counted(changes, 'change')},")
        by_delta = sum(int(report.totals.get("bytes_delta", 0)) for report in reports)
        told = f" ({human_bytes(by_delta)} as deltas)" if by_delta else ""
        parts.append(f"{human_bytes(fetched)} moved{told}, {human_bytes(written)} written")
    if failed:
        parts.append(f"({failed} failed)")
    return " ".join(parts)


def _row(answer: _Answer) -> dict[str, Any]:
    report = answer.report
    row: dict[str, Any] = {"node": answer.node, "outcome": "failed" if answer.failure else "ok"}
    row["failure"] = answer.failure or None
    if report is not None:
        row |= {
            "kind": report.kind,
            "in_sync": report.in_sync,
            "image": report.image,
            "generation": report.generation,
            "version": report.version,
            "seconds": report.seconds,
            "totals": dict(report.totals),
            "changes": [dict(change) for change in report.changes],
            "changes_left_out": report.changes_left_out,
            "reboot_needed": report.reboot_needed,
            "reboot_why": list(report.reboot_why),
        }
    return row


def _raise_outcome(answers: Sequence[_Answer], *, dry_run: bool) -> None:
    from sis.inventory.names import fold

    failed = [answer.node for answer in answers if answer.failure]
    if failed:
        raise SomeNodesFailed(
            f"{len(failed)} of {counted(len(answers), 'node')} failed: {fold(failed)}",
            hint=f"see why: sis node log {failed[0]}",
        )
    differing = [answer.node for answer in answers if answer.report and not answer.report.in_sync]
    if dry_run and differing:
        raise DifferencesFound(f"{fold(differing)}: not equal to the image", hint="repair: sis sync " + fold(differing))
