"""The flags of a task."""

from __future__ import annotations

from invoke import Argument

from pi.fabric_tasks.verb import Verb


def flags_of(task: Verb) -> dict[str, Argument]:
    """The task's arguments by flag."""
    return {
        f"--{name}": argument for argument in task.get_arguments(ignore_unknown_help=True) for name in argument.names
    }
