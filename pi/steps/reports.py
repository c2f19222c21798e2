"""Show the progress of a start."""

from __future__ import annotations

import time

from pi import addresses, screen, web
from pi.calls.events import (
    Download,
    Event,
    Exited,
    Launched,
    Log,
    Note,
    Progress,
    Reconnected,
    Reconnecting,
    Still,
)
from pi.calls.failures import ServerError
from pi.calls.start import Started
from pi.planning import venvs
from pi.planning.catalog import Catalog
from pi.planning.corrected import corrected
from pi.planning.start_facts import facts_of_start
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods import apis
from pi.pods.types import Deployment
from pi.steps import durations, keys, measurements, where
from pi.steps.start_line import StartLine
from pi.vllm.corrections import SEQUENCES
from pi.vllm.hangs import place_of, shown
from pi.vllm.measured import LogReader, room
from pi.vllm.start_facts import StartFacts

WHOLE = "from its launch to ready"
"""Beside the phases of a start: how long vLLM took in all."""

LONG_PHASE_S = 1
"""Phases of a start that took less are not named at its end."""


def downloading(done: float, total: float, per_second: float) -> str:
    """Describe a download, such as "downloading 1.2 GB of 4.4 GB, 80 MB/s, about 40 s left"."""
    of, speed = f" of {screen.gigabytes(total)}" if total else "", f"{screen.gigabytes(per_second)}/s"
    return f"downloading {screen.gigabytes(done)}{of}, {speed}{screen.left(total - done, per_second)}"


def show_reasons(plan: LaunchPlan) -> None:
    for reason in plan.why:
        screen.say(f"  {reason}")
    for warning in plan.warnings:
        screen.note(f"  note: {warning}")


class StartReport:
    """Shows a start: the plan, the download, then what vLLM does, its last log line, and the time."""

    def __init__(self, request: Request, pod: str, known_models: Catalog | None = None) -> None:
        self._request, self._pod, self._known_models = request, pod, known_models
        self._work = f"start {pod}/{request.model}"
        self._before = durations.load(self._work)
        self._line = StartLine(self._before)
        self._launched: float | None = None
        self._download_bytes = 0.0
        self._log = LogReader()
        self._plan: LaunchPlan | None = None
        self._facts: PodFacts | None = None
        self._line.show("asking the pod", quiet=True)

    def explained(self, failure: ServerError, pod: str) -> ServerError:
        """Return a failure with the hint that follows from the plan and the pod."""
        return failure.given(self._start_facts(), where.flag_for(pod)) if self._plan else failure

    def _start_facts(self) -> StartFacts:
        if self._plan is None or self._facts is None or self._known_models is None:
            return StartFacts()
        return facts_of_start(self._plan, self._request, self._facts, self._known_models)

    def _still(self, event: Still) -> None:
        """Print where vLLM stands if its log does not move, what its processes do, and a hint."""
        place = place_of(event.log, event.processes, self._start_facts())
        doing = f": {place.doing}" if place else ""
        screen.note(f"  note: no progress for {screen.seconds(event.seconds)}{doing}")
        for line in shown(event.processes):
            screen.note(f"    {line}")
        if place and place.hint:
            screen.note(f"  {place.hint}")

    def keep_measured(self) -> None:
        """Save what vLLM measured at its last launch, for the next plan."""
        if self._plan and self._plan.setting and (self._log.measured or self._plan.corrections):
            measurements.keep(self._plan.setting, self._log.measured, self._plan.corrections)

    def show_room(self, started: Started) -> None:
        """Print the context of a model that is ready, and how many requests fit at a time."""
        context = started.context or self._log.measured.context
        if context:
            given = self._plan.args.get(SEQUENCES) if self._plan else None
            sequences = int(given) if given and given.isdecimal() else None
            screen.say(f"  context: {room(context, self._log.measured.kv_tokens, sequences)}")

    def planned(self, plan: LaunchPlan, facts: PodFacts) -> LaunchPlan:
        """Print the plan and return it. Raises InputError if every vLLM on the pod is too old for it."""
        self._line.clear()
        refusal = venvs.refusal(plan, facts, self._pod)
        if refusal:
            raise refusal
        self._download_bytes = (plan.download_gb or 0) * 1e9
        where = f"GPU {','.join(map(str, plan.gpus))}" if plan.gpus else "CPU"
        screen.say(f"starting {plan.model} as {plan.name} on {self._pod}: {where}, port {plan.port}")
        show_reasons(plan)
        return self.take(plan, facts)

    def take(self, plan: LaunchPlan, facts: PodFacts) -> LaunchPlan:
        """Remember a plan that the user has seen, for hints and figures, and return it."""
        self._plan, self._facts = plan, facts
        return plan

    def corrected(self, plan: LaunchPlan, exited: Exited) -> LaunchPlan | None:
        """Return the plan for a second try and print what it corrects; None if vLLM's log names no usable number."""
        found = corrected(plan, self._request, exited.log, exited.exit_code)
        if found is None:
            return None
        self._line.clear()
        self._plan, sentence = found
        screen.note(f"  {sentence}")
        return self._plan

    def hear(self, event: Event) -> None:
        match event:
            case Download(done, total, per_second):
                self._line.enter("downloading")
                self._line.show(downloading(done, total or self._download_bytes, per_second) + "; Ctrl+C cancels")
            case Launched(pid):
                self._line.begin()
                self._log = LogReader()
                self._launched = time.monotonic()
                before = self._before.get(WHOLE)
                last = f"last time it took {screen.whole_seconds(before)}; " if before else ""
                screen.say(f"  vLLM is running (pid {pid}); waiting until it is ready ({last}Ctrl+C stops it)")
                self._line.enter("starting")
            case Note(text):
                self._line.clear()
                screen.note(f"  note: {text}")
            case Progress(text):
                self._line.show(text)
            case Log(text):
                self._log.feed(text)
                self._line.read(text)
            case Still():
                self._line.clear()
                self._still(event)
            case Reconnecting() | Reconnected():
                self._line.clear()
                reconnecting(event)

    def keep_durations(self) -> None:
        """Save how long each phase took, and print the longest ones."""
        took_s = self._line.took_s()
        whole = {} if self._launched is None else {WHOLE: time.monotonic() - self._launched}
        durations.keep(self._work, {**took_s, **whole})
        longest = {name: took for name, took in took_s.items() if took >= LONG_PHASE_S}
        if len(longest) > 1:
            screen.say("  it took: " + ", ".join(f"{name} {screen.seconds(took)}" for name, took in longest.items()))

    def end(self) -> None:
        self._line.clear()


