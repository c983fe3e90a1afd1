"""`sis doctor`: everything a head needs, looked at all at once, each lack with its remedy."""

from __future__ import annotations

from dataclasses import asdict

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit
from sis.errors import SisError

_STYLES = {"ok": "green", "missing": "bold red", "warning": "yellow"}


@click.command(epilog="Example: sis doctor -o json")
@click.option("--all", "everything", is_flag=True, help="Show also what is in order.")
@click.option("--port", default=8700, show_default=True, help="The port the head is to listen on.")
@click.option("--ring", type=click.Choice(["run", "test", "bench"]), default="run", show_default=True, help="For what.")
@click.pass_obj
def doctor(context: Context, everything: bool, port: int, ring: str) -> None:
    """Look for everything that is missing on this machine, at once. Exit code 1 when something needed is."""
    from sis.system.doctor import examine

    findings = list(examine(context.state, port, ring))
    missing = [each for each in findings if each.verdict == "missing"]
    troubled = [each for each in findings if each.verdict != "ok"]
    rows = [asdict(each) for each in (findings if everything or context.output != "table" else troubled)]
    if rows:
        columns: list[str | Column] = ["check", Column("verdict", style=lambda it: _STYLES[it]), "detail", "remedy"]
        emit(rows, columns, context.output)
    if context.output == "table":
        click.echo(f"{len(findings)} things looked at, {len(missing)} missing, {len(troubled) - len(missing)} warnings")
    if missing:
        packages = [each.remedy.split()[-1] for each in missing if each.remedy.startswith("apt-get install")]
        hint = "all at once: apt-get install " + " ".join(dict.fromkeys(packages)) if packages else None
        raise SisError(f"{len(missing)} things a head needs are missing here", hint=hint)
