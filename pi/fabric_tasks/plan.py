"""`pi plan`: what a start would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi.errors import InputError
from pi.fabric_tasks.flags import flag, operand
from pi.fabric_tasks.json_refusals import json_refusals
from pi.fabric_tasks.launch_options import MODEL, LaunchOptions
from pi.fabric_tasks.options import all_pods_switch, check_machine, json_switch, machine_flag, pods_flag
from pi.fabric_tasks.verb import verb
from pi.planning import machines
from pi.pods import state
from pi.steps import where
from pi.steps.plans import show_plan_on, show_plans
from pi.steps.unrented import here


@dataclass(frozen=True)
class PlanOptions(LaunchOptions):
    model: str = operand("MODEL", MODEL, required=True, completes="model")
    name: str = flag("N", "name for the model", "model")
    pod: str | None = pods_flag()
    all_pods: bool = all_pods_switch()
    on: str | None = machine_flag()
    json: bool = json_switch()


@verb(
    PlanOptions,
    examples=(
        "pi plan Qwen/Qwen3-Coder-30B-A3B-Instruct",
        'pi plan openai/gpt-oss-120b --on "2x H100" --json',
        "pi plan openai/gpt-oss-120b --all-pods",
    ),
)
def plan(c: Any, options: PlanOptions) -> None:
    """Show what `pi start` would do: command, memory and reasons. Nothing changes."""
    check_machine(options.on, options.all_pods)
    with json_refusals(options.json):
        if options.on is None:
            _require_pod(c)
            chosen = where.several(c, options.pod, options.all_pods)
            show_plans(c, chosen, options.request(options.model, options.name), as_json=options.json)
        else:
            request = options.request(here(options.model), options.name)
            show_plan_on(machines.parse(options.on), request, as_json=options.json)


def _require_pod(c: Any) -> None:
    """Raise InputError if pods.json is empty, with the flag that plans without a pod."""
    if not state.load().pods and not where.under_fab(c):
        hint = 'plan for a machine: --on "1x H100"; or add a pod: pi pods setup NAME "ssh root@HOST"'
        raise InputError("no-pods", "no pods yet", hint)
