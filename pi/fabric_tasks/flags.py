"""Declare each flag and operand of a verb once, as a field of its options; usage, help and parsing follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, TypeVar

from pi.errors import InputError


@dataclass(frozen=True)
class Options:
    """What the user asked of a verb. Subclasses declare fields with `flag`, `repeated`, `switch`, `tail`, `operand`."""


@dataclass(frozen=True)
class Flag:
    """A flag as it is declared."""

    value: str
    """Its value in the usage line, such as "SECONDS"; empty for a switch."""
    help: str
    kind: type = str
    choices: tuple[str, ...] = ()
    required: bool = False
    requires: str = ""
    """The flag without which this one means nothing, such as "--for"."""
    excludes: str = ""
    """The flag that cannot be used together with this one."""
    takes_rest: bool = False
    """Whether every word after it is its value."""
    repeats: bool = False
    """Whether it may be given more than once, each time with another value."""
    short: str = ""
    """Another way to type it, such as "-p"; empty if there is none."""
    completes: str = ""
    """What completion offers as its value, a key of `pi.fabric_tasks.candidates.KINDS`."""
    attribute: str = ""
    default: Any = None

    @property
    def is_list(self) -> bool:
        """Whether its value is a tuple of words."""
        return self.takes_rest or self.repeats

    @property
    def name(self) -> str:
        return "--" + self.attribute.strip("_").replace("_", "-")

    @property
    def written(self) -> str:
        """The flag with its value, such as "--timeout SECONDS"."""
        return f"{self.name} {self.value}".rstrip()

    @property
    def names(self) -> tuple[str, ...]:
        """What a user may type for it, such as "-y" and "--yes"."""
        return (self.short, self.name) if self.short else (self.name,)

    @property
    def explained(self) -> str:
        """How the help lists it, such as "-n, --lines N"."""
        return ", ".join([*self.names[:-1], self.written])

    def is_given(self, options: Options) -> bool:
        return bool(getattr(options, self.attribute) != self.default)


@dataclass(frozen=True)
class Operand:
    """A word without a flag, as it is declared."""

    written: str
    """How the usage line shows it, such as "NAME" or "[NAME]"."""
    help: str
    required: bool
    takes_rest: bool
    is_command: bool = False
    """Whether it is a command line. The user may have omitted its quotes."""
    completes: str = ""
    """What completion offers, a key of `pi.fabric_tasks.candidates.KINDS`."""
    attribute: str = ""
    default: Any = None

    @property
    def is_list(self) -> bool:
        """Whether its value is a tuple of words."""
        return self.takes_rest

    @property
    def explained(self) -> str:
        """How the help lists it."""
        return self.written


def flag(
    value: str,
    help: str,
    default: str | int | None = None,
    *,
    required: bool = False,
    requires: str = "",
    excludes: str = "",
    short: str = "",
    completes: str = "",
) -> Any:
    """Declare a flag with a value: an int if its default is one."""
    kind = int if isinstance(default, int) else str
    declared = Flag(
        value, help, kind, required=required, requires=requires, excludes=excludes, short=short, completes=completes
    )
    return _declared(declared, default)


def choice(choices: tuple[str, ...], help: str, default: str | None = None) -> Any:
    """Declare a flag whose value is one of several words."""
    return _declared(Flag("|".join(choices), help, choices=choices), default)


def switch(help: str, *, requires: str = "", excludes: str = "", short: str = "") -> Any:
    """Declare a flag without a value."""
    return _declared(Flag("", help, bool, requires=requires, excludes=excludes, short=short), False)


def repeated(value: str, help: str, *, completes: str = "") -> Any:
    """Declare a flag that may be given more than once; its field is a tuple of the values in their order."""
    return _declared(Flag(value, help, repeats=True, completes=completes), ())


def tail(value: str, help: str) -> Any:
    """Declare a flag that takes every word after it."""
    return _declared(Flag(value, help, takes_rest=True), ())


def operand(
    written: str,
    help: str,
    *,
    required: bool = False,
    takes_rest: bool = False,
    is_command: bool = False,
    completes: str = "",
) -> Any:
    """Declare an operand; `takes_rest` makes it a tuple of every word left, `is_command` a command line."""
    declared = Operand(written, help, required, takes_rest, is_command, completes)
    return _declared(declared, MISSING if required else () if takes_rest else None)


def _declared(declared: Flag | Operand, default: Any) -> Any:
    return field(default=default, kw_only=True, metadata={"declared": declared})


def operands_of(options: type[Options]) -> list[Operand]:
    """Return the operands of a verb in their order."""
    return [each for each in _all(options) if isinstance(each, Operand)]


def flags_of(options: type[Options]) -> list[Flag]:
    """Return the flags of a verb: required ones first, and last the one that takes every word after it."""
    found = [each for each in _all(options) if isinstance(each, Flag)]
    return sorted(found, key=lambda each: (each.takes_rest, not each.required or bool(each.requires)))


def declared_by(options: type[Options]) -> list[Flag | Operand]:
    """Return the operands and flags of a verb, those without a default first."""
    operands = sorted(operands_of(options), key=lambda operand: not operand.required)
    return [*operands, *flags_of(options)]


_FOUND: dict[type[Options], tuple[Flag | Operand, ...]] = {}
"""What `_all` has returned for each verb: pi asks for it many times in a run."""


def _all(options: type[Options]) -> tuple[Flag | Operand, ...]:
    if options not in _FOUND:
        _FOUND[options] = tuple(
            replace(each.metadata["declared"], attribute=each.name, default=each.default) for each in fields(options)
        )
    return _FOUND[options]


AnyOptions = TypeVar("AnyOptions", bound=Options)


def options_from(kind: type[AnyOptions], values: Mapping[str, Any]) -> AnyOptions:
    """Make options of the values of fields.

    Raises:
        InputError: for a value that is not one of the choices, and for flags that cannot be combined.
    """
    lists = {each.attribute for each in declared_by(kind) if each.is_list}
    options = kind(**{name: _words(value) if name in lists else value for name, value in values.items()})
    flags = {each.name: each for each in flags_of(kind)}
    for each in flags.values():
        if each.is_given(options):
            _check(each, flags, options)
    return options


def _words(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the value of a list; a fabfile may give a single word instead of a list."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def _check(given: Flag, flags: Mapping[str, Flag], options: Options) -> None:
    value = getattr(options, given.attribute)
    if given.choices and value not in given.choices:
        raise InputError("flag-invalid", f"invalid {given.name} {value!r}", f"use one of {', '.join(given.choices)}")
    if given.requires and not flags[given.requires].is_given(options):
        raise InputError(
            "flag-requires", f"{given.name} requires {given.requires}", f"add {flags[given.requires].written}"
        )
    if given.excludes and flags[given.excludes].is_given(options):
        raise InputError(
            "flags-conflict", f"{given.excludes} and {given.name} cannot be used together", "remove one of them"
        )


def words_of(options: Options) -> list[str]:
    """Return the flags to type for these options."""
    words: list[str] = []
    for each in flags_of(type(options)):
        if each.is_given(options):
            value = getattr(options, each.attribute)
            if each.repeats:
                words += [word for one in value for word in (each.name, one)]
            else:
                words += [each.name, *([] if each.kind is bool else value if each.takes_rest else [str(value)])]
    return words
