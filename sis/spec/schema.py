"""JSON Schemas of the specs, for editors: `python -m sis.spec.schema imagespec|layout|cluster`."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel

from sis.errors import NotFound
from sis.spec.cluster import ClusterSpec
from sis.spec.imagespec import ImageSpec
from sis.spec.layout import LayoutSpec

MODELS: dict[str, type[BaseModel]] = {"imagespec": ImageSpec, "layout": LayoutSpec, "cluster": ClusterSpec}

_OPTIONAL_WITH_EXTENDS = ("distribution", "release")


def schema(kind: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of `imagespec`, `layout` or `cluster` as the admin writes it. Raises NotFound."""
    model = MODELS.get(kind)
    if model is None:
        raise NotFound.of("schema", kind, MODELS)
    made = model.model_json_schema(mode="validation")
    if kind == "imagespec":
        made["required"] = [name for name in made["required"] if name not in _OPTIONAL_WITH_EXTENDS]
        _or_word(made["properties"], "sources", "host")
        _or_word(made["properties"], "kernel", "none")
    if kind == "layout":
        _from_role(made["$defs"]["PartitionSpec"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _or_word(properties: dict[str, Any], key: str, word: str) -> None:
    """Where a list or a mapping is meant, a word may stand for it."""
    properties[key] = {"oneOf": [{"const": word}, properties[key]]}


def _from_role(partition: dict[str, Any]) -> None:
    """Keys that are filled in from the role need not be written."""
    partition["required"] = ["role", "size"]


if __name__ == "__main__":
    print(json.dumps(schema(sys.argv[1] if len(sys.argv) > 1 else "imagespec"), indent=2))
