"""Start a model with replicas behind one endpoint, and change their number."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.calls.call import progress_to
from pi.calls.scale import keep_options, open_endpoint, take_out
from pi.calls.start import Started
from pi.calls.status import Found, Status, read_status
from pi.calls.stop import stop_models
from pi.calls.wait import wait_for
from pi.errors import InputError, NotReadyError, PiError
from pi.planning import catalog, planner
from pi.planning.replicas import are_apart, first_of, name_of, number_of, plan_all, replica
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods import changes
from pi.pods.types import NAME, Deployment, Pod
from pi.steps import reconcile, spending, spread, starting, together, where
from pi.steps.declared import ENDED
from pi.steps.reports import show_how_to_call
from pi.steps.reservation import MAY_CONTINUE
from pi.steps.starting import Start
from pi.steps.waiting import require_ready
from pi.text import count

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

MOST = 64
"""Replicas of a model: a pod has at most 16 GPUs or so."""


def start(pod: Pod, connection: Connection, wanted: Start, key: str) -> None:
    """Start a model, with its replicas or over several pods, and print how to call it. Raises PiError."""
    if wanted.across and wanted.request.replicas:
        return spread.start(pod, connection, wanted, wanted.across, key, _start)
    if wanted.across:
        return together.start(pod, connection, wanted, wanted.across, key)
    if not wanted.request.replicas:
        return starting.start(pod, connection, wanted, key)
    return show_how_to_call(_start(pod, connection, wanted, key), connection.host, pod.name)


def _start(pod: Pod, connection: Connection, wanted: Start, key: str) -> Started:
    """Start the replicas of one pod behind one address. Raises PiError; then pi has stopped them."""
    name, began = wanted.request.name, time.monotonic()
    with changes.change("start", f"{pod.name}/{name}"):
        endpoint = _opened(pod, connection, wanted, key)
        try:
            first = _start_all(pod, connection, wanted, key)
        except PiError as error:
            if not isinstance(error, MAY_CONTINUE):
                stop_models(connection, [name], lambda event: None)
                reconcile.forget(pod, {name, *(name_of(name, each) for each in range(1, wanted.request.replicas + 1))})
            raise
        served = _served(endpoint.deployment, first, wanted.options)
        reconcile.remember_started(pod, served)
    spending.note_use(pod)
    ready = f"{name} is ready on {pod.name} after {screen.seconds(time.monotonic() - began)}"
    screen.say(f"{ready}: {count(wanted.request.replicas, 'replica')} behind port {served.port}")
    return replace(endpoint, deployment=served, context=first.context)


def _opened(pod: Pod, connection: Connection, wanted: Start, key: str) -> Started:
    request = wanted.request
    if not NAME.fullmatch(name_of(request.name, MOST)):
        raise InputError("name-invalid", f"the name {request.name} is too long for replicas", "use a shorter --name")
    with screen.progress() as line:
        endpoint = open_endpoint(
            connection,
            model=request.model,
            name=request.name,
            key=key,
            private=wanted.private,
            options=wanted.options,
            listen=progress_to(line.show),
        )
    reconcile.remember(pod, replace(endpoint.deployment, options=dict(wanted.options)))
    return endpoint


def _served(endpoint: Deployment, replica: Started, options: Mapping[str, Any]) -> Deployment:
    """Return an endpoint with what it has from its replicas."""
    made = replica.deployment
    return replace(endpoint, model=made.model, api=made.api, adapters=made.adapters, options=dict(options))


def _start_all(pod: Pod, connection: Connection, wanted: Start, key: str) -> Started:
    """Start all replicas and return the first. Raises PiError.

    The first one downloads and compiles, and its failure has a hint. The others then start at the same time if each
    has GPUs of its own, else one after the other.
    """
    plans = list[LaunchPlan]()

    def planned(request: Request, facts: PodFacts, known_models: catalog.Catalog) -> LaunchPlan:
        plans[:] = plan_all(wanted.request, facts, known_models)
        return first_of(plans)

    first = _add(pod, connection, wanted, key, 1, planned)
    others = range(2, wanted.request.replicas + 1)
    if not are_apart(plans):
        for number in others:
            _add(pod, connection, wanted, key, number)
    elif others:
        for number in others:
            _launch(pod, connection, replace(wanted, detach=True), key, number)
        _await_all(pod, connection, wanted.request.name, [name_of(wanted.request.name, number) for number in others])
    return first


def _launch(
    pod: Pod,
    connection: Connection,
    wanted: Start,
    key: str,
    number: int,
    planned: starting.Plan = planner.plan,
) -> Started | None:
    one = replace(wanted, request=replica(wanted.request, number), private=True, options={})
    return starting.start_replica(pod, connection, one, key, planned)


def _add(
    pod: Pod, connection: Connection, wanted: Start, key: str, number: int, planned: starting.Plan = planner.plan
) -> Started:
    """Start one replica; the pod lets it join its endpoint. Raises PiError."""
    started = _launch(pod, connection, replace(wanted, detach=False), key, number, planned)
    if started is None:
        raise starting.Detached
    return started


def _await_all(pod: Pod, connection: Connection, name: str, names: list[str]) -> None:
    """Wait until replicas that the pod starts get requests. Raises NotReadyError with the cause if one does not."""
    began = time.monotonic()
    with screen.progress() as line:
        line.run(f"  waiting until {', '.join(names)} are ready", screen.clock_since(began))
        for own in names:
            waited = wait_for(connection, own, None, lambda event: None)
            found = require_ready(pod, own, waited, time.monotonic() - began)
            reconcile.adopt(pod, [found.deployment])
        while not _all_serve(pod, connection, name, names):
            time.sleep(JOIN_S)
    screen.say(f"  {', '.join(names)} are ready, too")


JOIN_S = 0.5


def _all_serve(pod: Pod, connection: Connection, name: str, names: list[str]) -> bool:
    """Return whether the address passes requests on to all of them. Raises NotReadyError if one is gone."""
    status = read_status(connection)
    if gone := next((own for own in names if status.named(own) is None), None):
        log = f"the whole log: pi logs {gone}{where.flag_for(pod.name)}"
        raise NotReadyError("replica-gone", f"{gone} did not join {name}", log)
    found = status.named(name)
    return bool(found and found.servers and all(found.servers.get(own) == "UP" for own in names))


def scale(pod: Pod, connection: Connection, wanted: Start, number: int, key: str) -> None:
    """Bring a model to so many replicas that run: replace those that have ended, then add or remove some."""
    if wanted.across:
        return spread.scale(pod, connection, wanted, wanted.across, number, key, _scale, _start)
    wanted = replace(wanted, options={**wanted.options, "replicas": str(number)})
    return _scale(pod, connection, wanted, number, key)


def _scale(pod: Pod, connection: Connection, wanted: Start, number: int, key: str) -> None:
    """Bring the replicas of one pod to this number, and keep the options of `wanted`."""
    name = wanted.request.name
    wanted = replace(wanted, request=replace(wanted.request, replicas=0))  # one that is added is planned alone
    status = read_status(connection)
    endpoint = _endpoint(pod, status, name)
    own = replicas_of(status.found, name)
    living = [found for found in own if found.state not in ENDED]
    for found in [*(each for each in own if each not in living), *living[number:]]:
        _remove(pod, connection, name, found)
    kept = {found.deployment.name for found in living[:number]}
    numbers = [each for each in range(1, number + 1 + len(kept)) if name_of(name, each) not in kept]
    for each in numbers[: number - len(kept)]:
        _add(pod, connection, wanted, key, each)
        screen.say(f"{name_of(name, each)} is ready and gets requests")
    keep_options(connection, name, wanted.options)
    reconcile.remember(pod, replace(endpoint.deployment, options=dict(wanted.options)))
    screen.say(f"{name} has {count(number, 'replica')} on {pod.name}")


def replicas_of(found: tuple[Found, ...], name: str) -> list[Found]:
    """Return the replicas of a model, in the order of their numbers."""
    own = [each for each in found if each.deployment.replica_of == name]
    return sorted(own, key=lambda each: number_of(each.deployment.name))


def _remove(pod: Pod, connection: Connection, name: str, found: Found) -> None:
    own = found.deployment.name
    with changes.change("stop", f"{pod.name}/{own}"), screen.progress() as line:
        take_out(connection, own, name, progress_to(line.show))
    reconcile.forget(pod, {own})
    how = "had ended and was removed" if found.state in ENDED else "has answered its requests and is stopped"
    screen.say(f"{own} {how}")


def _endpoint(pod: Pod, status: Status, name: str) -> Found:
    """Return the endpoint of a model. Raises InputError if it has none that runs."""
    found = status.named(name)
    if found is None:
        known = [each.deployment.name for each in status.found if not each.deployment.replica_of]
        raise where.unknown_model(name, pod, known)
    flag = where.flag_for(pod.name)
    if found.servers is None:
        hint = f"start it with replicas: pi stop {name}{flag}; pi start MODEL --name {name}{flag} --replicas 2"
        raise InputError("no-replicas", f"{name} runs without replicas", hint)
    if found.state in ENDED:
        raise InputError("endpoint-ended", f"the HAProxy of {name} has ended", f"pi restart {name}{flag}")
    return found
