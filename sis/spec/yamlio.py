"""YAML as the admin means it: 1.2 core scalars, no duplicate keys, bounded aliases, and a place for every value.

PyYAML's own loader turns the MAC 52:54:00:12:34:56 into an integer, `no` into False and 1.10 into 1.1; here the
events of its C parser are composed by the rules of YAML 1.2, and numbers remember how they were written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from yaml.reader import ReaderError

from sis.errors import NotFound, SisError
from sis.spec.places import Fault, Path, Place, dotted, refuse

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 200_000
"""Values of one document after its aliases are written out."""

Value = Any
"""None, bool, WrittenInt, WrittenFloat, str, list of values or dict of text to values."""


class WrittenInt(int):
    """An integer that remembers its text, for fields where `010` or `12` is a name."""

    text: str

    def __new__(cls, text: str) -> WrittenInt:
        lowered = text.lower()
        base = 8 if lowered.startswith("0o") else 16 if lowered.startswith("0x") else 10
        made = super().__new__(cls, lowered, base)
        made.text = text
        return made


class WrittenFloat(float):
    """A float that remembers its text, for fields where `1.10` is a version."""

    text: str

    def __new__(cls, text: str) -> WrittenFloat:
        made = super().__new__(cls, text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        made.text = text
        return made


@dataclass(frozen=True)
class Document:
    """A text as values. `places` has every value's position, `keys` that of the key that names it."""

    file: str
    value: Value
    places: Mapping[Path, Place]
    keys: Mapping[Path, Place]

    def place(self, path: Path) -> Place:
        """The position of a value, or of the nearest thing around it that was written."""
        return nearest(self.places, path, self.file)

    def key_place(self, path: Path) -> Place:
        """The position of the key that names a value (of the value itself in a list)."""
        return self.keys.get(path) or self.place(path)


def nearest(places: Mapping[Path, Place], path: Path, file: str) -> Place:
    """The place of `path` or of the longest part of it that has one; the top of `file` if none has."""
    for length in range(len(path), -1, -1):
        place = places.get(path[:length])
        if place is not None:
            return place
    return Place(file, 1)


def load(path: FilePath | str, faults: list[Fault] | None = None) -> Document:
    """Read a YAML file.

    Faults that leave the rest readable (a key twice, an unknown tag) go to `faults` when it is given, so that they are
    told together with what the values have wrong. Raises NotFound when there is no such file, SpecInvalid for anything
    else wrong with its text.
    """
    name = str(path)
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {name}") from error
    except OSError as error:
        raise SisError(f"{name} cannot be read: {error.strerror}") from error
    return parse(raw, name, faults)


