"""`pi stop`: stop one model or all."""

from __future__ import annotations

from typing import Any

from pi import screen
from pi.calls.events import Progress
from pi.calls.stop import Stopped, stop_models
from pi.errors import InputError
from pi.fabric_tasks.verb import verb
from pi.pods import changes
from pi.pods.types import check_name
from pi.steps import reconcile, where
from pi.steps.request import POD


@verb("[name]", "[NAME] [--pod P]", details={"name": "which model; without it, every model of the pod", **POD})
def stop(c: Any, name: str | None = None, pod: str | None = None) -> None:
    """Stop a model, or every model of the pod; returns when its processes, port and GPU are free."""
    names = [check_name(name, "model")] if name else []
    with (
        where.targeted(c, pod) as (place, link),
        changes.change("stop", f"{place.name}/{name or '*'}"),
        screen.progress() as line,
    ):
        found = stop_models(link, names, lambda event: line.show(event.text) if isinstance(event, Progress) else None)
        if name and found[0].found == "nothing" and name not in place.models:
            raise InputError(
                f"no model {name!r} on {place.name}", f"it has {', '.join(place.models) or 'none'}; see: pi list"
            )
    for stopped in found:
        _tell_stopped(stopped)
    with where.noted("the models that are gone stay in pods.json", "pi list clears them"):
        reconcile.forget(place, {name} if name else set(place.models) | {stopped.name for stopped in found})
    if not found:
        screen.say(f"nothing runs on {place.name}")


WORDS = {
    "running": "is stopped",
    "starting": "is stopped before it was ready; what was downloaded stays cached",
    "leftovers": "was not running any more; what it left is cleared",
    "nothing": "was not on the pod any more; forgotten",
}


def _tell_stopped(stopped: Stopped) -> None:
    forced = f" (forced after {stopped.forced_after_s:.0f} s)" if stopped.forced_after_s else ""
    screen.say(f"{stopped.name} {WORDS[stopped.found]}{forced}")
    if not stopped.memory_proven:
        screen.note("  nvidia-smi does not answer, so its GPU memory is not proven free; see: pi list")
    if stopped.other_processes:
        screen.note(f"  its port is in use by {', '.join(stopped.other_processes)}, which is not pi's")
