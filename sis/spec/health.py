"""What the cluster file says of running nodes: checks that prove one healthy, windows, and the head's own limits."""

from __future__ import annotations

import shlex
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from configurator import windows
from configurator.errors import ConfiguratorError
from sis.spec.model import Count, Spec, Text, matching, said
from sis.spec.removal import Item


def _words(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"must be a command and its arguments, not {said(value)}: {error}") from error


def _command(value: object) -> object:
    return {"run": value} if isinstance(value, str | list | tuple) else value


def _port(value: object) -> object:
    text = str(getattr(value, "text", value))
    _, _, number = text.rpartition(":")
    if not number.isdecimal() or not 0 < int(number) < 65536:
        raise ValueError(f"must be a port such as 22 or 10.77.0.5:6817, not {said(value)}")
    return text


def _window(value: object) -> object:
    try:
        windows.parse(str(value))
    except ConfiguratorError as error:
        raise ValueError(error.message) from error
    return value


_WORDS = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]})
Words = Annotated[tuple[Text, ...], BeforeValidator(_words), Field(min_length=1), _WORDS]
"""A program and its arguments: a list, or a text that is split as a shell would; no shell runs it."""

PortText = Annotated[str, BeforeValidator(_port), WithJsonSchema({"type": ["string", "integer"]})]
WindowText = Annotated[Text, BeforeValidator(_window)]
UnitName = Annotated[Text, matching(r"[A-Za-z0-9:_.@\\-]+", "must be a systemd unit such as slurmd or munge.service")]
Seconds = Annotated[Count, Field(ge=1, le=86_400)]


class CommandSpec(Spec):
    """A program that must end with exit code 0 within `timeout_s`."""

    run: Words
    timeout_s: Seconds = 30


class HealthSpec(Spec):
    """What a node proves after each resync and boot; what fails is tried again until `timeout_s` have passed."""

    commands: tuple[Item[Annotated[CommandSpec, BeforeValidator(_command)]], ...] = ()
    ports: tuple[Item[PortText], ...] = ()
    units: tuple[Item[UnitName], ...] = ()
    timeout_s: Seconds = 60


class HeadSpec(Spec):
    """The head's own: transfers at once, and the programs that drain a node and take it back into service."""

    transfers: Annotated[Count, Field(ge=1, le=100_000)] | None = None
    drain: Words | None = None
    undrain: Words | None = None
    drain_timeout_s: Seconds | None = None