def parse(raw: bytes, file: str, faults: list[Fault] | None = None) -> Document:
    """Like `load`, of bytes; `file` is the name that places show."""
    if len(raw) > MAX_BYTES:
        raise refuse(file, [Fault(Place(file, 1), "", f"is larger than {MAX_BYTES // 1024 // 1024} MiB")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        fault = Fault(Place(file, line, column), "", f"byte 0x{raw[error.start]:02x} is not UTF-8")
        raise refuse(file, [fault]) from error
    composer = _Composer(file)
    try:
        value = composer.document(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        raise refuse(file, [*composer.faults, _syntax(file, text, error)]) from error
    except ReaderError as error:
        place = Place(file, raw.count(b"\n", 0, error.position) + 1)
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise refuse(file, [Fault(place, "", f"character U+{code:04X} is not allowed")]) from error
    if composer.faults and faults is None:
        raise refuse(file, composer.faults)
    if faults is not None:
        faults += composer.faults
    return Document(file, value, MappingProxyType(composer.places), MappingProxyType(composer.keys))


_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})


def scalar(text: str) -> Value:
    """A plain (unquoted) scalar by YAML 1.2 core, except that digits after a leading zero stay text (`0644`)."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INT.fullmatch(text):
        return WrittenInt(text)
    if _FLOAT.fullmatch(text):
        return WrittenFloat(text)
    return text


class _Composer:
    """Makes values of the parser's events and writes down where each one was."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[Path, Place] = {}
        self.keys: dict[Path, Place] = {}
        self.faults: list[Fault] = []
        self._anchors: dict[str, list[Event]] = {}
        self._recording: list[tuple[str, list[Event]]] = []
        self._events: Iterator[Event] = iter(())
        self._replayed: list[Iterator[Event]] = []
        self._values = 0

    def document(self, events: Iterator[Event]) -> Value:
        """The one document of the stream; further ones are a fault."""
        self._events = events
        value: Value = None
        documents = 0
        for event in events:
            if not isinstance(event, DocumentStartEvent):
                continue
            documents += 1
            if documents > 1:
                self._fault(event, (), "holds a second document ('---'); one file is one document")
                break
            value = self._value(self._next(), (), 0)
        return value

    def _next(self) -> Event:
        event = next(self._replayed[-1] if self._replayed else self._events)
        for _, events in self._recording:
            events.append(event)
        return event

    def _value(self, event: Event, path: Path, depth: int) -> Value:
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._stop(event, path, f"more than {MAX_VALUES} values (aliases written out)")
        if depth > MAX_DEPTH:
            raise self._stop(event, path, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, AliasEvent):
            return self._alias(event, path, depth)
        assert isinstance(event, NodeEvent)
        if path not in self.places:
            self.places[path] = self._place(event)
        anchor = event.anchor
        if anchor is not None:
            self._recording.append((anchor, [event]))
        try:
            if isinstance(event, ScalarEvent):
                return self._scalar(event, path)
            if isinstance(event, SequenceStartEvent):
                self._check_tag(event, path, "tag:yaml.org,2002:seq")
                return self._sequence(path, depth)
            assert isinstance(event, MappingStartEvent)
            self._check_tag(event, path, "tag:yaml.org,2002:map")
            return self._mapping(path, depth)
        finally:
            if anchor is not None:
                name, events = self._recording.pop()
                self._anchors[name] = events

    def _alias(self, event: AliasEvent, path: Path, depth: int) -> Value:
        name = event.anchor
        if any(open_name == name for open_name, _ in self._recording):
            raise self._stop(event, path, f"alias *{name} holds itself")
        events = self._anchors.get(name or "")
        if events is None:
            raise self._stop(event, path, f"alias *{name} has no anchor &{name} before it")
        self.places[path] = self._place(event)
        # An alias inside an anchored value was already recorded as itself: its expansion must not be again.
        recording, self._recording = self._recording, []
        self._replayed.append(iter(events))
        try:
            return self._value(self._next(), path, depth)
        finally:
            self._replayed.pop()
            self._recording = recording

    def _scalar(self, event: ScalarEvent, path: Path) -> Value:
        plain = event.implicit[0] and event.style in (None, "")
        if event.tag == "!" or event.tag == "tag:yaml.org,2002:str":
            return str(event.value)
        if event.tag is not None:
            self._fault(event, path, f"tag {_shown(event.tag)} is not known here")
        return scalar(event.value) if plain else str(event.value)

    def _sequence(self, path: Path, depth: int) -> list[Value]:
        items: list[Value] = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            items.append(self._value(event, (*path, len(items)), depth + 1))
        return items

    def _mapping(self, path: Path, depth: int) -> dict[str, Value]:
        entries: dict[str, Value] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._key(event, path)
            below = (*path, key)
            if key in entries:
                self._fault(event, below, f"the key '{key}' is here twice (first in line {self.keys[below].line})")
                self._value(self._next(), (*path, f"{key} (again)"), depth + 1)
                continue
            self.keys[below] = self._place(event)
            entries[key] = self._value(self._next(), below, depth + 1)
        return entries

    def _key(self, event: Event, path: Path) -> str:
        if isinstance(event, AliasEvent):
            aliased = self._anchors.get(event.anchor or "", [])
            event = aliased[0] if len(aliased) == 1 else event
        if not isinstance(event, ScalarEvent):
            raise self._stop(event, path, "a key must be plain text")
        key = str(event.value)
        if event.implicit[0] and key == "<<":
            self._fault(event, path, "'<<' is not part of YAML 1.2; use 'extends', profiles or defaults")
        if event.anchor is not None:
            self._anchors[event.anchor] = [event]
        return key

    def _check_tag(self, event: SequenceStartEvent | MappingStartEvent, path: Path, own: str) -> None:
        if event.tag not in (None, "!", own):
            self._fault(event, path, f"tag {_shown(event.tag)} is not known here")

    def _place(self, event: Event) -> Place:
        mark = event.start_mark
        assert mark is not None
        return Place(self.file, mark.line + 1, mark.column + 1)

    def _fault(self, event: Event, path: Path, text: str) -> None:
        self.faults.append(Fault(self._place(event), dotted(path), text))

    def _stop(self, event: Event, path: Path, text: str) -> SisError:
        self._fault(event, path, text)
        return refuse(self.file, self.faults)


def _shown(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _syntax(file: str, text: str, error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Fault(Place(file, 1), "", error.problem or "is not YAML")
    place = Place(file, mark.line + 1, mark.column + 1)
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: mark.column + 1]:
        return Fault(place, "", "a tab is used to indent; YAML wants spaces")
    said = error.problem or "is not YAML"
    if error.context:
        said = f"{said} ({error.context})"
    return Fault(place, "", said)
