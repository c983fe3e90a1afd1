"""MACs, addresses, networks and ranges as the admin writes them, and the templates addresses may be."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from sis.spec.model import Text, matching, said

Address = ipaddress.IPv4Address
Network = ipaddress.IPv4Network
AnyAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

TEMPLATE = re.compile(r"\{(index|name)(?:\s*\+\s*([0-9]+))?\}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def _mac(value: object) -> object:
    written = str(value).lower().replace("-", ":")
    if not _MAC.fullmatch(written):
        raise ValueError(f"must be a MAC such as 52:54:00:12:34:56, not {said(value)}")
    if int(written[:2], 16) & 1:
        raise ValueError(f"must be the MAC of one interface, not the group address '{value}'")
    return written


def _address(value: object) -> object:
    try:
        return Address(str(value))
    except ValueError as error:
        raise ValueError(f"must be an IPv4 address such as 10.77.0.11, not {said(value)}") from error


def _any_address(value: object) -> object:
    try:
        return ipaddress.ip_address(str(value))
    except ValueError as error:
        raise ValueError(f"must be an address such as 10.77.0.11 or fd77::11, not {said(value)}") from error


def _network(value: object) -> object:
    try:
        return Network(str(value))
    except ValueError as error:
        raise ValueError(
            f"must be a network such as 10.77.0.0/24, not {said(value)}{_host_bits(value, error)}"
        ) from error


def _destination(value: object) -> object:
    if value == "default":
        return "default"
    try:
        return str(ipaddress.ip_network(str(value)))
    except ValueError as error:
        raise ValueError(
            f"must be a network such as 10.8.0.0/16 or fd08::/64, or default, not {said(value)}"
            f"{_host_bits(value, error)}"
        ) from error


def _host_bits(value: object, error: ValueError) -> str:
    """The network that was meant by an address in it."""
    if "host bits" not in str(error):
        return ""
    return f"; did you mean '{ipaddress.ip_network(str(value), strict=False)}'?"


def _ip_template(value: object) -> object:
    if isinstance(value, str):
        shape = TEMPLATE.sub("1", value)
        if not (re.fullmatch(r"\+[0-9]+", shape) or is_address(shape)):
            raise ValueError(f"must be an address, may hold {{index}}, or '+{{index}}' in the network, not '{value}'")
    return value


def _prefixed_template(value: object) -> object:
    if isinstance(value, str):
        try:
            if "/" not in value:
                raise ValueError
            ipaddress.ip_interface(TEMPLATE.sub("1", value))
        except ValueError:
            raise ValueError(f"must be an address with its prefix such as fd77::{{index}}/64, not '{value}'") from None
    return value


def is_address(text: str) -> bool:
    """Whether it is an IPv4 address."""
    try:
        Address(text)
    except ValueError:
        return False
    return True


AS_TEXT = WithJsonSchema({"type": "string"})
MacText = Annotated[str, BeforeValidator(_mac), AS_TEXT]
AddressText = Annotated[Address, BeforeValidator(_address), AS_TEXT]
AnyAddressText = Annotated[AnyAddress, BeforeValidator(_any_address), AS_TEXT]
NetworkText = Annotated[Network, BeforeValidator(_network), AS_TEXT]
Destination = Annotated[str, BeforeValidator(_destination), AS_TEXT]
IpTemplate = Annotated[Text, BeforeValidator(_ip_template)]
PrefixedTemplate = Annotated[Text, BeforeValidator(_prefixed_template)]
InterfaceName = Annotated[Text, matching(r"[A-Za-z0-9._-]{1,15}", "must be an interface name of 1 to 15 characters")]


@dataclass(frozen=True)
class AddressRange:
    """Addresses from `first` to `last`, both included."""

    first: Address
    last: Address


def _range(value: object) -> object:
    if isinstance(value, AddressRange):
        return value
    first, dash, last = str(value).partition("-")
    if not dash or not is_address(first.strip()) or not is_address(last.strip()):
        raise ValueError(f"must be a range such as 10.77.0.200-10.77.0.250, not {said(value)}")
    return AddressRange(Address(first.strip()), Address(last.strip()))


RangeText = Annotated[AddressRange | None, BeforeValidator(_range), AS_TEXT]


def filled(text: str, name: str, index: int) -> str:
    """`{index}`, `{index+10}` and `{name}` replaced."""

    def value(found: re.Match[str]) -> str:
        return name if found[1] == "name" else str(index + int(found[2] or 0))

    return TEMPLATE.sub(value, text)
