"""`pi key show`: the key of the models."""

from __future__ import annotations

from typing import Any

from pi import screen
from pi.fabric_tasks.flags import Options
from pi.fabric_tasks.verb import verb
from pi.steps import keys


@verb(Options, examples=("pi key show", 'export OPENAI_API_KEY="$(pi key show)"'))
def show(c: Any, options: Options) -> None:
    """Print the key of your models: PI_API_KEY, or that of --generate-key."""
    screen.reveal(keys.api_key())
