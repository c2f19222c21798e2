"""`pi doctor`: what is wrong here or on a pod, and how to fix it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from invoke import Exit

from pi import screen
from pi.errors import PiError
from pi.fabric_tasks.flags import Options, operand
from pi.fabric_tasks.options import json_switch
from pi.fabric_tasks.verb import verb
from pi.pods import state
from pi.pods.types import Pod
from pi.steps import diagnosis, doctor_here, doctor_pod, where
from pi.text import count


@dataclass(frozen=True)
class DoctorOptions(Options):
    pod: str | None = operand("[POD]", "which pod (default: the active one)", completes="pod")
    json: bool = json_switch()


@verb(DoctorOptions, examples=("pi doctor", "pi doctor dc1 --json"))
def doctor(c: Any, options: DoctorOptions) -> None:
    """Check this machine and a pod: a line each, with the command that fixes it. Nothing changes."""
    here = list(doctor_here.checks())
    pod = _pod(c, options)
    if not options.json:
        diagnosis.show("here", here)
    there = _checks(c, pod) if pod else []
    found = [*here, *there]
    failures, warnings = (sum(each.level == level for each in found) for level in ("failure", "warning"))
    if options.json:
        screen.say_json(diagnosis.as_json(pod.name if pod else None, found))
    else:
        if pod:
            diagnosis.show(pod.name, there)
        screen.say(f"{count(failures, 'failure')}, {count(warnings, 'warning')}")
    if failures:
        raise Exit(code=1)


def _checks(c: Any, pod: Pod) -> list[diagnosis.Checked]:
    with screen.progress() as line:
        line.run(f"  asking {pod.name}", screen.clock_since(time.monotonic()), quiet=True)
        return list(doctor_pod.checks(c, pod))


def _pod(c: Any, options: DoctorOptions) -> Pod | None:
    """Return the pod to check, or None without one. Raises InputError for a pod that does not exist."""
    try:
        known = state.load().pods
    except PiError:
        return None
    return where.chosen(c, options.pod) if options.pod or known else None
