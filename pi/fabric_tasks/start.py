"""`pi start`: start a model, or list the models that pi knows."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pi import config, screen
from pi.calls.events import Download, Event, Exited, Launched
from pi.calls.failures import ServerError
from pi.calls.start import Started, start_model
from pi.errors import InputError
from pi.fabric_tasks.flags import flag, operand, switch
from pi.fabric_tasks.launch_options import MODEL, LaunchOptions
from pi.fabric_tasks.options import timeout_s_of
from pi.fabric_tasks.verb import verb
from pi.planning import catalog, planner, refusals
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods import changes
from pi.pods.types import Pod
from pi.steps import kept_prices, keys, measurements, reconcile, spending, where
from pi.steps.offers import show_offers
from pi.steps.plans import show_plan
from pi.steps.reports import StartReport, show_how_to_call
from pi.steps.reservation import Reservation

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


class Detached(Exception):
    """The pod carries on with the start alone."""


@dataclass(frozen=True)
class StartOptions(LaunchOptions):
    model: str | None = operand("MODEL", MODEL, completes="model")
    name: str | None = flag("N", "name for the model; requests may use it or the model id", required=True)
    dry_run: bool = switch("show the command, memory and reasons; nothing changes")
    private: bool = switch("listen on the pod's loopback only: reachable over SSH, not from the network")
    detach: bool = switch("return when the pod downloads or loads the model; see pi wait")
    timeout: str | None = flag("SECONDS", "time for vLLM to become ready after the download; then pi stops it")

    def named_request(self) -> Request:
        """Return the planner's request. Raises InputError if a value is missing or cannot be used."""
        if self.model is None:
            raise InputError(
                "model-missing", "which model?", "pi start MODEL --name NAME; pi models lists those that pi knows"
            )
        if self.name is None:
            raise InputError("name-missing", "--name is missing", f"pi start {self.model} --name NAME")
        return self.request(self.model, self.name)


@verb(
    StartOptions,
    remark="(alone: lists the models)",
    examples=(
        "pi start Qwen/Qwen3-Coder-30B-A3B-Instruct --name qwen",
        "pi start openai/gpt-oss-20b --name oss --memory 45% --context 64k",
        "pi start /models/mine --name mine --set max-num-seqs=64",
    ),
)
def start(c: Any, options: StartOptions) -> None:
    """Start a model and wait until it answers; without MODEL, list the models pi knows."""
    if options == StartOptions(pod=options.pod):
        return show_offers(c, options.pod)
    request, timeout_s = options.named_request(), timeout_s_of(options.timeout)
    if options.dry_run:
        return show_plan(c, options.pod, request, options.private)
    key = keys.api_key()
    began = time.monotonic()
    with where.targeted(c, options.pod) as (pod, connection), changes.change("start", f"{pod.name}/{request.name}"):
        known_models = catalog.load(config.config_dir())
        report = StartReport(request, pod.name, known_models)
        started = _start(pod, connection, report, request, options, known_models, key=key, timeout_s=timeout_s)
        if started is None:
            screen.say(f"{request.name} is starting on {pod.name}; pi wait {request.name} waits until it is ready")
            return
        reconcile.remember_started(pod, started.deployment)
    spending.note_use(pod)
    report.keep_measured()
    screen.say(f"{request.name} is ready on {pod.name} after {screen.seconds(time.monotonic() - began)}")
    report.show_room(started)
    report.keep_durations()
    show_how_to_call(started, connection.host)


def _start(
    pod: Pod,
    connection: Connection,
    report: StartReport,
    request: Request,
    options: StartOptions,
    known_models: catalog.Catalog,
    *,
    key: str,
    timeout_s: int | None,
) -> Started | None:
    """Have the pod start the model, by a plan made and reserved here when it reports its facts.

    Returns None if the user detached it.
    """
    known_starts, prices = measurements.load(), kept_prices.load()
    reservation = Reservation(pod, options.private)

    def decide(facts: PodFacts) -> LaunchPlan:
        refusals.require_gpus(pod.name, pod.gpus, facts)
        facts = replace(facts, prices=prices, measurements=known_starts)
        return reservation.make(report.planned(planner.plan(request, facts, known_models), facts))

    def correct(plan: LaunchPlan, exited: Exited) -> LaunchPlan | None:
        again = report.corrected(plan, exited)
        return again and reservation.make(again)

    def hear(event: Event) -> None:
        if options.detach and isinstance(event, Download | Launched):
            raise Detached
        report.hear(event)

    try:
        with reservation:
            return start_model(
                connection,
                model=request.model,
                name=request.name,
                key=key,
                decide=decide,
                correct=correct,
                listen=hear,
                ask_hub=planner.needs_files(request, known_models),
                checkpoints=planner.checkpoints(request, known_models),
                adapters=[adapter.source for adapter in request.adapters],
                private=options.private,
                timeout_s=timeout_s,
                alone=options.detach,
            )
    except Detached:
        reservation.hand_over()
        return None
    except ServerError as failure:
        raise report.explained(failure) from None
    finally:
        report.end()
