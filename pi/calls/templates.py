"""Files that pi writes on a pod, from `pi/setup/templates`."""

from __future__ import annotations

import shlex
from importlib.resources import files
from typing import Any


def render(template: str, **values: Any) -> str:
    """A file of `pi/setup/templates` with values put in; its `quote` filter makes any value one shell word."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - shell, not HTML
    environment.filters["quote"] = shlex.quote
    text = (files("pi.setup") / "templates" / template).read_text("utf-8")
    return environment.from_string(text).render(**values)
