"""Download a model to a pod, as a start would."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pi import config, screen
from pi.calls.pull import Pulled, pull_model
from pi.planning import catalog, planner, room
from pi.planning.types import Request
from pi.pods import changes
from pi.pods.types import Pod
from pi.steps import measurements
from pi.steps.asking import facts_for
from pi.steps.pull_report import PullReport

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def pull(pod: Pod, connection: Connection, request: Request, *, shows_progress: bool) -> list[Pulled]:
    """Download what the idle pod would load for a request. Raises PiError."""
    known_models = catalog.load(config.config_dir())
    with changes.change("pull", f"{pod.name}/{request.model}"):
        facts = facts_for(connection, request, known_models)
        plan = planner.plan(request, replace(room.idle(facts), measurements=measurements.load()), known_models)
        screen.say(f"fetching {plan.model} to {pod.name}{f': {plan.download_gb:.3g} GB' if plan.download_gb else ''}")
        report = PullReport((plan.download_gb or 0) * 1e9, pod.name, shows_progress)
        try:
            return list(pull_model(connection, plan, report.hear))
        finally:
            report.end()
