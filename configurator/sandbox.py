"""Templates written by the site: sandboxed Jinja2 whose output, memory and steps are bounded, faults with their line.

The sandbox keeps a mistake in one template from stopping the head; a template of N steps costs N, and no value in it
grows beyond `LARGEST`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FrameType
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.filters import FILTERS
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from configurator.errors import SiteInvalid

LARGEST = 1 << 20
"""Letters of one output, items of one list."""
MOST_STEPS = 500_000
_MOST_BITS = 4096
_WIDEST_INDENT = 64
_FILTERS = (
    "abs", "batch", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items",
    "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "select",
    "selectattr", "slice", "sort", "sum", "title", "trim", "truncate", "unique", "upper",
    "wordcount",
)  # fmt: skip
_TEXT_METHODS = frozenset({
    "capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdigit", "islower", "isupper", "lower",
    "lstrip", "partition", "removeprefix", "removesuffix", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "title", "upper",
})  # fmt: skip


class _TooMuch(Exception):
    """A bound was reached."""


def render_template(source: str, text: str, values: Mapping[str, Any]) -> str:
    """The template `text` filled with `values`; `source` names it in faults.

    Raises SiteInvalid, "SOURCE:LINE: fault", for a fault in it, an unknown name, or a bound that was reached.
    """
    template = compiled(source, text)
    parts: list[str] = []
    size = 0
    try:
        with _steps_counted(source):
            for part in template.generate(values):
                size += len(part)
                if size > LARGEST:
                    raise _TooMuch(f"the output is longer than {LARGEST} letters")
                parts.append(part)
    except Exception as error:  # whatever a template does is the template's fault, told with its line
        raise _fault(source, error) from error
    return "".join(parts)


@functools.lru_cache(maxsize=512)
def compiled(source: str, text: str) -> Template:
    """The template, ready to fill. Raises SiteInvalid for a fault in its syntax."""
    try:
        code: CodeType = _environment().compile(text, name=source, filename=source)
    except TemplateSyntaxError as error:
        raise SiteInvalid(f"{source}:{error.lineno}: {error.message}") from error
    except (TemplateError, _TooMuch, ArithmeticError, ValueError, RecursionError) as error:
        raise SiteInvalid(f"{source}: {error}") from error
    return Template.from_code(_environment(), code, _environment().globals)


class _Generator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802  # Jinja2's name
        """`a ~ b` through the environment, which bounds it."""
        self.write("environment.concat((")
        for part in node.nodes:
            self.write("environment.finalize(")
            self.visit(part, frame)
            self.write("), ")
        self.write("))")


def _text(value: Any) -> str:
    """The value as text. A list of many names of one long text is short until it is written out."""
    if isinstance(value, str):
        return value
    size, todo = 0, [value]
    while todo:
        item = todo.pop()
        size += len(item) if isinstance(item, str) else 1
        if size > LARGEST:
            raise _TooMuch(f"a text grows beyond {LARGEST} letters")
        if isinstance(item, dict):
            todo.extend([*item, *item.values()])
        elif isinstance(item, list | tuple):
            todo.extend(item)
    return str(value)


def _to_json(value: Any) -> str:
    _text(value)
    return json.dumps(value, sort_keys=True)


def _concat(parts: Iterable[str]) -> str:
    size = 0
    kept: list[str] = []
    for part in parts:
        size += len(part)
        if size > LARGEST:
            raise _TooMuch(f"a text grows beyond {LARGEST} letters")
        kept.append(part)
    return "".join(kept)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})
    code_generator_class = _Generator
    concat = staticmethod(_concat)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _check_operands(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> None:
        """`str.format` is no safe attribute here: one width in it is a gigabyte."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in _TEXT_METHODS
        if isinstance(obj, int | float | bytes):
            return False
        return super().is_safe_attribute(obj, attr, value)


def _check_operands(operator: str, left: Any, right: Any) -> None:
    sizes = [len(value) if hasattr(value, "__len__") else None for value in (left, right)]
    if operator == "%" and sizes[0] is not None:
        raise _TooMuch("text is joined with ~, not with %")
    if operator == "+" and None not in sizes and sum(size or 0 for size in sizes) > LARGEST:
        raise _TooMuch(f"a value grows beyond {LARGEST} items")
    if operator == "*" and (sizes[0] is not None or sizes[1] is not None):
        times = next((value for value in (left, right) if isinstance(value, int)), 1)
        if max(sizes[0] or 0, sizes[1] or 0) * times > LARGEST:
            raise _TooMuch(f"a value grows beyond {LARGEST} items")
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * max(right, 1) if operator == "**" else left.bit_length() + right.bit_length()
        if operator in ("*", "**") and bits > _MOST_BITS:
            raise _TooMuch("a number grows too large")


def _join(value: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    if attribute is not None and attribute.startswith("_"):
        raise _TooMuch(f"{attribute} is no attribute of a value")
    words = (_text(getattr(item, attribute) if attribute else item) for item in value)
    return _concat(word for at, item in enumerate(words) for word in ((separator, item) if at else (item,)))


def _replace(value: str, old: str, new: str) -> str:
    text = _text(value)
    if len(text) + (text.count(old) if old else len(text) + 1) * len(new) > LARGEST:
        raise _TooMuch(f"a text grows beyond {LARGEST} letters")
    return text.replace(old, new)


def _indent(value: str, width: int = 4, first: bool = False) -> str:
    if not 0 <= width <= _WIDEST_INDENT:
        raise _TooMuch(f"an indent is 0..{_WIDEST_INDENT} wide")
    lines = _text(value).split("\n")
    return _join([" " * width + line if line and (at or first) else line for at, line in enumerate(lines)], "\n")


@functools.cache
def _environment() -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined,
        finalize=_text,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters = {name: FILTERS[name] for name in _FILTERS}
    environment.filters.update(join=_join, replace=_replace, indent=_indent, string=_text, tojson=_to_json)
    del environment.globals["lipsum"]
    return environment


@contextlib.contextmanager
def _steps_counted(source: str) -> Iterator[None]:
    """Stops the template `source` at MOST_STEPS lines, in this thread alone."""
    steps = 0

    def line(_frame: FrameType, _event: str, _value: object) -> Any:
        nonlocal steps
        steps += 1
        if steps > MOST_STEPS:
            raise _TooMuch(f"takes more than {MOST_STEPS} steps")
        return line

    def call(frame: FrameType, event: str, value: object) -> Any:
        return line(frame, event, value) if frame.f_code.co_filename == source else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)


def _fault(source: str, error: Exception) -> SiteInvalid:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == source]
    place = f"{source}:{lines[-1]}" if lines else source
    text = " ".join(str(error).split()) or type(error).__name__
    return SiteInvalid(f"{place}: {text if len(text) <= 200 else text[:197] + '...'}")
