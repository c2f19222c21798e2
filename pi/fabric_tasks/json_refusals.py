"""Refusals as JSON, for verbs with `--json`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from invoke import Exit

from pi import screen
from pi.errors import BusyError, InputError
from pi.planning.plan_json import refusal_as_json


@contextmanager
def json_refusals(wanted: bool) -> Iterator[None]:
    """Print bad input, and a model that does not fit or has no room now, as JSON on stdout, if `wanted`.

    The exit code stays the error's own.
    """
    try:
        yield
    except (InputError, BusyError) as error:
        if not wanted:
            raise
        screen.say_json(refusal_as_json(error))
        raise Exit(code=error.exit_code) from None
