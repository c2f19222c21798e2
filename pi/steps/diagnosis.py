"""The lines of `pi doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pi import screen
from pi.errors import PiError
from pi.steps.machine_json import CheckedJson, DoctorJson, DoctorsJson

Level = Literal["ok", "warning", "failure"]

Place = Literal["here", "pod"]

COLOURS = {"ok": "32", "warning": "33", "failure": "31"}


@dataclass(frozen=True)
class Checked:
    """One check: what it found, and the command that fixes it."""

    place: Place
    check: str
    level: Level
    text: str
    fix: str = ""


def ok(place: Place, check: str, text: str) -> Checked:
    return Checked(place, check, "ok", text)


def warning(place: Place, check: str, text: str, fix: str) -> Checked:
    return Checked(place, check, "warning", text, fix)


def failure(place: Place, check: str, text: str, fix: str) -> Checked:
    return Checked(place, check, "failure", text, fix)


def show(title: str, lines: Iterable[Checked]) -> None:
    """Print the lines of one place, each with its level first; a fix is below."""
    screen.say(title)
    for each in lines:
        level = each.level.ljust(7)
        painted = f"\x1b[{COLOURS[each.level]}m{level}\x1b[0m" if screen.colour() else level
        screen.reveal(f"  {painted} {each.check:9} {screen.printable(each.text)}")
        if each.fix:
            screen.say(f"{'':21}{each.fix}")


def of_error(error: PiError) -> Checked:
    """Return the check of a pod that does not answer."""
    return failure("pod", "ssh", error.message, error.hint or "")


def as_json(here: Sequence[Checked], there: Mapping[str, Sequence[Checked]]) -> DoctorJson | DoctorsJson:
    """Return the checks of this machine with those of the only pod, or with those of several."""
    found = [*here, *(each for checks in there.values() for each in checks)]
    if len(there) < 2:
        return {"pod": next(iter(there), None), "ok": _are_well(found), "checks": list(map(_as_json, found))}
    return {
        "ok": _are_well(found),
        "here": list(map(_as_json, here)),
        "pods": [
            {"pod": pod, "ok": _are_well(checks), "checks": list(map(_as_json, checks))}
            for pod, checks in there.items()
        ],
    }


def _are_well(found: Sequence[Checked]) -> bool:
    return all(each.level != "failure" for each in found)


def _as_json(each: Checked) -> CheckedJson:
    return {"place": each.place, "check": each.check, "level": each.level, "text": each.text, "fix": each.fix or None}
