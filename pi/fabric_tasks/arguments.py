"""Arguments for `inv` and `fab` that read words as the help of a verb says. `pi` has a grammar of its own."""

from __future__ import annotations

from typing import Any

from invoke import Argument
from invoke.exceptions import ParseError


class Words(Argument):
    """An argument that takes all words up to the next flag of its verb; Invoke's own list takes one.

    Invoke's parser offers words to a flag while its `raw_value` is None, and accepts that at the end if the value is
    optional. It rejects a word that is also the name of a task.
    """

    @property
    def raw_value(self) -> None:
        return None

    @raw_value.setter
    def raw_value(self, value: Any) -> None:
        """Do nothing: the words are in `value`."""

    def set_value(self, value: Any, cast: bool = True) -> None:
        """Add a word. Invoke's parser also sets True, without a cast, at the end of an optional value."""
        if cast:
            self._value = [*self.value, value]


class Number(Argument):
    """An argument that is a whole number. Invoke ends with a traceback if the word is not one."""

    def set_value(self, value: Any, cast: bool = True) -> None:
        try:
            super().set_value(value, cast)
        except ValueError:
            raise ParseError(f"--{self.names[0]} {value!r} is not a whole number") from None


def as_declared(argument: Argument) -> Argument:
    """Return the argument as one that reads words as its flag or operand declares."""
    kinds: dict[Any, type[Argument]] = {list: Words, int: Number}
    if argument.kind not in kinds:
        return argument
    return kinds[argument.kind](
        names=argument.names,
        kind=argument.kind,
        default=argument.default,
        help=argument.help,
        positional=argument.positional,
        optional=argument.kind is list,
        attr_name=argument.attr_name,
    )
