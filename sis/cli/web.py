"""`sis web`: a way into the console of the head, without a password."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, cast

import click

from sis.cli.context import Context
from sis.cli.output import emit_one
from sis.cli.shown import counted
from sis.cli.token import ROLES

if TYPE_CHECKING:
    from sis.inventory.model import Role

_URL = "http://127.0.0.1:8700"


@click.group("web")
def web() -> None:
    """The web console: log in, log out."""


@web.command(epilog="Example: sis web login --role operate")
@click.option("--role", type=ROLES, default="view", show_default=True, help="What the browser may do.")
@click.option("--name", metavar="NAME", help="Who it is, for the audit log (default: who runs this command).")
@click.option("--url", metavar="URL", help="Where the console is reached (default: where the head says it is).")
@click.pass_obj
def login(context: Context, role: str, name: str | None, url: str | None) -> None:
    """Print a URL that opens the console in a browser: good once, within 10 minutes, then for 12 hours."""
    with context.open_inventory() as inventory:
        code = inventory.admins.new_login(name or _user(), cast("Role", role))
        told = url or _running(context, "console.url")
        base = told or inventory.settings.get("url") or _running(context, "head.url") or _URL
    address = f"{base.rstrip('/')}/login?code={code}"
    if context.output == "table":
        click.echo(address)
    else:
        emit_one({"url": address, "role": role}, context.output, name="url")


@web.command(epilog="Example: sis web logout")
@click.pass_obj
def logout(context: Context) -> None:
    """End every session of the console, and make every URL not yet used void."""
    with context.open_inventory() as inventory:
        ended = inventory.admins.log_out_everyone()
    click.echo(f"{counted(ended, 'session')} ended")


def _running(context: Context, name: str) -> str | None:
    try:
        return (context.state / "run" / name).read_text().strip()
    except OSError:
        return None


def _user() -> str:
    """Who is behind sudo, or runs this."""
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"
