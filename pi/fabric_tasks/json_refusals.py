"""Refusals as JSON, for verbs with `--json`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from invoke import Exit

from pi import screen
from pi.errors import AbsentError, BusyError, InputError
from pi.planning.plan_json import refusal_as_json


@contextmanager
def json_refusals(wanted: bool) -> Iterator[None]:
    """Print a refusal as JSON on stdout with exit code 2, if `wanted`.

    That is bad input, a missing path, or a model that does not fit or has no room now. Other errors stay as they are.
    """
    try:
        yield
    except (InputError, BusyError, AbsentError) as error:
        if not wanted:
            raise
        screen.say_json(refusal_as_json(error))
        raise Exit(code=InputError.exit_code) from None
