"""Check a tool call's arguments against the parts of JSON Schema that pi's tools use."""

from __future__ import annotations

import json
from typing import Any

QUOTED = 2000
"""Most characters of a model's invalid arguments that it gets back: its own message goes back with `{}`."""

_TYPES: dict[str, type[Any]] = {"string": str, "integer": int, "array": list}


def parsed(text: str) -> dict[str, Any]:
    """Parse a model's arguments, where empty text means none. Raises ValueError if invalid."""
    try:
        arguments = json.loads(text) if text.strip() else {}
        json.dumps(arguments, allow_nan=False)  # Python accepts NaN and 1e999, which are not JSON
    except RecursionError:
        raise ValueError("the arguments are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"the arguments are not valid JSON: {error}; you wrote: {text[:QUOTED]}") from None
    if not isinstance(arguments, dict):
        raise ValueError(f"the arguments must be a JSON object, not {json.dumps(arguments)[:60]}")
    return arguments


def checked(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments without optional ones that are null.

    Raises:
        ValueError: if an argument is unknown, missing or of another type; the text names each.
    """
    properties, required = schema["properties"], schema.get("required", [])
    given = {name: value for name, value in arguments.items() if value is not None or name in required}
    problems = [f"unknown argument {name!r}" for name in given if name not in properties]
    problems += [f"{name!r} is missing" for name in required if name not in given]
    for name in properties.keys() & given.keys():
        problems += _problems(name, given[name], properties[name])
    if problems:
        takes = ", ".join(f"{name}{'' if name in required else '?'}" for name in properties)
        raise ValueError(f"{'; '.join(sorted(problems))}; the arguments are: {takes}")
    return given


def _problems(name: str, value: Any, schema: dict[str, Any]) -> list[str]:
    expected = schema["type"]
    if type(value) is not _TYPES[expected]:  # a bool is not an integer here
        return [f"{name!r} must be of type {expected}"]
    if "minimum" in schema and value < schema["minimum"]:
        return [f"{name!r} must be at least {schema['minimum']}"]
    if "items" in schema:
        return [problem for item in value for problem in _problems(f"{name}[]", item, schema["items"])][:1]
    return []
