"""The site's accounts laid over an image's own, merged by id: no account of the image is lost or renumbered."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from configurator.errors import NotRenderable
from configurator.footprint import AccountFiles
from configurator.record import Accounts, Group, User

_LOCKED = "*"


class Merged(NamedTuple):
    """The texts of the four files; `gshadow` is None where the image keeps none. `shadow_gid` may read shadow."""

    passwd: str
    group: str
    shadow: str
    gshadow: str | None
    shadow_gid: int | None


@functools.lru_cache(maxsize=16)
def merge(own: AccountFiles, accounts: Accounts) -> Merged:
    """The image's files with the site's accounts in them; made once for all nodes that have the same.

    Raises NotRenderable, naming the field, for an id or a name that is something else in the image, and for a user
    whose group is nowhere.
    """
    passwd, group = _rows(own.passwd), _rows(own.group)
    shadow, gshadow = _rows(own.shadow or ""), _rows(own.gshadow or "")
    for at, wanted in enumerate(accounts.groups):
        _agree(group, wanted.name, wanted.gid, f"record.accounts.groups[{at}].gid")
        _lay_group(group, wanted)
        _lay_gshadow(gshadow, wanted)
    known = {row[2] for row in group if len(row) > 2}
    for at, user in enumerate(accounts.users):
        _agree(passwd, user.name, user.uid, f"record.accounts.users[{at}].uid")
        if str(user.gid) not in known:
            raise NotRenderable(
                f"record.accounts.users[{at}].gid: neither the image nor the record has a group with id {user.gid}",
                hint=f"add one to the record's groups for {user.name}",
            )
        _put(passwd, [user.name, "x", str(user.uid), str(user.gid), user.gecos, user.home, user.shell])
        _lay_shadow(shadow, user)
    shadow_gid = next((int(row[2]) for row in group if row[0] == "shadow" and row[2].isdigit()), None)
    return Merged(
        _text(passwd), _text(group), _text(shadow), _text(gshadow) if own.gshadow is not None else None, shadow_gid
    )


def _rows(text: str) -> list[list[str]]:
    return [line.split(":") for line in text.splitlines()]


def _text(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"{':'.join(row)}\n" for row in rows)


def _agree(rows: Sequence[Sequence[str]], name: str, number: int, place: str) -> None:
    """Neither the name nor the id may mean something else in the image."""
    for row in rows:
        if len(row) < 3 or row[0].startswith(("+", "-")):
            continue
        if row[0] == name and row[2] != str(number):
            raise NotRenderable(
                f"{place}: {name} has id {row[2]} in the image, not {number}",
                hint="files in the image belong to its id; use that one",
            )
        if row[2] == str(number) and row[0] != name:
            raise NotRenderable(f"{place}: id {number} is {row[0]} in the image, not {name}", hint="use another id")


def _put(rows: list[list[str]], wanted: list[str]) -> None:
    """In place of the row with its name, else behind the others (before NIS's + lines, which end a file)."""
    for at, row in enumerate(rows):
        if row[0] == wanted[0]:
            rows[at] = wanted
            return
    end = next((at for at, row in enumerate(rows) if row[0].startswith("+")), len(rows))
    rows.insert(end, wanted)


def _members(row: Sequence[str], wanted: Group) -> str:
    there = [name for name in row[3].split(",") if name] if len(row) > 3 else []
    return ",".join(dict.fromkeys([*there, *wanted.members]))


def _row(rows: Sequence[list[str]], name: str) -> list[str]:
    return next((row for row in rows if row[0] == name), [])


def _lay_group(rows: list[list[str]], wanted: Group) -> None:
    row = _row(rows, wanted.name)
    password = row[1] if len(row) > 1 else "x"
    _put(rows, [wanted.name, password, str(wanted.gid), _members(row, wanted)])


def _lay_gshadow(rows: list[list[str]], wanted: Group) -> None:
    row = _row(rows, wanted.name)
    password, admins = (row[1], row[2]) if len(row) > 2 else ("!", "")
    _put(rows, [wanted.name, password, admins, _members(row, wanted)])


def _lay_shadow(rows: list[list[str]], user: User) -> None:
    row = _row(rows, user.name)
    if row and user.password is not None:
        _put(rows, [row[0], user.password, *row[2:]])
    elif not row:
        # No date of the last change: the same record must give the same bytes on every day.
        _put(rows, [user.name, user.password or _LOCKED, "", "0", "99999", "7", "", "", ""])
