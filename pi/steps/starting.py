"""Start a model on a pod, show it, and save it in pods.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pi import config, screen
from pi.calls.events import Download, Event, Exited, Launched
from pi.calls.failures import ServerError
from pi.calls.start import NO_UPKEEP, Started, Upkeep, start_model
from pi.errors import InputError
from pi.planning import catalog, planner, refusals
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods import changes
from pi.pods.types import Pod
from pi.steps import kept_prices, measurements, on_idle, reconcile, spending, where
from pi.steps.asking import lookups
from pi.steps.proposing import with_proposal
from pi.steps.reports import StartReport, show_how_to_call
from pi.steps.reservation import Reservation

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


class Detached(Exception):
    """The pod carries on with the start alone."""


@dataclass(frozen=True)
class Across:
    """The pods that serve one model together, the first is its head; names are those of pods.json.

    `addresses` are those at which the others reach a pod, if the user gave them.
    """

    pods: tuple[str, ...]
    addresses: Mapping[str, str] = field(default_factory=dict)
    slow_network: bool = False
    insecure_public: bool = False


@dataclass(frozen=True)
class Start:
    """A start as the user asked for it."""

    request: Request
    private: bool = False
    upkeep: Upkeep = NO_UPKEEP
    detach: bool = False
    """Return when the pod downloads or loads the model."""
    timeout_s: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """What pods.json keeps, to start the model again in the same way."""
    asks: bool = False
    """Whether the user has to agree to a start over several pods."""
    across: Across | None = None
    """The pods that serve it together; None for a model on one pod."""


def start(pod: Pod, connection: Connection, wanted: Start, key: str) -> None:
    """Start a model, wait until it is ready, and print how to call it. Raises PiError."""
    request, began = wanted.request, time.monotonic()
    with changes.change("start", f"{pod.name}/{request.name}"):
        known_models = catalog.load(config.config_dir())
        report = StartReport(request, pod.name, known_models)
        started = _started(pod, connection, report, wanted, known_models, key)
        if started is None:
            wait = f"pi wait {request.name}{where.flag_for(pod.name)}"
            screen.say(f"{request.name} is starting on {pod.name}; {wait} waits until it is ready")
            return
        reconcile.remember_started(pod, started.deployment)
    spending.note_use(pod)
    report.keep_measured()
    screen.say(f"{request.name} is ready on {pod.name} after {screen.seconds(time.monotonic() - began)}")
    report.show_room(started)
    report.keep_durations()
    show_how_to_call(started, connection.host, pod.name)


Plan = Callable[[Request, PodFacts, catalog.Catalog], LaunchPlan]
"""Makes the plan of a start."""


def start_replica(pod: Pod, connection: Connection, wanted: Start, key: str, plan: Plan) -> Started | None:
    """Start a model and save it in pods.json; the caller prints how to call it. Raises PiError.

    Returns None if `wanted` detaches it, when the pod loads it.
    """
    known_models = catalog.load(config.config_dir())
    report = StartReport(wanted.request, pod.name, known_models)
    started = _started(pod, connection, report, wanted, known_models, key, plan)
    if started is None:
        return None
    reconcile.remember_started(pod, started.deployment)
    report.keep_measured()
    report.keep_durations()
    return started


def _started(
    pod: Pod,
    connection: Connection,
    report: StartReport,
    wanted: Start,
    known_models: catalog.Catalog,
    key: str,
    plan: Plan = planner.plan,
) -> Started | None:
    """Have the pod start the model, by a plan made and reserved here when it reports its facts.

    Returns None if the user detached it.
    """
    request, known_starts, prices = wanted.request, measurements.load(), kept_prices.load()
    upkeep = on_idle.decided(wanted.upkeep, pod)
    reservation = Reservation(pod, wanted.private, wanted.options, request.replica_of)

    def decide(facts: PodFacts) -> LaunchPlan:
        refusals.require_gpus(pod.name, pod.gpus, facts)
        on_idle.require_way(upkeep.on_idle, facts.provider, pod.name)
        facts = replace(facts, prices=prices, measurements=known_starts)
        try:
            made = plan(request, facts, known_models)
        except InputError as error:
            raise with_proposal(error, request, pod, facts, known_models) from None
        return reservation.make(report.planned(made, facts))

    def correct(plan: LaunchPlan, exited: Exited) -> LaunchPlan | None:
        again = report.corrected(plan, exited)
        return again and reservation.make(again)

    def hear(event: Event) -> None:
        if wanted.detach and isinstance(event, Download | Launched):
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
                **lookups(request, known_models),
                private=wanted.private,
                upkeep=upkeep,
                options=wanted.options,
                timeout_s=wanted.timeout_s,
                alone=wanted.detach,
                replica_of=request.replica_of,
            )
    except Detached:
        reservation.hand_over()
        return None
    except ServerError as failure:
        raise report.explained(failure, pod.name) from None
    finally:
        report.end()
