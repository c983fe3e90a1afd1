"""What single values may hold: alphabets, addresses, names; how a fault is said."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", re.ASCII)
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}", re.ASCII)
_PREFIX = re.compile(r"([0-9A-Fa-f:.]{2,45})/([0-9]{1,3})", re.ASCII)
_MODULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,54}", re.ASCII)
PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9._+@-]+)+", re.ASCII)
"""Paths that no program's quoting rules touch."""
_LONGEST_NAME = 64
_LONGEST_PATH = 1024


class Fault(NamedTuple):
    """`place` such as "record.interfaces[0].mac", and what is wrong there."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def shown(value: str) -> str:
    """A value as errors show it: quoted, escaped, cut."""
    quoted = ascii(value[:64])
    return quoted if len(value) <= 64 and len(quoted) <= 80 else f"{quoted[:60]}...{quoted[-1]}"


def is_host_name(value: str) -> bool:
    return len(value) <= _LONGEST_NAME and _NAME.fullmatch(value) is not None


def is_interface_name(value: str) -> bool:
    return _INTERFACE.fullmatch(value) is not None and value != "lo"


def is_module_name(value: str) -> bool:
    return _MODULE.fullmatch(value) is not None


def host_name_faults(place: str, value: str) -> Iterator[Fault]:
    if not is_host_name(value):
        yield Fault(place, f"not a host name (letters, digits and '-' between dots, at most 64): {shown(value)}")
    elif looks_like_address(value):
        yield Fault(place, f"a host name must not look like an address: {shown(value)}")


def looks_like_address(name: str) -> bool:
    return name.rpartition(".")[2].isdigit() and "." in name


def is_domain(value: str) -> bool:
    return len(value) <= 253 and _NAME.fullmatch(value) is not None


def domain_faults(place: str, value: str) -> Iterator[Fault]:
    if not is_domain(value):
        yield Fault(place, f"not a domain name: {shown(value)}")


def parsed_address(value: str) -> IPAddress | None:
    # ipaddress alone is not enough: it takes a scope ("fe80::1%anything, line ends too").
    if not _ADDRESS.fullmatch(value):
        return None
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return None


def parsed_interface(value: str) -> IPInterface | None:
    if not _PREFIX.fullmatch(value):
        return None
    try:
        return ipaddress.ip_interface(value)
    except ValueError:
        return None


def address_faults(place: str, value: str) -> Iterator[Fault]:
    address = parsed_address(value)
    if address is None:
        yield Fault(place, f"not an IP address: {shown(value)}")
    elif address.is_unspecified or address.is_multicast:
        yield Fault(place, f"not the address of one machine: {shown(value)}")


def firsts(values: Sequence[str]) -> list[int]:
    """For each value the index where it is seen first."""
    first: dict[str, int] = {}
    return [first.setdefault(value, at) for at, value in enumerate(values)]


def repeated_faults(place: str, field: str, values: Sequence[str]) -> Iterator[Fault]:
    """A fault for each value that an earlier one has; empty values may repeat."""
    for at, (value, first) in enumerate(zip(values, firsts(values), strict=True)):
        if value and first != at:
            yield Fault(f"{place}[{at}].{field}", f"the same as {place}[{first}].{field}: {shown(value)}")


def is_absolute_path(path: str) -> bool:
    if path == "/":
        return True
    parts = path.split("/")
    return (
        parts[0] == ""
        and len(path.encode("utf-8", "replace")) <= _LONGEST_PATH
        and path.isprintable()
        and not {"", ".", ".."} & set(parts[1:])
    )


def module_faults(place: str, name: str) -> Iterator[Fault]:
    if not _MODULE.fullmatch(name):
        yield Fault(place, f"not a kernel module's name: {shown(name)}")
