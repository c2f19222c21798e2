"""Say how a model was stopped."""

from __future__ import annotations

from pi import screen
from pi.calls.stop import Stopped

OUTCOMES = {
    "running": "is stopped",
    "starting": "is stopped before it was ready; its downloads stay cached",
    "unrecorded": "is stopped; it ran without a valid record on the pod",
    "leftovers": "was not running any more; removed what it had left",
    "nothing": "was not on the pod any more; removed from pods.json",
}


def show_stopped(stopped: Stopped, place: str = "") -> None:
    forced = f" (forced after {stopped.forced_after_s:.0f} s)" if stopped.forced_after_s else ""
    screen.say(f"{place}{stopped.name} {OUTCOMES[stopped.found]}{forced}")
    if not stopped.memory_proven:
        screen.note("  nvidia-smi does not answer, so pi cannot tell whether its GPU memory is free; see: pi list")
    if stopped.firewall:
        screen.note(f"  the rules of the pod's firewall for it stay: {stopped.firewall}")
    if stopped.other_processes:
        screen.note(f"  another process uses its port: {', '.join(stopped.other_processes)}")
