"""`pi pull`: download a model ahead of its start."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from pi import config, screen
from pi.calls.pull import pull_model
from pi.calls.survey import look
from pi.errors import InputError
from pi.fabric_tasks.flags import operand
from pi.fabric_tasks.launch_options import MODEL, LaunchOptions
from pi.fabric_tasks.verb import verb
from pi.planning import catalog, planner, room
from pi.pods import changes
from pi.steps import measurements, where
from pi.steps.pull_report import PullReport, describe


@dataclass(frozen=True)
class PullOptions(LaunchOptions):
    model: str = operand("MODEL", MODEL, required=True, completes="model")


@verb(PullOptions, examples=("pi pull Qwen/Qwen3-Coder-30B-A3B-Instruct", "pi pull zai-org/GLM-4.5-Air --variant fp8"))
def pull(c: Any, options: PullOptions) -> None:
    """Download what a start of a model would load, beside whatever runs; repeat it to continue it.

    The plan is that for the idle pod: its checkpoint, its draft model and its adapters.
    """
    request = options.request(options.model, "model")
    if request.model.is_path and not request.adapters:
        raise InputError("pull-path", f"{request.model} is a path: there is nothing to download", "name a model's id")
    known_models, began = catalog.load(config.config_dir()), time.monotonic()
    with where.targeted(c, options.pod) as (pod, connection), changes.change("pull", f"{pod.name}/{request.model}"):
        facts = look(
            connection,
            request.model,
            ask_hub=planner.needs_files(request, known_models),
            checkpoints=planner.checkpoints(request, known_models),
            adapters=[each.source for each in request.adapters],
        )
        plan = planner.plan(request, replace(room.idle(facts), measurements=measurements.load()), known_models)
        screen.say(f"fetching {plan.model} to {pod.name}{f': {plan.download_gb:.3g} GB' if plan.download_gb else ''}")
        report = PullReport((plan.download_gb or 0) * 1e9)
        try:
            pulled = pull_model(connection, plan, report.hear)
        finally:
            report.end()
    for each in pulled:
        screen.say(describe(each, pod.name, time.monotonic() - began))
    screen.say(f"start it: pi start {options.model} --name NAME")
