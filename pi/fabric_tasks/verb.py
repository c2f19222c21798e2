"""`@verb`: an Invoke task that also knows how it is written on pi's command line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from invoke import Exit, Task

from pi import faults
from pi.errors import Interrupted, PiError, signal_of
from pi.screen import printable


class Verb(Task):  # type: ignore[type-arg]
    """A task with the operands and the usage line of its verb.

    `operands` names the parameters that words without a flag go to, in order: `name` is required, `[name]`
    optional, `message...` takes the rest. `tail` names a flag after which every word is taken as it is.
    """

    operands: tuple[str, ...]
    usage: str
    tail: str | None
    details: dict[str, str]


def verb(
    operands: str = "",
    usage: str = "",
    *,
    tail: str | None = None,
    details: dict[str, str] | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Verb]:
    """Make a function a task. A PiError that it raises ends the program with its message and exit code,
    under `pi`, `inv` and `fab` alike."""

    def decorate(body: Callable[..., Any]) -> Verb:
        @functools.wraps(body)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return body(*args, **kwargs)
            except PiError as error:
                raise Exit(printable(error.render()), error.exit_code) from None
            except KeyboardInterrupt as stop:
                interrupted = Interrupted("interrupted", signal_of(stop))
                raise Exit(interrupted.render(), interrupted.exit_code) from None
            except (Exit, BrokenPipeError):
                raise
            except Exception as error:
                raise Exit(printable(faults.told(error)), 1) from None

        task = Verb(run, auto_shortflags=False, help=details or {}, **options)
        task.operands = tuple(operands.split())
        task.usage = usage
        task.tail = tail
        task.details = details or {}
        return task

    return decorate
