"""`pi start`: start a model, or list the models that pi knows."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pi import config, screen
from pi.calls.events import Exited
from pi.calls.start import Started, start_model
from pi.errors import InputError
from pi.fabric_tasks.flags import flag, operand, switch
from pi.fabric_tasks.options import MODEL, LaunchOptions
from pi.fabric_tasks.verb import verb
from pi.planning import catalog, planner, refusals
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods import changes
from pi.pods.types import Pod
from pi.steps import kept_prices, keys, measurements, reconcile, where
from pi.steps.offers import show_offers
from pi.steps.plans import show_plan
from pi.steps.reports import StartReport, show_how_to_call
from pi.steps.reservation import Reservation

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

LONGEST_TIMEOUT_S = 10**6


@dataclass(frozen=True)
class StartOptions(LaunchOptions):
    model: str | None = operand("MODEL", MODEL)
    name: str | None = flag("N", "name for the model; requests may use it or the model id", required=True)
    dry_run: bool = switch("show the command, memory and reasons; nothing changes")
    private: bool = switch("listen on the pod's loopback only: reachable over SSH, not from the network")
    detach: bool = switch("Ctrl+C leaves the model starting instead of stopping it")
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

    def timeout_s(self) -> int | None:
        given = self.timeout
        if given is not None and not (given.isdecimal() and 0 < int(given) <= LONGEST_TIMEOUT_S):
            raise InputError(
                "timeout-invalid", f"invalid --timeout {given!r}", "use a number of seconds, such as --timeout 600"
            )
        return int(given) if given else None


@verb(StartOptions, remark="(alone: lists the models)")
def start(c: Any, options: StartOptions) -> None:
    """Start a model and wait until it answers; without MODEL, list the models pi knows."""
    if options == StartOptions(pod=options.pod):
        return show_offers(c, options.pod)
    request, timeout_s = options.named_request(), options.timeout_s()
    if options.dry_run:
        return show_plan(c, options.pod, request, options.private)
    key = keys.api_key()
    began = time.monotonic()
    with where.targeted(c, options.pod) as (pod, connection), changes.change("start", f"{pod.name}/{request.name}"):
        report = StartReport(request, pod.name, options.detach)
        started = _start(pod, connection, report, request, options, key=key, timeout_s=timeout_s)
        reconcile.remember_started(pod, started.deployment)
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
    *,
    key: str,
    timeout_s: int | None,
) -> Started:
    """Have the pod start the model, by a plan made and reserved here when it reports its facts."""
    known_models, known_starts = catalog.load(config.config_dir()), measurements.load()
    prices = kept_prices.load()
    reservation = Reservation(pod, options.private)

    def decide(facts: PodFacts) -> LaunchPlan:
        refusals.require_gpus(pod.name, pod.gpus, facts)
        facts = replace(facts, prices=prices, measurements=known_starts)
        return reservation.make(report.planned(planner.plan(request, facts, known_models), facts))

    def correct(plan: LaunchPlan, exited: Exited) -> LaunchPlan | None:
        again = report.corrected(plan, exited)
        return again and reservation.make(again)

    try:
        with reservation:
            return start_model(
                connection,
                model=request.model,
                name=request.name,
                key=key,
                decide=decide,
                correct=correct,
                listen=report.hear,
                ask_hub=known_models.find(request.model) is None,
                checkpoints=planner.checkpoints(request, known_models),
                adapters=[adapter.source for adapter in request.adapters],
                private=options.private,
                timeout_s=timeout_s,
                leave=lambda: options.detach and reservation.made,
            )
    finally:
        report.end()
