"""`pi prompt`: talk to a model, with tools that read the files of this directory."""

from __future__ import annotations

from typing import Any

from pi.fabric_tasks.verb import verb


@verb("", "")
def prompt(c: Any) -> None:
    """x"""
