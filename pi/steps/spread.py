"""Replicas of a model on several pods: those of the first pod's address pass requests on, or `pi door` spreads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.calls import network
from pi.calls.call import progress_to
from pi.calls.scale import Elsewhere, link, unlink_pod
from pi.calls.start import Started
from pi.calls.status import Found, read_status
from pi.calls.stop import stop_models
from pi.errors import BusyError, InputError, Interrupted, OutputError, PiError
from pi.pods import state
from pi.pods.types import Pod, State
from pi.steps import group, reconcile, together, where
from pi.steps.declared import ENDED
from pi.steps.members import Joined, all_of, joined
from pi.steps.reports import show_how_to_call
from pi.steps.reservation import MAY_CONTINUE
from pi.steps.starting import Across, Start
from pi.text import count

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

BY_DOOR = "pi door spreads the requests"

MEASURED_S = 0.5

OVERLAYS = ip_network("100.64.0.0/10")
"""The shared space that overlay networks use (RFC 6598)."""

MOST_ADDRESSES = 2
"""Addresses of each pod that pi tries."""

StartHere = Callable[[Pod, "Connection", Start, str], Started]
"""Starts the replicas of one pod behind an address of its own."""

ScaleHere = Callable[[Pod, "Connection", Start, int, str], None]


@dataclass(frozen=True)
class Reach:
    """The private address at which the first pod reaches another one, or why it has none; and a sentence on it."""

    address: str
    words: str


def shares(replicas: int, pods: Sequence[str]) -> dict[str, int]:
    """Return how many replicas each pod gets; the first ones get more. Raises InputError if one would get none."""
    if replicas < len(pods):
        hint = f"use {len(pods)} or more, or fewer pods"
        raise InputError("replicas-few", f"{count(replicas, 'replica')} cannot be on {len(pods)} pods", hint)
    each, more = divmod(replicas, len(pods))
    return {pod: each + (place < more) for place, pod in enumerate(pods)}


def on_pod(wanted: Start, number: int, is_head: bool) -> Start:
    """Return the start of one pod's share. The first pod keeps the options of all; each other one those of its own."""
    options: dict[str, Any] = dict(wanted.options)
    if not is_head and options:
        options = {key: value for key, value in options.items() if key not in ("across", "address")}
        options["replicas"] = str(number)
    return replace(wanted, request=replace(wanted.request, replicas=number), options=options, across=None)


def start(pod: Pod, connection: Connection, wanted: Start, across: Across, key: str, start_here: StartHere) -> None:
    """Start replicas on several pods, unless a pod behind the first one has some. Raises PiError."""
    parts, name = shares(wanted.request.replicas, across.pods), wanted.request.name
    began = list[Joined]()
    with joined(pod, connection, together.others(pod, across)) as members:
        reached = _reached(members, wanted, across)
        for member in members[1:]:
            screen.say(
                f"{member.pod.name}: {count(parts[member.pod.name], 'replica')}; {reached[member.pod.name].words}"
            )
        try:
            started = start_here(pod, connection, on_pod(wanted, parts[pod.name], True), key)
            began.append(members[0])
            for member in members[1:]:
                found = _endpoint(member, name)
                if found is None:
                    part = on_pod(wanted, parts[member.pod.name], False)
                    start_here(member.pod, member.connection, part, key)
                    began.append(member)
                elif found.deployment.model != started.deployment.model:
                    text = f"{member.pod.name} already has another model called {name}"
                    raise BusyError("name-taken", text, f"stop it: pi stop {name} --pod {member.pod.name}")
        except PiError as error:
            if not isinstance(error, MAY_CONTINUE):
                _stop(began, name)
            raise
        _link(members, name, reached, wanted.options)
    screen.say(f"{name} has {count(wanted.request.replicas, 'replica')} over {together.listed(across)}")
    show_how_to_call(started, connection.host, pod.name)


def scale(
    pod: Pod,
    connection: Connection,
    wanted: Start,
    across: Across,
    number: int,
    key: str,
    scale_here: ScaleHere,
    start_here: StartHere,
) -> None:
    """Bring all pods together to so many replicas; a pod that has none starts its share. Raises PiError."""
    parts, name = shares(number, across.pods), wanted.request.name
    wanted = replace(wanted, options={**wanted.options, "replicas": str(number)})
    with joined(pod, connection, together.others(pod, across)) as members:
        reached = _reached(members, wanted, across)
        for member in members:
            part = parts[member.pod.name]
            own = on_pod(wanted, part, member.pod == pod)
            if member.pod == pod or read_status(member.connection).named(name):
                scale_here(member.pod, member.connection, own, part, key)
            else:
                start_here(member.pod, member.connection, own, key)
        _link(members, name, reached, wanted.options)
    screen.say(f"{name} has {count(number, 'replica')} over {together.listed(across)}")


