"""`-item` in a list of the cluster file: takes away what a layer below says, whatever kind of item the list holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import GetJsonSchemaHandler, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import CoreSchema

from sis.spec.yamlio import WrittenFloat, WrittenInt

ItemT = TypeVar("ItemT")


def removed(value: object) -> str | None:
    """What `-item` takes away; None for an item of another kind. `-22` is a number to YAML."""
    text = value.text if isinstance(value, WrittenInt | WrittenFloat) else value
    return text[1:] if isinstance(text, str) and text.startswith("-") and len(text) > 1 else None


class _OrRemoval(WrapValidator):
    """Lets `-item` pass unread: each layer is read alone before they are laid over each other, which ends removals."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        own = handler(core)
        if any(_takes_text(way) for way in (own, *own.get("anyOf", ()))):
            return own
        return {"anyOf": [{"type": "string", "pattern": "^-."}, own]}


def _takes_text(schema: Mapping[str, Any]) -> bool:
    """Whether any text is sound to an editor."""
    kinds = schema.get("type", ())
    return "string" in ([kinds] if isinstance(kinds, str) else kinds) and not {"pattern", "enum"} & schema.keys()


def _unread(value: object, read: ValidatorFunctionWrapHandler) -> object:
    return value if removed(value) is not None else read(value)


Item = Annotated[ItemT, _OrRemoval(_unread)]
"""An item of a list from which layers may take away. In what all layers come to there are no removals any more."""
