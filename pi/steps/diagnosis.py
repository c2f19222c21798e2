"""The lines of `pi doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pi import screen
from pi.steps.machine_json import DoctorJson

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
        screen.reveal(f"  {painted} {each.check:9}{screen.printable(each.text)}")
        if each.fix:
            screen.say(f"{'':20}{each.fix}")


def as_json(pod: str | None, lines: Iterable[Checked]) -> DoctorJson:
    found = list(lines)
    return {
        "pod": pod,
        "ok": all(each.level != "failure" for each in found),
        "checks": [
            {"place": each.place, "check": each.check, "level": each.level, "text": each.text, "fix": each.fix or None}
            for each in found
        ],
    }