def _reached(members: Sequence[Joined], wanted: Start, across: Across) -> dict[str, Reach]:
    """Return how the first pod reaches each other one. Raises InputError for a given address that is not private."""
    for address in across.addresses.values():
        if not ip_address(address).is_private and ip_address(address) not in OVERLAYS:
            hint = "leave --address out: without a private network, pi door spreads the requests over SSH"
            raise InputError("address-public", f"{address} is not private: the key would cross it in the clear", hint)
        if ip_address(address).version == 6:
            raise InputError(
                "address-ipv6", f"{address} is an IPv6 address", "use an IPv4 address: HAProxy listens there alone"
            )
    if wanted.private:
        return {each.pod.name: Reach("", f"{BY_DOOR}: --private keeps it on its loopback") for each in members[1:]}
    with screen.progress() as line:
        line.show("  looking for private addresses")
        found = dict(zip(across.pods, all_of(members, lambda each: network.look(each.connection)), strict=True))
        candidates = {
            pod: [across.addresses[pod]] if pod in across.addresses else _of_ipv4(one) for pod, one in found.items()
        }
        return {other.pod.name: _tried(members[0], other, candidates) for other in members[1:]}


def _tried(head: Joined, other: Joined, candidates: dict[str, list[str]]) -> Reach:
    """Return the first address of a pod at which the first pod reaches it. They may be several networks."""
    here, name = head.pod.name, other.pod.name
    why = f"{name if candidates[here] else here} has no private IPv4 address"
    for address in candidates[name][:MOST_ADDRESSES]:
        for own in candidates[here][:MOST_ADDRESSES]:
            passage = network.passage(head.connection, own, other.connection, address, MEASURED_S)
            if not passage.problem:
                return Reach(address, f"{here} passes requests on to {address} ({passage.round_trip_ms:.1f} ms away)")
            why = f"{here} does not reach it at {address}: {passage.problem}"
    return Reach("", f"{BY_DOOR}: {why}")


def _of_ipv4(found: network.PodNetwork) -> list[str]:
    """Return the private addresses of a pod at which its HAProxy can listen."""
    return [each.address for each in found.addresses if ip_address(each.address).version == 4]


def _link(members: Sequence[Joined], name: str, reached: dict[str, Reach], options: Mapping[str, Any]) -> None:
    """Have the first pod pass requests on to those that it reaches; if that fails, print a note: all replicas run."""
    elsewhere = list[Elsewhere]()
    for member in members[1:]:
        found, address = _endpoint(member, name), reached[member.pod.name].address
        if found and found.servers and address:
            port, number = found.deployment.port, len(found.servers)
            elsewhere.append(Elsewhere(member.pod.name, address, port, number))
    head = members[0].pod.name
    try:
        with screen.progress() as line:
            link(members[0].connection, name, elsewhere, progress_to(line.show))
    except PiError as error:
        if isinstance(error, Interrupted | OutputError):
            raise
        screen.note(f"{head} does not pass requests on to all pods: {error.message}")
        again = f"pi scale {name} {options.get('replicas')} --pod {head}"
        screen.note(f"  all replicas run, and {BY_DOOR}; to connect them again: {again}")
    if found := _endpoint(members[0], name):
        reconcile.remember(members[0].pod, replace(found.deployment, options=dict(options)))


def _endpoint(member: Joined, name: str) -> Found | None:
    """Return the address of a pod's replicas, if it has some that run."""
    found = read_status(member.connection).named(name)
    return found if found and found.servers is not None and found.state not in ENDED else None


def others_with(saved: State, pod: Pod, name: str) -> list[str]:
    """Return the other pods that have replicas of a model, by pods.json."""
    model = pod.models.get(name)
    pods = str(model.options.get("across", "")).split(",") if model and "replicas" in model.options else []
    return [each for each in pods if each != pod.name and each in saved.pods and name in saved.pods[each].models]


def note_left(name: str, pods: Sequence[str]) -> None:
    """Print on which pods replicas of a model go on."""
    if pods:
        listed = ",".join(pods)
        screen.note(f"{name} still has replicas on {listed}: pi stop {name} --pod {listed}")


def unlink(c: Any, stopped: Mapping[str, Collection[str]]) -> list[str]:
    """Let no other pod pass requests on to models that pi has stopped: another model may get their ports.

    Returns the pods that did so.
    """
    links = {pod.name: found for pod in state.load().pods.values() if (found := _links(pod, stopped))}
    heads = tuple(pod for pod in state.load().pods.values() if pod.name in links)

    def cut(head: Pod, connection: Connection) -> bool:
        for name, pods in links[head.name].items():
            for pod in pods:
                unlink_pod(connection, name, pod)
        return True

    asked = group.ask(c, where.Chosen(heads, True), cut)
    for each in asked:
        for name, pods in links[each.pod.name].items():
            model = each.pod.models[name]
            if each.answer:
                left = tuple(pod for pod in model.elsewhere if pod not in pods)
                reconcile.remember(each.pod, replace(model, elsewhere=left))
            elif each.error:
                screen.note(f"{each.pod.name} may still pass requests for {name} on to {', '.join(pods)}:")
                screen.note(f"  {each.error.message}; then: pi restart {name} --pod {each.pod.name}")
    return [each.pod.name for each in asked if each.answer]


def _links(head: Pod, stopped: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Return the stopped models to which a pod passes requests on, with their pods."""
    found = {
        model.name: [pod for pod in model.elsewhere if model.name in stopped.get(pod, ())]
        for model in head.models.values()
    }
    return {name: pods for name, pods in found.items() if pods}


def _stop(members: Sequence[Joined], name: str) -> None:
    for member in members:
        with suppress(PiError):
            stopped = stop_models(member.connection, [name], lambda event: None)
            reconcile.forget(member.pod, {name, *(each.name for each in stopped)})
