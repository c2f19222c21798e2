"""`@verb`: an Invoke task whose flags and operands come from its options."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING
from inspect import Parameter, Signature
from typing import Any

from invoke import Argument, Exit, Task

from pi import faults
from pi.errors import Interrupted, PiError, signal_of
from pi.fabric_tasks.arguments import as_declared
from pi.fabric_tasks.flags import AnyOptions, Options, declared_by, flags_of, options_from
from pi.screen import printable
from pi.steps import spending


class Verb(Task):  # type: ignore[type-arg]
    """A task with its declared options, a remark that ends its usage line, and commands that its help shows."""

    options: type[Options]
    remark: str
    examples: tuple[str, ...]

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return arguments that read words as the help says, and keep `help`, which Invoke empties."""
        kept = dict(self.help)
        shorts = {flag.attribute: flag.short for flag in flags_of(self.options) if flag.short}
        try:
            arguments = [as_declared(argument) for argument in super().get_arguments(ignore_unknown_help)]
        finally:
            self.help = kept
        for argument in arguments:
            if short := shorts.get(argument.name or ""):
                argument.names = (*argument.names, short.removeprefix("-"))
        return arguments


def verb(
    options: type[AnyOptions], *, name: str | None = None, remark: str = "", examples: tuple[str, ...] = ()
) -> Callable[[Callable[[Any, AnyOptions], None]], Verb]:
    """Make a function of a context and its options a task, with a parameter for each flag and operand.

    A PiError ends the program with its message and exit code, under `pi`, `inv` and `fab` alike.
    """
    signature = _signature(options)

    def decorate(body: Callable[[Any, AnyOptions], None]) -> Verb:
        @functools.wraps(body)
        def run(*args: Any, **kwargs: Any) -> None:
            values = signature.bind(*args, **kwargs).arguments
            context = values.pop("c")
            with _exit_codes():
                try:
                    body(context, options_from(options, values))
                except BaseException:
                    spending.remind(ask=False)
                    raise
                spending.remind()

        run.__signature__ = signature  # type: ignore[attr-defined]
        declared = declared_by(options)
        task = Verb(
            run,
            name=name,
            auto_shortflags=False,
            help={each.attribute: each.help for each in declared},
            iterable=[each.attribute for each in declared if each.is_list],
        )
        task.options, task.remark, task.examples = options, remark, examples
        return task

    return decorate


def _signature(options: type[Options]) -> Signature:
    """Return what Invoke reads: required operands without a default, everything else with one."""
    kind = Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        Parameter(each.attribute, kind, default=_DEFAULTS.get(each.default, each.default))
        for each in declared_by(options)
    ]
    return Signature([Parameter("c", kind), *parameters])


_DEFAULTS = {MISSING: Parameter.empty, (): None}
"""Defaults of fields as Invoke understands them; it makes lists itself."""


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn an error into its message and exit code, which Invoke prints and ends with."""
    try:
        yield
    except PiError as error:
        raise Exit(printable(error.render()), error.exit_code) from None
    except KeyboardInterrupt as stop:
        interrupted = Interrupted("interrupted", "interrupted", signal_of(stop))
        raise Exit(interrupted.render(), interrupted.exit_code) from None
    except (Exit, BrokenPipeError):
        raise
    except Exception as error:
        raise Exit(printable(faults.describe(error)), 1) from None
