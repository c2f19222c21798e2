"""`pi start`, `list`, `stop` and `logs`: the models on a pod."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pi import screen, state
from pi.errors import (
    HostKeyError,
    InputError,
    Interrupted,
    LeftRunning,
    OutputError,
    PiError,
    RemoteError,
    UnreachableError,
)
from pi.fabric_tasks.verb import verb
from pi.state import Deployment, Pod
from pi.text import one_line

if TYPE_CHECKING:
    from pi.events import Event
    from pi.plans import LaunchPlan, PodFacts, Request
    from pi.remote import Found, Status, Stopped

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
        return catalog_tasks.show_offers(c, pod)
    from pi import audit, catalog, endpoint, planner, refusals, remote

    request = _request(model, name, memory, context, gpus, variant, vllm)
    timeout_s = _timeout(timeout)
    if dry_run:
        return catalog_tasks.show_plan(c, pod, request, private)
    key = targets.api_key()
    known = catalog.load(state.config_dir())
    began = time.monotonic()
    with targets.targeted(c, pod) as (place, link), audit.change("start", f"{place.name}/{request.name}"):
        report = StartReport(request, place.name, detach)
        reservation = Reservation(place, private)

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
        _remember_started(place, started.deployment)
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
    from pi.fabric_tasks import target as targets

    with targets.targeted(c, pod) as (place, link):
        status = remote.status(link)
        host = link.host
    gone = _gone(place, status)
    _warn(place, status)
    if not status.found and not place.models:
        screen.say(f"no models on {place.name}; start one: pi start MODEL --name NAME")
        return
    rows = [_row(found, place.models.get(found.deployment.name), host, status) for found in status.found]
    there = {found.deployment.name for found in status.found}
    rebooted = _lost_by_reboot(place, status)
    absent = [model for name, model in place.models.items() if name not in there]
    waiting = [model for model in absent if model not in gone and model not in rebooted]
    rows += [(model.name, model.model, _gpus(model), model.port, "starting", "") for model in waiting]
    rows += [(model.name, model.model, _gpus(model), model.port, "gone (forgotten)", "") for model in gone]
    rows += [
        (model.name, model.model, _gpus(model), model.port, _stopped_by_reboot(status), "")
        for model in _lost_by_reboot(place, status)
    ]
    screen.table(rows, ("NAME", "MODEL", "GPU", "PORT", "STATE", "URL"))
    for found in status.found:
        _tell_end(found)
    _reconcile(place, status)


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
        _forget(place, {name} if name else set(place.models) | {stopped.name for stopped in found})
    if not found:
        screen.say(f"nothing runs on {place.name}")


WORDS = {
    "running": "is stopped",
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
    "NAME [--pod P] [--lines N] [--no-follow]",
    details={"lines": "how many of the last lines to begin with", "no_follow": "print them and end", **POD},
)
def logs(c: Any, name: str, pod: str | None = None, lines: int = 200, no_follow: bool = False) -> None:
    """Follow a model's log; Ctrl+C ends the following, not the model."""
    from pi import remote
    from pi.errors import Interrupted
    from pi.fabric_tasks import target as targets

    state.check_name(name, "model")
    output = screen.Output()

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


class Reservation:
    """An entry of status `starting` in pods.json, made before the pod is told to start.

    It is taken back when the start fails with proof that nothing is left, and stays when the pod may still be
    at work: `pi list` settles it then.
    """

    def __init__(self, place: Pod, private: bool) -> None:
        self._place, self._private = place, private
        self._name = ""

    @property
    def made(self) -> bool:
        return bool(self._name)

    def make(self, plan: LaunchPlan) -> LaunchPlan:
        _remember(
            self._place,
            Deployment(
                name=plan.name,
                model=plan.model,
                port=plan.port,
                gpus=plan.gpus,
                pid=0,
                status="starting",
                memory_share=plan.memory_share,
                owner=state.Owner.this(),
                extra={"private": True} if self._private else {},
            ),
        )
        self._name = plan.name
        return plan

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.made and isinstance(error, PiError) and not isinstance(error, MAY_GO_ON):
            try:
                _forget(self._place, {self._name})
            except PiError as refusal:
                screen.note(f"{self._name} did not start and stays in pods.json, until pi list clears it: {refusal}")
        if isinstance(error, LeftRunning):
            error.hint = f"pi list shows when {self._name} is ready; pi stop {self._name} ends it"
        elif isinstance(error, Interrupted) and self.made:
            error.hint = f"{self._name} is not running; what was downloaded stays cached"


MAY_GO_ON = (UnreachableError, HostKeyError, LeftRunning, OutputError)
"""After these the pod may still be at work."""


class StartReport:
    """Tells how a start goes: the plan, the download, then the time and vLLM's last log line."""

    def __init__(self, request: Request, pod: str, detach: bool) -> None:
        self._request, self._pod, self._detach = request, pod, detach
        self._line = screen.Progress()
        self._began = time.monotonic()

    def planned(self, plan: LaunchPlan, facts: PodFacts) -> LaunchPlan:
        """The plan, told. Raises InputError where every vLLM of the pod is too old for it."""
        from pi import venvs

        refusal = venvs.refusal(plan, facts, self._pod)
        if refusal:
            raise refusal
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
            total = f" of {screen.gib(event['total'])}" if event["total"] else ""
            self._line.show(f"  downloading {done}{total}, {speed}/s ({elapsed}; Ctrl+C cancels)")
        elif event.kind == "launched":
            self._began = time.monotonic()
            self._line.clear()
            interrupt = "leaves it starting" if self._detach else "stops it"
            screen.say(f"  vLLM is running (pid {event['pid']}); waiting until it is ready (Ctrl+C {interrupt})")
        elif event.kind == "log" and event["text"].strip():
            self._line.show(f"  {elapsed}: {event['text'].strip().splitlines()[-1]}")
        elif event.kind == "reconnecting":
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


