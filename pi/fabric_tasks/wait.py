"""`pi wait`: until a model is ready."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.calls.wait import wait_for
from pi.fabric_tasks.flags import flag, operand
from pi.fabric_tasks.options import PodOptions, json_switch, timeout_s_of
from pi.fabric_tasks.verb import verb
from pi.pods.types import check_name
from pi.steps import listing, reconcile, states, where
from pi.steps.reports import WaitReport
from pi.steps.waiting import require_ready


@dataclass(frozen=True)
class WaitOptions(PodOptions):
    name: str = operand("NAME", "which model", required=True, completes="name")
    timeout: str | None = flag("SECONDS", "give up after this time, with exit code 6")
    json: bool = json_switch()


@verb(WaitOptions, examples=("pi wait qwen", "pi start a/b --name qwen --detach && pi wait qwen --timeout 900"))
def wait(c: Any, options: WaitOptions) -> None:
    """Wait until a model that starts is ready; exit code 6 if it fails or is late."""
    name, timeout_s = check_name(options.name, "model"), timeout_s_of(options.timeout)
    began = time.monotonic()
    with where.targeted(c, options.pod) as (pod, connection):
        report = WaitReport()
        try:
            waited = wait_for(connection, name, timeout_s, report.hear)
        finally:
            report.end()
        found = require_ready(pod, name, waited, time.monotonic() - began)
        reconcile.adopt(pod, [found.deployment])
        seen = listing.see(pod, connection)
    model = next(model for model in states.listed(pod, seen.status, seen.host) if model.model.name == name)
    took = round(time.monotonic() - began, 1)
    if options.json:
        screen.say_json({"pod": pod.name, "model": model.as_json(), "waited_seconds": took})
    else:
        screen.say(f"{name} is ready on {pod.name}{f' at {model.url}' if model.url else ''}")
