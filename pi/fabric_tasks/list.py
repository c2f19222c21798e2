"""`pi list`: the models on a pod."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.door import kept
from pi.door.kept import Door
from pi.errors import Interrupted
from pi.fabric_tasks.flags import switch
from pi.fabric_tasks.options import PodsOptions, json_switch
from pi.fabric_tasks.verb import verb
from pi.steps import group, listing, reconcile, spending, where
from pi.steps.group import Asked
from pi.steps.listing import DoorStops, Seen

WATCH_S = 2


@dataclass(frozen=True)
class ListOptions(PodsOptions):
    json: bool = json_switch()
    watch: bool = switch(f"show it again every {WATCH_S} s, until Ctrl+C", excludes="--json")


@verb(ListOptions, name="list", examples=("pi list", "pi list --all-pods --json", "pi list -p dc1,dc2 --watch"))
def list_models(c: Any, options: ListOptions) -> None:
    """List the pod's models and their current state."""
    if options.watch:
        return _watch(c, options)
    began = time.monotonic()
    with screen.progress() as line:
        line.run("  asking the pod", screen.clock_since(began), quiet=True)
        asked = group.ask(c, where.several(c, options.pod, options.all_pods), listing.see, listing.prepare)
    if options.json:
        screen.say_json(listing.as_json(asked, _door_stops()))
    else:
        _show(asked)
    _reconcile(asked)
    group.raise_failed(asked)


def _door_stops() -> DoorStops:
    door = kept.opened() or Door(kept.HOST, kept.PORT)
    return door.stops_after_s


def _show(asked: list[Asked[Seen]]) -> None:
    for each in asked:
        for warning in listing.warnings(each.pod, each.answer.status) if each.answer else ():
            screen.note(f"warning: {f'{each.pod.name}: ' if len(asked) > 1 else ''}{warning}")
    for line in listing.lines(asked, _door_stops()):
        screen.reveal(line)


def _reconcile(asked: list[Asked[Seen]]) -> None:
    for each in asked:
        if each.answer:
            reconcile.reconcile(each.pod, each.answer.status)
            spending.note_asked(each.pod, each.answer.status)


def _watch(c: Any, options: ListOptions) -> None:
    """Show the list again and again. Only a pod that never answered is an error."""
    answered = False
    try:
        while True:
            asked = group.ask(c, where.several(c, options.pod, options.all_pods), listing.see, listing.prepare)
            answered = answered or any(each.answer for each in asked)
            if not answered:
                group.raise_failed(asked)
            errors = [each.error.render() for each in asked if each.error]
            screen.show_again([*listing.lines(asked, _door_stops()), *map(screen.printable, errors)])
            _reconcile(asked)
            time.sleep(WATCH_S)
    except (KeyboardInterrupt, Interrupted):
        return