def _remember(place: Pod, deployment: Deployment) -> None:
    state.change(lambda known: known.with_pod(known.pod(place.name).with_model(deployment)))


def _remember_started(place: Pod, model: Deployment) -> None:
    from pi import pods_json
    from pi.fabric_tasks import target as targets

    runs = f"{model.name} runs on {place.name} (port {model.port}, pid {model.pid}), but that is not written down"
    way_on = (
        f"pi list writes it down, pi stop {model.name} ends it; by hand, under the models of {place.name}:"
        f"\n  {pods_json.entry(model)}"
    )
    with targets.noted(runs, way_on):
        _remember(place, model)


def _forget(place: Pod, names: set[str]) -> None:
    def edit(known: state.State) -> state.State:
        pod = known.pods.get(place.name)
        return known.with_pod(pod.without_models(names)) if pod else known

    state.change(edit)


def _gone(place: Pod, status: Status) -> list[Deployment]:
    """Models of pods.json that the pod proved to be gone.

    A reservation that its owner has not brought to the pod yet is not, nor is what a reboot ended.
    """
    there = {found.deployment.name for found in status.found}
    kept = _lost_by_reboot(place, status)
    absent = [model for name, model in place.models.items() if name not in there]
    return [model for model in absent if model not in kept and not _is_on_its_way(model)]


def _reconcile(place: Pod, status: Status) -> None:
    """Make pods.json say what the pod proved: forget what is gone, adopt what runs there unknown to it."""
    from pi import audit

    gone = _gone(place, status)
    if gone:
        _forget(place, {model.name for model in gone})
    for model in gone:
        audit.note("forget", f"{place.name}/{model.name}")
    if place.boot != status.boot:
        state.change(lambda known: known.with_pod(replace(known.pod(place.name), boot=status.boot)))
    for name, found in ((found.deployment.name, found) for found in status.found):
        known = place.models.get(name)
        if found.state == "running" and (known is None or known.status == "starting"):
            _remember(place, found.deployment)
            if known is None:
                audit.note("adopt", f"{place.name}/{name}")
                screen.note(f"{name} was started on this pod from elsewhere; pi knows it now")


def _is_on_its_way(model: Deployment) -> bool:
    return model.status == "starting" and model.owner is not None and not model.owner.is_gone()


def _lost_by_reboot(place: Pod, status: Status) -> list[Deployment]:
    """Models of pods.json of which the pod has no note any more because it was restarted since."""
    there = {found.deployment.name for found in status.found}
    return [
        model
        for name, model in place.models.items()
        if name not in there and model.boot_id and model.boot_id != status.boot_id
    ]


def _row(found: Found, known: Deployment | None, host: str, status: Status) -> tuple[object, ...]:
    from pi import endpoint

    model = found.deployment
    words = found.state
    if found.state == "starting":
        words = _starting(found, known)
    elif found.state == "crashed":
        words = _crashed(found)
    elif found.state == "rebooted":
        words = _stopped_by_reboot(status)
    if found.left:
        words += f", {_held(found)}, pi stop {model.name} ends it"
    if found.strangers:
        words += f"; {', '.join(found.strangers)} listens on its port too and is not pi's"
    if venv := model.extra.get("venv"):
        words += f" (vLLM {status.beside.get(venv, 'unknown')}, ~/{venv})"
    url = ""
    if found.state == "running":
        url = "over SSH only" if model.extra.get("private") else endpoint.url(host, model.port, status.public)
    return model.name, model.model, _gpus(model), model.port, words, url


def _stopped_by_reboot(status: Status) -> str:
    return f"stopped by a reboot ({screen.ago(status.up_s)})"


def _crashed(found: Found) -> str:
    """Such as "crashed at 14:03, exit 1: CUDA out of memory"; the time is this machine's."""
    words = "crashed"
    if found.ended_s_ago is not None:
        words += f" at {screen.clock(time.time() - found.ended_s_ago)}"
    if found.exit_code is not None:
        words += f", exit {found.exit_code}"
    cause = one_line(found.cause or "", 160)
    return f"{words}: {cause}" if cause else words


def _held(found: Found) -> str:
    """What outlived a server: "71.0 GiB still held by pid 456"."""
    pids = ", ".join(map(str, found.left))
    return f"{found.held_mib / 1024:.1f} GiB still held by pid {pids}" if found.held_mib else f"pid {pids} is left"


def _tell_end(found: Found) -> None:
    if found.last_lines:
        screen.say(f"\nlast lines of {found.deployment.name} (pi logs {found.deployment.name} shows more):")
        for line in found.last_lines:
            screen.say(f"  {one_line(line)}")


def _starting(found: Found, known: Deployment | None) -> str:
    words = f"starting ({found.phase})" if found.phase else "starting"
    if known and known.owner and known.owner.is_gone():
        words += f"; its pi is gone, the pod goes on; pi stop {known.name} ends it"
    return words


def _gpus(model: Deployment) -> str:
    return ",".join(map(str, model.gpus)) or "-"
