"""Files that pi writes on a pod, made from `pi/setup/templates`."""

from __future__ import annotations

import shlex
from importlib.resources import files
from typing import Any


def render(template: str, **values: Any) -> str:
    """Return a template with its values filled in; the filter `quote` makes a value one shell word."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - shell, not HTML
    environment.filters["quote"] = shlex.quote
    text = (files("pi.setup") / "templates" / template).read_text("utf-8")
    return environment.from_string(text).render(**values)
