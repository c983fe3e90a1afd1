"""`sis token`: keys to the admin API for programs and people elsewhere. Shown once, kept as hashes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, cast

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit, emit_one
from sis.cli.shown import age

if TYPE_CHECKING:
    from sis.inventory.model import Role

ROLES = click.Choice(["view", "operate", "admin"])


@click.group("token")
def token() -> None:
    """Keys to the admin API: made, listed, revoked."""


@token.command(epilog="Example: sis token add grafana --role view")
@click.argument("name")
@click.option("--role", type=ROLES, default="view", show_default=True, help="What its bearer may do.")
@click.pass_obj
def add(context: Context, name: str, role: str) -> None:
    """Make a token and print it: it is not shown again.

    view: read. operate: also check, sync, install and reboot nodes. admin: also move channels and read the audit log.
    """
    with context.open_inventory() as inventory:
        value = inventory.admins.add_token(name, cast("Role", role))
    if context.output == "table":
        click.echo(value)
    else:
        emit_one({"name": name, "role": role, "token": value}, context.output)


@token.command("list", epilog="Example: sis token list")
@click.pass_obj
def list_tokens(context: Context) -> None:
    """List tokens, their roles, and when each was last used."""
    with context.open_inventory() as inventory:
        tokens = inventory.admins.tokens()
    emit([asdict(each) for each in tokens], ["name", "role", "created", Column("used", text=age)], context.output)


@token.command(epilog="Example: sis token revoke grafana")
@click.argument("name")
@click.pass_obj
def revoke(context: Context, name: str) -> None:
    """Make a token void at once."""
    with context.open_inventory() as inventory:
        inventory.admins.revoke_token(name)
    if context.output == "table":
        click.echo(f"token {name} is void")
