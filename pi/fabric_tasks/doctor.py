"""`pi doctor`: what is wrong here or on a pod, and how to fix it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from invoke import Exit

from pi import screen
from pi.errors import InputError, PiError
from pi.fabric_tasks.flags import operand
from pi.fabric_tasks.options import PodsOptions, json_switch
from pi.fabric_tasks.verb import verb
from pi.pods import state
from pi.pods.types import Pod
from pi.steps import diagnosis, doctor_here, doctor_pod, group, where
from pi.steps.diagnosis import Checked
from pi.steps.group import Asked
from pi.text import count


@dataclass(frozen=True)
class DoctorOptions(PodsOptions):
    name: str | None = operand("[POD]", "which pod (default: the active one)", completes="pod")
    json: bool = json_switch()


@verb(DoctorOptions, examples=("pi doctor", "pi doctor dc1 --json", "pi doctor --all-pods"))
def doctor(c: Any, options: DoctorOptions) -> None:
    """Check this machine and a pod: a line each, with the command that fixes it. Nothing changes."""
    here = list(doctor_here.checks())
    pods = _pods(c, options)
    if not options.json:
        diagnosis.show("here", here)
    there = _checks(c, pods) if pods else {}
    found = [*here, *(each for checks in there.values() for each in checks)]
    failures, warnings = (sum(each.level == level for each in found) for level in ("failure", "warning"))
    if options.json:
        screen.say_json(diagnosis.as_json(here, there))
    else:
        for pod, checks in there.items():
            diagnosis.show(pod, checks)
        screen.say(f"{count(failures, 'failure')}, {count(warnings, 'warning')}")
    if failures:
        raise Exit(code=1)


def _checks(c: Any, pods: Sequence[Pod]) -> dict[str, list[Checked]]:
    """Return what the checks of each pod found; a pod that does not answer is a failed check."""
    with screen.progress() as line:
        names = ", ".join(pod.name for pod in pods)
        line.run(f"  asking {names}", screen.clock_since(time.monotonic()), quiet=True)
        asked = group.at_once(pods, lambda pod: Asked(pod, list(doctor_pod.checks(c, pod))))
    return {each.pod.name: [diagnosis.of_error(each.error)] if each.error else each.answer or [] for each in asked}


def _pods(c: Any, options: DoctorOptions) -> Sequence[Pod]:
    """Return the pods to check; none if there is none. Raises InputError for a pod that does not exist."""
    if options.name and (options.pod or options.all_pods):
        raise InputError("flags-conflict", f"{options.name} is a pod, and --pod or --all-pods too", "leave one out")
    try:
        known = state.load().pods
    except PiError:
        return ()
    names = options.pod or options.name
    return where.several(c, names, options.all_pods).pods if names or known else ()
