"""Start one model over several pods: they agree, fetch the model, and are launched and stopped together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pi import config, screen
from pi.calls import span
from pi.calls.events import Download, Event, Launched
from pi.calls.failures import ServerError
from pi.calls.pull import pull_model
from pi.calls.start import NO_UPKEEP, Started, start_model
from pi.errors import BusyError, InputError, Interrupted, PiError, signal_of
from pi.planning import catalog, spanning
from pi.planning.types import LaunchPlan, PodFacts
from pi.pods import changes, state
from pi.pods.types import Pod
from pi.steps import consent, on_idle, reconcile, spending, where
from pi.steps.agreeing import Agreed, agree
from pi.steps.asking import lookups
from pi.steps.members import Joined, all_of, each, joined
from pi.steps.plans import plan_lines
from pi.steps.ranks import Ranks, goes_on, with_pod
from pi.steps.reports import StartReport, show_how_to_call, show_reasons
from pi.steps.reservation import Reservation
from pi.steps.starting import Across, Detached, Start
from pi.steps.stop_together import forget_part, stop_part

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def start(pod: Pod, connection: Connection, wanted: Start, across: Across, key: str) -> None:
    """Start a model over several pods, and print how to call it. Raises PiError; then pi has stopped all of it."""
    began, name = time.monotonic(), wanted.request.name
    with (
        changes.change("start", f"{pod.name}/{name}"),
        joined(pod, connection, others(pod, across)) as members,
    ):
        agreed = agree(members, wanted.request, across)
        _show(agreed)
        if wanted.asks:
            consent.require(
                f"start {name} over {listed(across)}?",
                InputError(
                    "span-unconfirmed",
                    "this start takes several pods",
                    "add -y to start it; --dry-run shows the plan",
                ),
                InputError("span-unconfirmed", "started nothing: you did not agree"),
            )
        _fetch(agreed)
        started = _started(agreed, wanted, key)
    if started is None:
        wait = f"pi wait {name}{where.flag_for(pod.name)}"
        screen.say(f"{name} is starting over {listed(across)}; {wait} waits until it is ready")
        return
    for member in members:
        spending.note_use(member.pod)
    screen.say(f"{name} is ready over {listed(across)} after {screen.seconds(time.monotonic() - began)}")
    show_how_to_call(started, connection.host, pod.name)


def show(pod: Pod, connection: Connection, wanted: Start, across: Across) -> None:
    """Print what a start over several pods would do. Raises PiError. Nothing changes."""
    with joined(pod, connection, others(pod, across)) as members:
        agreed = agree(members, wanted.request, across)
    for member in agreed.members:
        name = member.pod.name
        place = "the head" if member == agreed.head else f"rank {agreed.ranks[name].rank.number}"
        screen.say(f"{name}, {place}:")
        rank = agreed.ranks[name].rank
        for line in plan_lines(agreed.plans[name], agreed.facts[name], wanted.request, name, wanted.private, rank):
            screen.say(line)
        screen.say()
    for note in agreed.notes:
        screen.say(note)


def others(head: Pod, across: Across) -> list[Pod]:
    """Return the pods behind the head. Raises InputError if one is unknown, or if another pod is the head."""
    if head.name != across.pods[0]:
        raise InputError(
            "span-head",
            f"--pod {head.name} and --across {','.join(across.pods)} name two heads",
            f"leave --pod out, or begin with {head.name}",
        )
    saved = state.load()
    return [saved.pod(name) for name in across.pods[1:]]


def listed(across: Across) -> str:
    """Return the pods in words, such as "a, b and c"."""
    return f"{', '.join(across.pods[:-1])} and {across.pods[-1]}"


def _show(agreed: Agreed) -> None:
    """Print what all pods together will do."""
    plan, names = agreed.plan, [member.pod.name for member in agreed.members]
    where = ", ".join(f"{name}: {_gpus(agreed.plans[name])}" for name in names)
    pods = f"{len(names)} pods together: {names[0]} (head), {', '.join(names[1:])}"
    screen.say(f"starting {plan.model} as {plan.name} on {pods}")
    screen.say(f"  {where}; requests go to {names[0]}, port {plan.port}")
    show_reasons(plan)
    for note in agreed.notes:
        screen.say(f"  {note}")


def _gpus(plan: LaunchPlan) -> str:
    return f"GPU {','.join(map(str, plan.gpus))}" if plan.gpus else "CPU"


def _fetch(agreed: Agreed) -> None:
    """Have all pods download the model, and compare what they have then. Raises InputError if that differs."""
    done: dict[str, str] = {}
    with screen.progress() as line:

        def pull(member: Joined) -> object:
            name = member.pod.name

            def hear(event: Event) -> None:
                if isinstance(event, Download):
                    done[name] = f"{name} {screen.gigabytes(event.done)}"
                    line.show(f"  downloading: {', '.join(done.values())}")

            return pull_model(member.connection, agreed.plans[name], hear)

        try:
            if spanning.share_storage(agreed.parts):  # a download tidies up what others leave there
                for member in agreed.members:
                    all_of([member], pull)
            else:
                all_of(agreed.members, pull)
            line.show("  comparing the files of the model")
            found = all_of(agreed.members, lambda member: span.look(member.connection, agreed.plans[member.pod.name]))
        except KeyboardInterrupt as stop:
            text = "interrupted; downloads that began go on, and nothing starts"
            raise Interrupted("interrupted-download", text, signal_of(stop)) from None
    names = [member.pod.name for member in agreed.members]
    spanning.require_same_weights(dict(zip(names, found, strict=True)), agreed.plan.model)


def _started(agreed: Agreed, wanted: Start, key: str) -> Started | None:
    """Start all parts, and return the head when it is ready; None if the user detached it."""
    head, name = agreed.head, wanted.request.name
    report = StartReport(wanted.request, head.pod.name, catalog.load(config.config_dir()))

    def launch(member: Joined) -> None:
        one = replace(wanted, upkeep=NO_UPKEEP, options={}, private=True)
        started = _start(agreed, member, one, key, lambda event: None, lambda plan, facts: ranks.require_wanted())
        reconcile.remember_started(member.pod, started.deployment)

    ranks = Ranks(name, agreed.members[1:], launch, partial(_stop, agreed, head))

    def take(plan: LaunchPlan, facts: PodFacts) -> None:
        report.take(plan, facts)
        ranks.begin()

    def hear(event: Event) -> None:
        if isinstance(event, Launched):
            ranks.await_launched()
            for number, member in enumerate(agreed.members[1:], 1):
                screen.say(f"  vLLM is running on {member.pod.name} (rank {number})")
            if wanted.detach:
                raise Detached
        report.hear(event)

    started = None
    try:
        with suppress(Detached):
            started = _start(agreed, head, wanted, key, hear, take)
        ranks.end()
        if ranks.failure:  # it has not reached the head yet
            raise ranks.failure
    except BaseException as error:
        if ranks.failure is None and goes_on(error):
            ranks.end()
            screen.note(f"the other pods of {name} go on, too; pi stop {name} --pod {head.pod.name} stops all")
            raise
        report.end()
        is_stopped = _stop_all(agreed, wanted, ranks)
        if ranks.failure:
            raise ranks.failure from None
        if isinstance(error, ServerError):
            raise with_pod(name, report.explained(error, head.pod.name), head.pod.name) from None
        if isinstance(error, Interrupted) and not is_stopped:
            error.hint = None  # "is not running"
        raise
    finally:
        report.end()
    if started is None:
        return None
    reconcile.remember_started(head.pod, started.deployment)
    report.keep_measured()
    report.show_room(started)
    report.keep_durations()
    return started


Take = Callable[[LaunchPlan, PodFacts], None]
"""Learns the plan that pods.json has for a pod, before the pod gets it. May raise PiError."""


def _start(
    agreed: Agreed, member: Joined, wanted: Start, key: str, hear: Callable[[Event], None], take: Take
) -> Started:
    """Start the part of one pod by its plan, if the pod still allows it. Raises PiError or Detached."""
    request, name = wanted.request, member.pod.name
    part, known_models = agreed.ranks[name], catalog.load(config.config_dir())
    reservation = Reservation(member.pod, wanted.private, wanted.options, span=part.span)

    def decide(facts: PodFacts) -> LaunchPlan:
        before = agreed.facts[name]
        facts = replace(facts, measurements=before.measurements, prices=before.prices)
        plan = spanning.again(request, agreed.plans[name], facts, known_models, name)
        if part.rank.number == 0 and part.rank.port in facts.taken_ports:
            raise BusyError("span-changed", f"port {part.rank.port} of {name} is in use now", "repeat the command")
        made = reservation.make(plan)
        take(made, facts)
        return made

    try:
        with reservation:
            return start_model(
                member.connection,
                model=request.model,
                name=request.name,
                key=key,
                decide=decide,
                listen=hear,
                **lookups(request, known_models),
                private=wanted.private,
                upkeep=on_idle.decided(wanted.upkeep, replace(member.pod, on_idle=None)),
                options=wanted.options,
                timeout_s=wanted.timeout_s,
                alone=True,
                member=part,
            )
    except Detached:
        reservation.hand_over()
        raise


def _stop(agreed: Agreed, member: Joined) -> None:
    stop_part(member.connection, agreed.request.name, agreed.ranks[member.pod.name].span.group)


def _stop_all(agreed: Agreed, wanted: Start, ranks: Ranks) -> bool:
    """Stop what has started on any pod, and print what could not be stopped. Returns False at another Ctrl+C."""
    name, head = agreed.request.name, agreed.head.pod.name
    try:
        with screen.progress() as line:
            line.show(f"  stopping {name} on all pods")
            ranks.cancel()
            stopped = each(agreed.members, partial(_stop, agreed))
    except KeyboardInterrupt:
        _keep_head(agreed, wanted)
        screen.note(f"interrupted: parts of {name} may still run; to stop them: pi stop {name} --pod {head}")
        return False
    for one in stopped:
        if one.error:
            place = one.pod.name
            screen.note(f"cannot stop {name} on {place}: {one.error.message}; later: pi stop {name} --pod {place}")
            if place == head:
                _keep_head(agreed, wanted)
        else:
            with suppress(PiError):
                forget_part(one.pod, name, agreed.ranks[one.pod.name].span.group)
    return True


def _keep_head(agreed: Agreed, wanted: Start) -> None:
    """Save the head as starting again, for a later stop: its entry went with the error."""
    head = agreed.head.pod
    reservation = Reservation(head, wanted.private, wanted.options, span=agreed.ranks[head.name].span)
    with suppress(PiError):
        if agreed.request.name in state.load().pod(head.name).models:
            return
        reservation.make(agreed.plans[head.name])
        reservation.hand_over()
