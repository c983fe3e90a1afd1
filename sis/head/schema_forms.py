"""Forms made from a JSON Schema: fields with their values and faults, and what was typed back as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sis.errors import SpecInvalid, UsageFault
from sis.spec import edit, yamlio

_ACRONYMS = frozenset({"cidr", "dhcp", "ip", "mac", "mtu", "uid"})

Kind = Literal["text", "number", "flag", "choice", "lines", "pairs", "yaml"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `name` is the dotted path of its value; `placeholder` what holds while it is empty."""

    name: str
    label: str
    kind: Kind
    choices: tuple[str, ...] = ()
    required: bool = False
    help: str = ""
    value: str = ""
    placeholder: str = ""
    faults: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return "f-" + self.name.replace(".", "-")


@dataclass(frozen=True, slots=True)
class Section:
    """Fields under one heading: "" those of the top level, else those of an object in it."""

    name: str
    title: str
    help: str
    fields: tuple[Field, ...]


def sections(schema: Mapping[str, Any], *, leave_out: Sequence[str] = ()) -> tuple[Section, ...]:
    """The fields of an object's schema (2020-12, with $defs), simple ones first, then each object in it."""
    definitions = schema.get("$defs", {})
    required = set(schema.get("required", ()))
    plain: list[Field] = []
    nested: list[Section] = []
    for name, said in schema.get("properties", {}).items():
        if name in leave_out:
            continue
        own = _resolved(said, definitions)
        if own.get("type") == "object" and "properties" in own:
            inner = tuple(
                _field(f"{name}.{key}", _resolved(below, definitions), key in own.get("required", ()))
                for key, below in own["properties"].items()
            )
            nested.append(Section(name, label_of(name), own.get("description", ""), inner))
        else:
            plain.append(_field(name, own, name in required))
    return (Section("", "", "", tuple(plain)), *nested)


def filled(
    made: Sequence[Section],
    values: Mapping[str, Any],
    *,
    inherited: Mapping[str, Any] | None = None,
    typed: Mapping[str, str] | None = None,
    faults: Sequence[tuple[str, str]] = (),
) -> tuple[tuple[Section, ...], tuple[str, ...]]:
    """The sections with their values (or what was `typed`), and the faults that belong to no field.

    `faults` are (path, text); a fault belongs to the field its path leads into.
    """
    left = list(faults)

    def fill(field: Field) -> Field:
        own = [fault for fault in left if _leads_into(fault[0], field.name)]
        for fault in own:
            left.remove(fault)
        shown = (
            typed[field.name] if typed is not None and field.name in typed else shown_as(field, _at(values, field.name))
        )
        behind = shown_as(field, _at(inherited or {}, field.name)).replace("\n", ", ") or field.placeholder
        return replace(field, value=shown, placeholder=behind, faults=tuple(text for _, text in own))

    done = tuple(replace(section, fields=tuple(fill(field) for field in section.fields)) for section in made)
    return done, tuple(f"{path}: {text}" if path else text for path, text in left)


def values_of(made: Sequence[Section], typed: Mapping[str, str]) -> dict[str, Any]:
    """What was typed as plain values by path of the top level; empty fields are left out.

    Raises SpecInvalid with "path: fault" lines for what cannot be read as what it is to be.
    """
    found: dict[str, Any] = {}
    faults: list[str] = []
    for section in made:
        for field in section.fields:
            try:
                value = value_of(field, typed.get(field.name, ""))
            except UsageFault as error:
                faults.append(f"{field.name}: {error.message}")
                continue
            if value is None:
                continue
            if section.name:
                found.setdefault(section.name, {})[field.name.partition(".")[2]] = value
            else:
                found[field.name] = value
    if faults:
        raise SpecInvalid("some fields cannot be read", details=faults)
    return found


def value_of(field: Field, text: str) -> Any:
    """One field's text as a value; None when it is empty. Raises UsageFault."""
    plain = text.strip()
    if not plain:
        return None
    if field.kind == "flag":
        return plain == "true"
    if field.kind == "number":
        if not plain.lstrip("-").isdecimal():
            raise UsageFault(f"must be a whole number, not '{plain}'")
        return int(plain)
    if field.kind == "lines":
        return [line.strip() for line in text.splitlines() if line.strip()]
    if field.kind == "pairs":
        return _pairs(text)
    if field.kind == "yaml":
        try:
            return yamlio.parse(text.encode(), field.label).value
        except SpecInvalid as error:
            raise UsageFault("; ".join(error.details)) from error
    return plain


def shown_as(field: Field, value: Any) -> str:
    """A value as a field shows it."""
    if value is None or value == "" or value == [] or value == () or value == {}:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if field.kind == "lines" and isinstance(value, list | tuple):
        return "\n".join(map(str, value))
    if field.kind == "pairs" and isinstance(value, Mapping):
        return "\n".join(f"{key}: {below}" for key, below in value.items())
    if field.kind == "yaml":
        return (
            "\n".join(f"- {edit.flow(item)}" for item in value) if isinstance(value, list | tuple) else edit.flow(value)
        )
    return str(value)


def label_of(name: str) -> str:
    """`command_line` → "Command line", `mtu` → "MTU"."""
    plain = name.rpartition(".")[2]
    return plain.upper() if plain in _ACRONYMS else plain.replace("_", " ").capitalize()


def _field(name: str, said: Mapping[str, Any], required: bool) -> Field:
    kind: Kind = "yaml"
    kinds = said.get("type")
    kinds = set(kinds) if isinstance(kinds, list) else {kinds}
    choices: tuple[str, ...] = ()
    if "enum" in said:
        kind, choices = "choice", tuple(map(str, said["enum"]))
    elif kinds == {"boolean"}:
        kind, choices = "flag", ("true", "false")
    elif kinds == {"integer"}:
        kind = "number"
    elif "array" in kinds and _plain_text(said.get("items", {})):
        kind = "lines"
    elif "object" in kinds and "properties" not in said:
        kind = "pairs"
    elif "string" in kinds:
        kind = "text"
    default = said.get("default")
    placeholder = "" if default is None or isinstance(default, Mapping | list) else _default(default)
    return Field(name, label_of(name), kind, choices, required, str(said.get("description", "")), "", placeholder)


def _default(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _plain_text(items: Mapping[str, Any]) -> bool:
    kinds = items.get("type")
    return "string" in kinds if isinstance(kinds, list) else kinds == "string"


def _resolved(said: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A schema with its $ref followed, and of alternatives the one that is not null nor a single word."""
    if "$ref" in said:
        target = definitions[str(said["$ref"]).rpartition("/")[2]]
        return {**_resolved(target, definitions), **{key: value for key, value in said.items() if key != "$ref"}}
    for way in ("anyOf", "oneOf", "allOf"):
        if way in said:
            kinds = [each for each in said[way] if each.get("type") != "null" and "const" not in each]
            if len(kinds) == 1:
                rest = {key: value for key, value in said.items() if key != way}
                return {**_resolved(kinds[0], definitions), **rest}
    return dict(said)


def _at(values: Mapping[str, Any], name: str) -> Any:
    value: Any = values
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _leads_into(path: str, name: str) -> bool:
    return path == name or path.startswith((f"{name}.", f"{name}["))


def _pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        key, colon, value = line.rpartition(":")
        if not colon or not key.strip() or not value.strip():
            raise UsageFault(f"line {number} must be KEY: VALUE, not '{line.strip()}'")
        found[key.strip().strip('"')] = value.strip()
    return found
