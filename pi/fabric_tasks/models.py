"""`pi start`, `list`, `stop` and `logs`: the models on a pod."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from pi import screen, state
from pi.errors import (
    InputError,
    Interrupted,
    RemoteError,
)
from pi.fabric_tasks.verb import verb
from pi.state import Deployment, Pod

if TYPE_CHECKING:
    from pi.events import Event
    from pi.plans import LaunchPlan, PodFacts, Request
    from pi.remote import Status, Stopped

POD = {"pod": "the pod to use instead of the active one"}

BENDING = {
    "memory": "share of each GPU's memory, such as 50%",
    "context": "context length in tokens, such as 32k",
    "gpus": "how many GPUs",
    "variant": "which of the model's checkpoints, such as fp8",
    "vllm": "everything after it goes to `vllm serve` as it is, instead of the arguments pi would choose",
    **POD,
}


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
    from pi.fabric_tasks import catalog as catalog_tasks
    from pi.fabric_tasks import target as targets

    if model is None:
        if name or memory or context or gpus or variant or dry_run or private or detach or timeout or vllm:
            raise InputError("which model?", "pi start MODEL --name NAME; pi models lists those that pi knows")
        return catalog_tasks.show_offers(c, pod)
    from pi import audit, catalog, endpoint, planner, refusals, remote
    from pi.fabric_tasks import reconcile

    request = _request(model, name, memory, context, gpus, variant, vllm)
    timeout_s = _timeout(timeout)
    if dry_run:
        return catalog_tasks.show_plan(c, pod, request, private)
    key = targets.api_key()
    known = catalog.load(state.config_dir())
    began = time.monotonic()
    with targets.targeted(c, pod) as (place, link), audit.change("start", f"{place.name}/{request.name}"):
        report = StartReport(request, place.name, detach)
        reservation = reconcile.Reservation(place, private)

        def decide(facts: PodFacts) -> LaunchPlan:
            refusals.require_gpus(place.name, place.gpus, facts)
            return reservation.make(report.planned(planner.plan(request, facts, known), facts))

        try:
            with reservation:
                started = remote.start(
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
        url = endpoint.url(link.host, started.deployment.port, started.public)
    screen.say(f"{request.name} is ready on {place.name} after {screen.seconds(time.monotonic() - began)}")
    if started.side_doors:
        ports = ", ".join(map(str, started.side_doors))
        screen.note(f"note: vLLM's processes also listen, without a key, on port {ports}; close it with a firewall")
    _how_to_call(started.deployment, url, reachable=not private and endpoint.answers(url))


@verb(
    "model",
    "MODEL [--name N] [--pod P] [--memory 50%] [--context 32k] [--gpus 2] [--variant V] [--vllm RAW ARGS...]",
    tail="vllm",
    iterable=["vllm"],
    details={"name": "the name it would have", **BENDING},
)
def plan(
    c: Any,
    model: str,
    name: str = "model",
    pod: str | None = None,
    memory: str | None = None,
    context: str | None = None,
    gpus: str | None = None,
    variant: str | None = None,
    vllm: list[str] | None = None,
) -> None:
    """Show what `start` would do: the command, the memory sum, the reasons; nothing is touched."""
    from pi.fabric_tasks import catalog as catalog_tasks

    catalog_tasks.show_plan(c, pod, _request(model, name, memory, context, gpus, variant, vllm))


@verb("", "[--pod P]", name="list", details=POD)
def show(c: Any, pod: str | None = None) -> None:
    """List the models of the pod with their true state; what turns out to be gone is forgotten."""
    from pi import remote
    from pi.fabric_tasks import listing, reconcile
    from pi.fabric_tasks import target as targets

    with targets.targeted(c, pod) as (place, link):
        status = remote.status(link)
        host = link.host
    _warn(place, status)
    if status.found or place.models:
        screen.table(listing.rows(place, status, host), listing.HEADERS)
    else:
        screen.say(f"no models on {place.name}; start one: pi start MODEL --name NAME")
    for found in status.found:
        listing.tell_end(found)
    reconcile.reconcile(place, status)


def _warn(place: Pod, status: Status) -> None:
    """What is wrong with the pod itself."""
    from pi import gpus

    for words in gpus.lost(place.gpus, status.gpus, status.unread_gpus):
        screen.note(f"warning: {words}")
    if status.storage:
        screen.note(f"warning: models cannot be reached: {status.storage}")


@verb("[name]", "[NAME] [--pod P]", details={"name": "which model; without it, every model of the pod", **POD})
def stop(c: Any, name: str | None = None, pod: str | None = None) -> None:
    """Stop a model, or every model of the pod; returns when its processes, port and GPU are free."""
    from pi import audit, remote
    from pi.fabric_tasks import reconcile
    from pi.fabric_tasks import target as targets

    names = [state.check_name(name, "model")] if name else []
    with (
        targets.targeted(c, pod) as (place, link),
        audit.change("stop", f"{place.name}/{name or '*'}"),
        screen.progress() as line,
    ):
        found = remote.stop(link, names, lambda event: line.show(event["text"]) if event.kind == "progress" else None)
        if name and found[0].found == "nothing" and name not in place.models:
            raise InputError(
                f"no model {name!r} on {place.name}", f"it has {', '.join(place.models) or 'none'}; see: pi list"
            )
    for stopped in found:
        _tell_stopped(stopped)
    with targets.noted("the models that are gone stay in pods.json", "pi list clears them"):
        reconcile.forget(place, {name} if name else set(place.models) | {stopped.name for stopped in found})
    if not found:
        screen.say(f"nothing runs on {place.name}")


WORDS = {
    "running": "is stopped",
    "starting": "is stopped before it was ready; what was downloaded stays cached",
    "leftovers": "was not running any more; what it left is cleared",
    "nothing": "was not on the pod any more; forgotten",
}


def _tell_stopped(stopped: Stopped) -> None:
    forced = f" (forced after {stopped.forced_after_s:.0f} s)" if stopped.forced_after_s else ""
    screen.say(f"{stopped.name} {WORDS[stopped.found]}{forced}")
    if not stopped.memory_proven:
        screen.note("  nvidia-smi does not answer, so its GPU memory is not proven free; see: pi list")
    if stopped.strangers:
        screen.note(f"  its port is in use by {', '.join(stopped.strangers)}, which is not pi's")


@verb(
    "name",
    "NAME [--pod P] [--lines N] [--no-follow] [--raw]",
    details={
        "lines": "how many of the last lines to begin with",
        "no_follow": "print them and end",
        "raw": "with every escape sequence that the log holds, safe for a terminal or not",
        **POD,
    },
)
def logs(
    c: Any, name: str, pod: str | None = None, lines: int = 200, no_follow: bool = False, raw: bool = False
) -> None:
    """Follow a model's log; Ctrl+C ends the following, not the model."""
    from pi import remote
    from pi.fabric_tasks import target as targets

    state.check_name(name, "model")
    output = screen.Output(raw=raw)

    def hear(event: Event) -> None:
        if event.kind == "log":
            output.write(event["text"])
        elif event.kind == "progress":
            screen.note(event["text"])

    with targets.targeted(c, pod) as (_, link):
        try:
            end = remote.logs(link, name, hear, lines=lines, follow=not no_follow)
        except Interrupted:
            return
        finally:
            output.end()
    if end.how == "exited":
        status = "no exit status" if end.exit_code is None else f"status {end.exit_code}"
        raise RemoteError(f"{name} exited with {status}", "pi list tells why")
    if end.how == "stopped":
        screen.note(f"{name} was stopped")


