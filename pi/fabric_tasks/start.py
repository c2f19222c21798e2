"""`pi start`: start a model, or list the models that pi knows."""

from __future__ import annotations

import time
from typing import Any

from pi import addresses, config, screen
from pi.calls.start import start_model
from pi.errors import InputError
from pi.fabric_tasks.verb import verb
from pi.planning import catalog, planner, refusals
from pi.planning.types import LaunchPlan, PodFacts
from pi.pods import changes
from pi.pods.types import Deployment
from pi.steps import keys, reconcile, where
from pi.steps.offers import show_offers
from pi.steps.plans import show_plan
from pi.steps.reports import StartReport
from pi.steps.request import BENDING, request_of, timeout_of
from pi.steps.reservation import Reservation


@verb(
    "[model]",
    "MODEL --name N [--pod P] [--memory 50%] [--context 32k] [--gpus 2] [--variant V] [--dry-run]"
    " [--private] [--detach] [--timeout SECONDS] [--vllm RAW ARGS...]   (alone: lists the models)",
    tail="vllm",
    iterable=["vllm"],
    details={
        "name": "what to call it here; the served model answers to this name and to its model id",
        **BENDING,
        "dry_run": "show the command, the memory sum and the reasons, and touch nothing",
        "private": "listen on the pod's loopback alone: reachable over SSH, not from the network",
        "detach": "Ctrl+C while it starts leaves it starting instead of stopping it",
        "timeout": "seconds that vLLM may take to become ready once the weights are there; then it is stopped",
    },
)
def start(
    c: Any,
    model: str | None = None,
    name: str | None = None,
    pod: str | None = None,
    memory: str | None = None,
    context: str | None = None,
    gpus: str | None = None,
    variant: str | None = None,
    dry_run: bool = False,
    private: bool = False,
    detach: bool = False,
    timeout: str | None = None,
    vllm: list[str] | None = None,
) -> None:
    """Start a model on the pod and wait until it answers; alone, list the models that pi knows."""
    if model is None:
        if name or memory or context or gpus or variant or dry_run or private or detach or timeout or vllm:
            raise InputError("which model?", "pi start MODEL --name NAME; pi models lists those that pi knows")
        return show_offers(c, pod)
    request = request_of(model, name, memory, context, gpus, variant, vllm)
    timeout_s = timeout_of(timeout)
    if dry_run:
        return show_plan(c, pod, request, private)
    key = keys.api_key()
    known = catalog.load(config.config_dir())
    began = time.monotonic()
    with where.targeted(c, pod) as (place, link), changes.change("start", f"{place.name}/{request.name}"):
        report = StartReport(request, place.name, detach)
        reservation = Reservation(place, private)

        def decide(facts: PodFacts) -> LaunchPlan:
            refusals.require_gpus(place.name, place.gpus, facts)
            return reservation.make(report.planned(planner.plan(request, facts, known), facts))

        try:
            with reservation:
                started = start_model(
                    link,
                    model=model,
                    name=request.name,
                    key=key,
                    decide=decide,
                    listen=report.hear,
                    ask_hub=known.find(model) is None,
                    private=private,
                    timeout_s=timeout_s,
                    leave=lambda: detach and reservation.made,
                )
        finally:
            report.end()
        reconcile.remember_started(place, started.deployment)
        url = addresses.url(link.host, started.deployment.port, started.public)
    screen.say(f"{request.name} is ready on {place.name} after {screen.seconds(time.monotonic() - began)}")
    if started.side_doors:
        ports = ", ".join(map(str, started.side_doors))
        screen.note(f"note: vLLM's processes also listen, without a key, on port {ports}; close it with a firewall")
    _how_to_call(started.deployment, url, reachable=not private and addresses.answers(url))


def _how_to_call(deployment: Deployment, url: str, reachable: bool) -> None:
    screen.say()
    if deployment.private:
        screen.say(f"  it listens on the pod's loopback alone, port {deployment.port}; SSH is the way:")
        screen.say(f'  pi prompt {deployment.name} "Hello"')
        return
    screen.say(f"  export OPENAI_BASE_URL={url}")
    screen.say('  export OPENAI_API_KEY="$PI_API_KEY"')
    screen.say(f"  model: {deployment.model} (or {deployment.name})")
    screen.say()
    if not reachable:
        screen.say(f"  {url} does not answer from here (a closed port, or one the provider maps); SSH is the way:")
    screen.say(f'  pi prompt {deployment.name} "Hello"')