class WaitReport:
    """Shows what vLLM does while pi waits for a model."""

    def __init__(self) -> None:
        self._line = StartLine({})

    def hear(self, event: Event) -> None:
        match event:
            case Progress(text):
                self._line.show(text)
            case Log(text):
                self._line.read(text)
            case Reconnecting() | Reconnected():
                self._line.clear()
                reconnecting(event)

    def end(self) -> None:
        self._line.clear()


def reconnecting(event: Reconnecting | Reconnected) -> None:
    """Print that the connection was lost, or that it is back."""
    if isinstance(event, Reconnected):
        screen.note("  connected again")
    else:
        screen.note(f"  connection lost; reconnecting ({event.attempt}/{event.of})")


def show_how_to_call(started: Started, host: str, pod: str) -> None:
    """Print the addresses of a model that is ready; `host` is the pod's address as seen from here."""
    elsewhere = where.flag_for(pod)
    if started.side_doors:
        ports = ", ".join(map(str, started.side_doors))
        screen.note(f"note: vLLM also listens without a key on port {ports}; close it with a firewall")
    deployment = started.deployment
    url = addresses.url(host, deployment.port, started.public)
    screen.say()
    if deployment.private:
        screen.say(f"  it listens on the pod's loopback only, port {deployment.port}; use it over SSH:")
        reachable = False
    else:
        screen.say(f"  export OPENAI_BASE_URL={url}")
        screen.say(f'  export OPENAI_API_KEY="{keys.reference()}"')
        adapters = "".join(f", or its adapter {name}" for name in deployment.adapters)
        screen.say(f"  model: {deployment.model} (or {deployment.name}{adapters})")
        screen.say()
        reachable = web.answers(url)
        if not reachable:
            screen.say(f"  {url} does not answer from here (the provider closed or mapped the port);")
            screen.say(f"  pi tunnel {deployment.name}{elsewhere} works anyway, and makes it answer on this machine")
    _show_call(deployment, url, reachable, elsewhere)


def _show_call(deployment: Deployment, url: str, reachable: bool, elsewhere: str) -> None:
    """Print a command that calls a model; over SSH if its address does not answer from here."""
    if apis.is_chat(deployment.api):
        screen.say(f'  pi prompt {deployment.name}{elsewhere} "Hello"')
        return
    port, routes = deployment.port, " and ".join(apis.APIS[deployment.api].routes)
    if not reachable:
        if deployment.private:
            screen.say(f"  pi tunnel {deployment.name}{elsewhere} makes it answer on this machine; then:")
        url = f"http://127.0.0.1:{port}/v1"
    screen.say(f"  {deployment.name} answers to {apis.APIS[deployment.api].answers}, at {routes}:")
    screen.say(f"  {apis.example(deployment.api, deployment.name, url, keys.reference())}")