class StartReport:
    """Tells how a start goes: the plan, the download, then the time and vLLM's last log line."""

    def __init__(self, request: Request, pod: str, detach: bool) -> None:
        self._request, self._pod, self._detach = request, pod, detach
        self._line = screen.Progress()
        self._began = time.monotonic()
        self._download_bytes = 0.0

    def planned(self, plan: LaunchPlan, facts: PodFacts) -> LaunchPlan:
        """The plan, told. Raises InputError where every vLLM of the pod is too old for it."""
        from pi import venvs

        refusal = venvs.refusal(plan, facts, self._pod)
        if refusal:
            raise refusal
        self._download_bytes = (plan.download_gb or 0) * 1e9
        where = f"GPU {','.join(map(str, plan.gpus))}" if plan.gpus else "CPU"
        screen.say(f"starting {plan.model} as {plan.name} on {self._pod}: {where}, port {plan.port}")
        for reason in plan.why:
            screen.say(f"  {reason}")
        for warning in plan.warnings:
            screen.note(f"  note: {warning}")
        return plan

    def hear(self, event: Event) -> None:
        elapsed = screen.seconds(time.monotonic() - self._began)
        if event.kind == "download":
            done, speed = screen.gib(event["bytes"]), screen.gib(event["bytes_per_s"])
            whole = event["total"] or self._download_bytes
            total = f" of {screen.gib(whole)}" if whole else ""
            self._line.show(f"  downloading {done}{total}, {speed}/s ({elapsed}; Ctrl+C cancels)")
        elif event.kind == "launched":
            self._began = time.monotonic()
            self._line.clear()
            interrupt = "leaves it starting" if self._detach else "stops it"
            screen.say(f"  vLLM is running (pid {event['pid']}); waiting until it is ready (Ctrl+C {interrupt})")
        elif event.kind == "log" and event["text"].strip():
            self._line.show(f"  {elapsed}: {event['text'].strip().splitlines()[-1]}")
        elif event.kind in ("reconnecting", "reconnected"):
            self._line.clear()
            screen.reconnecting(event)

    def end(self) -> None:
        self._line.clear()


def _request(
    model: str,
    name: str | None,
    memory: str | None,
    context: str | None,
    gpus: str | None,
    variant: str | None,
    vllm: list[str] | None,
) -> Request:
    from pi import hub, planner
    from pi import vllm as server

    if name is None:
        raise InputError("--name is missing", f"pi start {model} --name NAME")
    if gpus is not None and not re.fullmatch(r"0*[1-9][0-9]{0,3}", gpus, re.ASCII):
        raise InputError(f"--gpus {gpus!r} is not a number of GPUs", "such as --gpus 2")
    if vllm:
        server.check_raw(vllm)
    return planner.Request(
        model=hub.check_model(model),
        name=state.check_name(name, "model"),
        gpus=int(gpus) if gpus else None,
        memory=server.parse_memory(memory) if memory else None,
        context=server.parse_context(context) if context else None,
        variant=variant,
        vllm_args=tuple(vllm) if vllm else None,
    )


def _timeout(given: str | None) -> int | None:
    if given is not None and not (given.isdecimal() and 0 < int(given) <= 10**6):
        raise InputError(f"--timeout {given!r} is not a number of seconds", "such as --timeout 600")
    return int(given) if given else None


def _how_to_call(deployment: Deployment, url: str, reachable: bool) -> None:
    screen.say()
    if deployment.extra.get("private"):
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
