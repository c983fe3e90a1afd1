"""Users, groups and what they may do. Password hashes are never shown in a fault."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from configurator.checks.values import PLAIN_PATH, Fault, is_absolute_path, repeated_faults, shown
from configurator.record import Accounts, Sudo, User

_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)
_GECOS = re.compile(r"[^:\\]{0,256}")
_HASH = re.compile(r"(?:!|\*|!?\$[A-Za-z0-9]{1,10}\$[A-Za-z0-9./$,=+-]{8,512})", re.ASCII)
_COMMAND = re.compile(r"/[A-Za-z0-9._+@/-]+(?: [A-Za-z0-9._+@/:=,%-]+)*", re.ASCII)
_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_HIGHEST_ID = 2**32 - 2
"""The last is -1, which means "none" to the kernel."""


@functools.lru_cache(maxsize=16)
def accounts_faults(accounts: Accounts) -> tuple[Fault, ...]:
    """Every fault; equal accounts of many nodes are looked at once."""
    return tuple(_faults(accounts))


def _faults(accounts: Accounts) -> Iterator[Fault]:
    for at, user in enumerate(accounts.users):
        yield from _user(f"record.accounts.users[{at}]", user)
    for at, group in enumerate(accounts.groups):
        place = f"record.accounts.groups[{at}]"
        yield from account_name_faults(f"{place}.name", group.name)
        yield from _id(f"{place}.gid", group.gid)
        for number, member in enumerate(group.members):
            yield from account_name_faults(f"{place}.members[{number}]", member)
    for at, rule in enumerate(accounts.sudo):
        yield from _sudo(f"record.accounts.sudo[{at}]", rule)
    yield from repeated_faults("record.accounts.users", "name", [user.name for user in accounts.users])
    yield from repeated_faults("record.accounts.users", "uid", [str(user.uid) for user in accounts.users])
    yield from repeated_faults("record.accounts.groups", "name", [group.name for group in accounts.groups])
    yield from repeated_faults("record.accounts.groups", "gid", [str(group.gid) for group in accounts.groups])
    yield from repeated_faults("record.accounts.sudo", "name", [rule.name for rule in accounts.sudo])


def account_name_faults(place: str, name: str) -> Iterator[Fault]:
    if not _ACCOUNT.fullmatch(name):
        yield Fault(place, f"not an account's name (lower-case letters, digits, '_', '-'; at most 32): {shown(name)}")


def _id(place: str, number: int) -> Iterator[Fault]:
    if not 0 <= number <= _HIGHEST_ID or number == 65535:
        yield Fault(place, f"not an id (0..{_HIGHEST_ID}, not 65535): {number}")


def _user(place: str, user: User) -> Iterator[Fault]:
    yield from account_name_faults(f"{place}.name", user.name)
    yield from _id(f"{place}.uid", user.uid)
    yield from _id(f"{place}.gid", user.gid)
    if not user.gecos.isprintable() or not _GECOS.fullmatch(user.gecos):
        yield Fault(f"{place}.gecos", f"not a name without ':' of at most 256 letters: {shown(user.gecos)}")
    for field, path in (("home", user.home), ("shell", user.shell)):
        if not is_absolute_path(path) or not PLAIN_PATH.fullmatch(path):
            yield Fault(f"{place}.{field}", f"not an absolute path of plain letters: {shown(path)}")
    if user.password is not None and not _HASH.fullmatch(user.password):
        yield Fault(f"{place}.password", "not a crypt(5) hash such as $6$... (its text is not shown here)")


def _sudo(place: str, rule: Sudo) -> Iterator[Fault]:
    if not _RULE.fullmatch(rule.name):
        yield Fault(f"{place}.name", f"not a rule's name (letters, digits, '_', '-'): {shown(rule.name)}")
    yield from account_name_faults(f"{place}.who", rule.who.removeprefix("%"))
    if rule.run_as != "ALL":
        yield from account_name_faults(f"{place}.run_as", rule.run_as)
    for at, command in enumerate(rule.commands):
        if len(command) > 1024 or not _COMMAND.fullmatch(command) or ".." in command.split("/"):
            yield Fault(f"{place}.commands[{at}]", f"not a command by its absolute path: {shown(command)}")
