"""What every spec model shares: frozen, unknown keys refused, scalars as written, faults in plain words."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Strict, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from sis.errors import near_names
from sis.spec.places import Fault, Path, dotted, refuse
from sis.spec.yamlio import Document, WrittenFloat, WrittenInt


class Spec(BaseModel):
    """Base of the models of text; its fields are the keys the admin may write."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _as_written(value: object) -> object:
    return value.text if isinstance(value, WrittenInt | WrittenFloat) else value


def _mode(value: object) -> object:
    written = value.text if isinstance(value, WrittenInt) else value
    if isinstance(written, str) and re.fullmatch(r"(?:0o?)?[0-7]{3,4}", written):
        return int(written.replace("o", ""), 8)
    raise ValueError(f"must be octal permissions such as 0644, not {said(value)}")


def _plain_int(value: object) -> object:
    return int(value) if isinstance(value, WrittenInt) else value


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)


def size_bytes(text: str) -> int:
    """`512M` → bytes; units are powers of 1024. Raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"must be a size such as 512M or 200G, not '{text}'")
    number, unit = found.groups()
    power = "KMGTP".index(unit.upper()) + 1 if unit else 0
    return int(float(number) * 1024**power)


def _size(value: object) -> object:
    written = _as_written(value)
    return size_bytes(written if isinstance(written, str) else said(value))


_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62})")


def _name(value: object) -> object:
    written = _as_written(value)
    if isinstance(written, str) and not _NAME.fullmatch(written):
        raise ValueError(f"must be small letters, digits, '.', '_' and '-', not '{written}'")
    return written


def _absolute(value: object) -> object:
    if isinstance(value, str) and (not value.startswith("/") or "/../" in f"{value}/" or "\0" in value):
        raise ValueError(f"must be an absolute path without '..', not '{value}'")
    return value


def matching(pattern: str, what: str) -> BeforeValidator:
    """Text must fit the whole of `pattern`; `what` begins the message when it does not."""
    compiled = re.compile(pattern)

    def check(value: object) -> object:
        if isinstance(value, str) and not compiled.fullmatch(value):
            raise ValueError(f"{what}, not '{value}'")
        return value

    return BeforeValidator(check)


Text = Annotated[str, BeforeValidator(_as_written), WithJsonSchema({"type": ["string", "number"]})]
Name = Annotated[str, BeforeValidator(_name), WithJsonSchema({"type": ["string", "number"]})]
Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), BeforeValidator(_plain_int)]
Mode = Annotated[
    int, BeforeValidator(_mode), WithJsonSchema({"type": ["string", "integer"], "pattern": "^0?o?[0-7]{3,4}$"})
]
SizeBytes = Annotated[int, BeforeValidator(_size), WithJsonSchema({"type": ["string", "integer"]})]
AbsolutePath = Annotated[str, BeforeValidator(_absolute), WithJsonSchema({"type": "string", "pattern": "^/"})]


TimeZone = Annotated[Text, matching(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", "must be a zone such as Europe/Paris")]
Console = Annotated[Text, matching(r"tty[A-Za-z]+[0-9]+(,[0-9]+[a-z0-9]*)?", "must be a console such as ttyS0,115200")]

ModelT = TypeVar("ModelT", bound=BaseModel)
Checks = Callable[[ModelT], Iterable[tuple[Path, str]]]


class Reading(Generic[ModelT]):
    """A document being turned into a model; collects every fault before it refuses."""

    def __init__(self, document: Document, *, shown_as: str | None = None, faults: Sequence[Fault] = ()) -> None:
        """`faults` are those its text was found to have."""
        self.document = document
        self.sound: Any = None
        """The document's value without its faulty keys, once `finish` runs the checks."""
        self.faults: list[Fault] = list(faults)
        self._shown_as = shown_as or document.file

    def fault(self, path: Path, text: str) -> None:
        """One thing wrong at `path`, shown with its place."""
        self.faults.append(Fault(self.document.place(path), dotted(path), text))

    def finish(self, model: type[ModelT], *checks: Checks[ModelT]) -> ModelT:
        """The model, or SpecInvalid with every fault: those of shapes, of `checks`, and those told before."""
        made = self._shapes(model)
        if made is not None:
            for check in checks:
                for path, text in check(made):
                    self.fault(path, text)
        if self.faults or made is None:
            raise refuse(self._shown_as, self.faults)
        return made

    def _shapes(self, model: type[ModelT]) -> ModelT | None:
        """Validate; after faults, validate again without the faulty leaves, so that the checks can still run."""
        value = self.document.value if self.document.value is not None else {}
        removed: set[Path] = set()
        for _ in range(3):
            try:
                made = model.model_validate(value)
                self.sound = value
                return made
            except ValidationError as error:
                details = [detail for detail in error.errors() if _path(detail)[0] not in removed]
            details = [detail for detail in details if detail["type"] != "too_short" or not detail["input"]]
            leaves = [self._tell(model, detail) for detail in details]
            if not leaves or any(not path or isinstance(path[-1], int) for path in leaves):
                return None
            removed.update(leaves)
            value = _without(value, removed)
        return None

    def _tell(self, model: type[BaseModel], detail: ErrorDetails) -> Path:
        path, is_key = _path(detail)
        by_key = is_key or detail["type"] == "extra_forbidden"
        place = self.document.key_place(path) if by_key else self.document.place(path)
        shown = path[:-1] if detail["type"] in ("extra_forbidden", "missing") else path
        self.faults.append(Fault(place, dotted(shown), _words(model, detail, path)))
        return path


