"""`pi wait`: until a model is ready."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.fabric_tasks.flags import flag, operand
from pi.fabric_tasks.options import PodsOptions, json_switch, timeout_s_of
from pi.fabric_tasks.verb import verb
from pi.pods.types import check_name
from pi.steps import group, heads, where
from pi.steps.group import Asked
from pi.steps.reports import WaitReport
from pi.steps.waiting import Ready, until_ready


@dataclass(frozen=True)
class WaitOptions(PodsOptions):
    name: str = operand("NAME", "which model", required=True, completes="name")
    timeout: str | None = flag("SECONDS", "give up after this time, with exit code 6")
    json: bool = json_switch()


@verb(
    WaitOptions,
    examples=(
        "pi wait qwen",
        "pi start a/b --name qwen --detach && pi wait qwen --timeout 900",
        "pi wait qwen --all-pods",
    ),
)
def wait(c: Any, options: WaitOptions) -> None:
    """Wait until a model that starts is ready; exit code 6 if it fails or is late."""
    name, timeout_s = check_name(options.name, "model"), timeout_s_of(options.timeout)
    chosen = where.several(c, heads.pod_for(c, options.pod, None if options.all_pods else name), options.all_pods)
    if len(chosen.pods) == 1:
        asked = _wait_for_one(c, chosen, name, timeout_s)
    else:
        with screen.progress() as line:
            line.run(f"  waiting on {len(chosen.pods)} pods", screen.clock_since(time.monotonic()), quiet=True)
            asked = group.ask(
                c, chosen, lambda pod, connection: until_ready(pod, connection, name, timeout_s, lambda event: None)
            )
    if options.json:
        screen.say_json(group.one_or_all(asked, "ready", lambda pod, ready: ready.as_json(pod.name)))
    else:
        for each in asked:
            if ready := each.answer:
                url = ready.model.url
                screen.say(f"{name} is ready on {each.pod.name}{f' at {url}' if url else ''}")
    group.raise_failed(asked)


def _wait_for_one(c: Any, chosen: where.Chosen, name: str, timeout_s: int | None) -> list[Asked[Ready]]:
    """Wait on the only pod, and show what vLLM does meanwhile. Raises the pod's error."""
    report = WaitReport()
    try:
        asked = group.ask(c, chosen, lambda pod, connection: until_ready(pod, connection, name, timeout_s, report.hear))
    finally:
        report.end()
    group.raise_failed(asked)
    return asked
