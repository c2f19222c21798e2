"""Flags that several verbs share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pi.errors import InputError
from pi.fabric_tasks.flags import Options, flag, switch

LONGEST_TIMEOUT_S = 10**6


@dataclass(frozen=True)
class PodOptions(Options):
    """The options of a verb that works on one pod."""

    pod: str | None = flag("P", "use this pod instead of the active one", short="-p", completes="pod")


def pods_flag(help: str = "use these pods instead of the active one") -> Any:
    """Declare `--pod` of a verb that works on one pod or several."""
    return flag("P[,P]", help, short="-p", completes="pod")


def all_pods_switch() -> Any:
    return switch("every pod, all at the same time", excludes="--pod")


@dataclass(frozen=True)
class PodsOptions(Options):
    """The options of a verb that works on one pod or several."""

    pod: str | None = pods_flag()
    all_pods: bool = all_pods_switch()


def json_switch(*, requires: str = "") -> Any:
    """Declare `--json`; docs/json.md has the schema."""
    return switch("print JSON (schema: docs/json.md)", requires=requires)


def machine_flag() -> Any:
    """Declare the flag for a machine that is not a pod yet."""
    return flag("MACHINE", 'instead of a pod, an idle machine such as "2x RTX 4090"', excludes="--pod")


def check_machine(machine: str | None, all_pods: bool) -> None:
    """Raise InputError for a machine and all pods together."""
    if machine is not None and all_pods:
        raise InputError("flags-conflict", "--on and --all-pods cannot be used together", "remove one of them")


def timeout_s_of(text: str | None) -> int | None:
    """Return the seconds of `--timeout`, or None without a value. Raises InputError."""
    if text is not None and not (text.isdecimal() and text.isascii() and 0 < int(text) <= LONGEST_TIMEOUT_S):
        raise InputError(
            "timeout-invalid", f"invalid --timeout {text!r}", "use a number of seconds, such as --timeout 600"
        )
    return int(text) if text else None


UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def duration_s_of(text: str | None, flag: str) -> int | None:
    """Return the seconds of a time such as 90s or 30m, or None without a value. Raises InputError."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd]?)", text, re.ASCII)
    if not found:
        hint = "use a time such as 90s, 30m or 2h"
        raise InputError(f"{flag.removeprefix('--')}-invalid", f"invalid {flag} {text!r}", hint)
    return int(found[1]) * UNITS[found[2]]