def read(document: Document, model: type[ModelT], *checks: Checks[ModelT]) -> ModelT:
    """The model of a document, its shapes and `checks` (path and text of each fault) verified together."""
    return Reading[ModelT](document).finish(model, *checks)


def said(value: object) -> str:
    """A value as it was written, for messages."""
    written = _as_written(value)
    if written is None:
        return "nothing"
    if isinstance(written, bool):
        return str(written).lower()
    if isinstance(written, dict):
        return "a mapping"
    if isinstance(written, list | tuple):
        return "a list"
    text = str(written)
    return f"'{text if len(text) <= 60 else text[:57] + '…'}'"


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """`unknown profile 'gpo'; did you mean 'gpu'?`"""
    names = list(known)
    near = near_names(name, names, 1)
    if near:
        return f"unknown {kind} '{name}'; did you mean '{near[0]}'?"
    there = f"; there is {', '.join(sorted(names)[:8])}" if names else f"; there is no {kind}"
    return f"unknown {kind} '{name}'{there}"


def _path(detail: ErrorDetails) -> tuple[Path, bool]:
    """Where the fault is in the document, and whether it is the key rather than its value."""
    path = tuple(detail["loc"])
    if path and path[-1] == "[key]":
        return path[:-1], True
    return path, False


def _words(model: type[BaseModel], detail: ErrorDetails, path: Path) -> str:
    kind, given = detail["type"], detail["input"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(model, path)
    if kind == "missing":
        return f"'{path[-1]}' is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return _not_one_of(model, path, given)
    if kind == "too_short":
        return "needs at least one entry"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return f"must be {bound}, not {said(given)}"
    wanted = {
        "string_type": "text",
        "bool_type": "true or false",
        "int_type": "a whole number",
        "tuple_type": "a list",
        "list_type": "a list",
        "dict_type": "a mapping",
        "model_type": "a mapping",
        "model_attributes_type": "a mapping",
    }.get(kind)
    if wanted is not None:
        more = " (put it in quotes)" if wanted == "text" and isinstance(given, bool) else ""
        return f"must be {wanted}, not {said(given)}{more}"
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, not {said(given)}"


def _unknown_key(model: type[BaseModel], path: Path) -> str:
    key = str(path[-1])
    known = [name for owner in _models_at(model, path[:-1]) for name in _keys(owner)]
    return unknown("key", key, known)


def _not_one_of(model: type[BaseModel], path: Path, given: object) -> str:
    choices = [
        str(choice) for kind in _types_at(model, path) if get_origin(kind) is Literal for choice in get_args(kind)
    ]
    shown = f"{', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else "".join(choices)
    near = near_names(str(given), choices, 1) if isinstance(given, str) else []
    return f"must be {shown}, not {said(given)}" + (f"; did you mean '{near[0]}'?" if near else "")


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_at(model: type[BaseModel], path: Path) -> Iterator[type[BaseModel]]:
    for kind in _types_at(model, path):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind


def _types_at(model: type[BaseModel], path: Path) -> list[Any]:
    """The types a value at `path` may have, by the model's annotations."""
    kinds: list[Any] = [model]
    for part in path:
        below: list[Any] = []
        for kind in kinds:
            below += _below(kind, part)
        kinds = [bare for kind in below for bare in _bare(kind)]
    return kinds


def _below(kind: Any, part: str | int) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [field.annotation for name, field in kind.model_fields.items() if part in (name, field.alias)]
    origin, args = get_origin(kind), get_args(kind)
    if origin in (list, tuple) and args:
        return [args[0]]
    if origin is dict:
        return [args[1]]
    return []


def _bare(kind: Any) -> list[Any]:
    """Without Annotated; a union as its members."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _bare(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return [bare for member in get_args(kind) for bare in _bare(member)]
    return [kind]


def _without(value: Any, paths: Container[Path], at: Path = ()) -> Any:
    """A copy of `value` that lacks the keys at `paths`."""
    if isinstance(value, dict):
        return {key: _without(below, paths, (*at, key)) for key, below in value.items() if (*at, key) not in paths}
    if isinstance(value, list):
        return [_without(below, paths, (*at, index)) for index, below in enumerate(value)]
    return value
