"""Make JSON schemas of the types that verbs print with `--json`, and keep docs/json.md in step with them.

<!-- schema: ListJson -->
```json
{}
```
<!-- /schema -->
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from pi.planning import offers, plan_json
from pi.steps import json_shapes, machine_json

PAGE = Path(__file__).parents[1] / "docs" / "json.md"

BLOCK = re.compile(r"(<!-- schema: (\w+)(\[\])? -->\n```json\n)(.*?)(```\n<!-- /schema -->)", re.DOTALL)

ROOMS = (json_shapes, machine_json, plan_json, offers)
"""Modules with the types that verbs print."""

SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema(shape: Any) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a type: a TypedDict, or a dataclass that is printed with its fields."""
    if shape in SIMPLE:
        return {"type": SIMPLE[shape]}
    origin, arguments = get_origin(shape), get_args(shape)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return _union([schema(argument) for argument in arguments])
    if origin in (list, tuple, Sequence):
        return {"type": "array", "items": schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema(arguments[1])}
    if shape is offers.Offer:
        return _object({**get_type_hints(shape), "floor": get_type_hints(shape)["min_vllm"]}, shape, {"min_vllm"})
    if is_typeddict(shape) or dataclasses.is_dataclass(shape):
        return _object(get_type_hints(shape), shape, set())
    raise TypeError(shape)


def _union(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of one type or another, such as an integer or null."""
    if all(set(each) == {"type"} for each in schemas):
        return {"type": [each["type"] for each in schemas]}
    return {"anyOf": schemas}


def _object(fields: dict[str, Any], shape: Any, left_out: set[str]) -> dict[str, Any]:
    required = getattr(shape, "__required_keys__", fields)
    return {
        "type": "object",
        "description": " ".join((inspect.getdoc(shape) or "").split()),
        "properties": {key: schema(hint) for key, hint in fields.items() if key not in left_out},
        "required": [key for key in fields if key in required and key not in left_out],
    }


def named(name: str, is_list: bool = False) -> dict[str, Any]:
    """Return the schema that docs/json.md shows under a name."""
    found = schema(
        next(getattr(room, name) for room in (json_shapes, machine_json, plan_json, offers) if hasattr(room, name))
    )
    return {"type": "array", "items": found} if is_list else found


def shown(name: str) -> dict[str, Any]:
    """Return a schema as docs/json.md has it. Raises StopIteration if it has none."""
    text = PAGE.read_text(encoding="utf-8")
    return dict(json.loads(next(block[4] for block in BLOCK.finditer(text) if block[2] == name)))


def page() -> str:
    """Return docs/json.md with the schemas of the types."""

    def fresh(block: re.Match[str]) -> str:
        return f"{block[1]}{json.dumps(named(block[2], bool(block[3])), indent=1)}\n{block[5]}"

    return BLOCK.sub(fresh, PAGE.read_text(encoding="utf-8"))
