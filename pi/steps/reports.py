"""Show the progress of a start and of a setup."""

from __future__ import annotations

import time

from pi import addresses, screen
from pi.calls.events import Download, Event, Exited, Launched, Log, Note, Progress, Reconnected, Reconnecting, Step
from pi.calls.start import Started
from pi.planning import venvs
from pi.planning.corrected import corrected
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods import apis
from pi.pods.types import Deployment
from pi.steps import keys, measurements
from pi.vllm.corrections import SEQUENCES
from pi.vllm.measured import LogReader, room


class StartReport:
    """Shows a start: the plan, the download, then the time and vLLM's last log line."""

    def __init__(self, request: Request, pod: str) -> None:
        self._request, self._pod = request, pod
        self._line = screen.Progress()
        self._began = time.monotonic()
        self._download_bytes = 0.0
        self._log = LogReader()
        self._plan: LaunchPlan | None = None

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
        self._plan = plan
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
        elapsed = screen.seconds(time.monotonic() - self._began)
        match event:
            case Download(done, total, per_second):
                whole = total or self._download_bytes
                of = f" of {screen.gib(whole)}" if whole else ""
                speed = f"{screen.gib(per_second)}/s"
                self._line.show(f"  downloading {screen.gib(done)}{of}, {speed} ({elapsed}; Ctrl+C cancels)")
            case Launched(pid):
                self._began = time.monotonic()
                self._log = LogReader()
                self._line.clear()
                screen.say(f"  vLLM is running (pid {pid}); waiting until it is ready (Ctrl+C stops it)")
            case Note(text):
                self._line.clear()
                screen.note(f"  note: {text}")
            case Progress(text):
                self._line.show(f"  {text} ({elapsed})")
            case Log(text):
                self._log.feed(text)
                if text.strip():
                    self._line.show(f"  {elapsed}: {text.strip().splitlines()[-1]}")
            case Reconnecting() | Reconnected():
                self._line.clear()
                reconnecting(event)

    def end(self) -> None:
        self._line.clear()


class WaitReport:
    """Shows the time and vLLM's last log line while pi waits for a model."""

    def __init__(self) -> None:
        self._line = screen.Progress()
        self._began = time.monotonic()

    def hear(self, event: Event) -> None:
        elapsed = screen.seconds(time.monotonic() - self._began)
        match event:
            case Progress(text) | Log(text) if text.strip():
                self._line.show(f"  {elapsed}: {text.strip().splitlines()[-1]}")
            case Reconnecting() | Reconnected():
                self._line.clear()
                reconnecting(event)

    def end(self) -> None:
        self._line.clear()


class SetupReport:
    """Shows each step of a setup and its time; on a terminal also the installers' output, live.

    A step with nothing to do takes one line; any other first prints its purpose.
    """

    def __init__(self) -> None:
        self._live = screen.Progress()
        self._began = time.monotonic()
        self._purpose = ""

    def hear(self, event: Event) -> None:
        match event:
            case Log(text):
                self._announce()
                self._live.show("    " + text.strip())
            case Step():
                self._live.clear()
                self._step(event)
            case Reconnecting() | Reconnected():
                self._live.clear()
                reconnecting(event)

    def _step(self, event: Step) -> None:
        word, step, text = event.verb, event.step, event.text
        if word == "step":
            self._began = time.monotonic()
            self._purpose = f"- {step}: {text}"
        elif word == "note":
            self._announce()
            screen.say(f"  note: {text}")
        elif word in ("done", "skip"):
            taken = f" ({screen.seconds(time.monotonic() - self._began)})" if word == "done" else ""
            screen.say(f"  {text}{taken}" if not self._purpose else f"- {step}: {text}{taken}")
            self._purpose = ""

    def _announce(self) -> None:
        if self._purpose:
            screen.say(self._purpose)
            self._purpose = ""

    def quote(self, lines: list[str]) -> None:
        self._live.clear()
        for line in lines:
            screen.note("    | " + line)


def reconnecting(event: Reconnecting | Reconnected) -> None:
    """Print that the connection was lost, or that it is back."""
    if isinstance(event, Reconnected):
        screen.note("  connected again")
    else:
        screen.note(f"  connection lost; reconnecting ({event.attempt}/{event.of})")


def show_how_to_call(started: Started, host: str) -> None:
    """Print the addresses of a model that is ready; `host` is the pod's address as seen from here."""
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
        reachable = addresses.answers(url)
        if not reachable:
            screen.say(f"  {url} does not answer from here (the port is closed or mapped); use it over SSH:")
    _show_call(deployment, url, reachable)


def _show_call(deployment: Deployment, url: str, reachable: bool) -> None:
    """Print a command that calls a model; over SSH if its address does not answer from here."""
    if apis.is_chat(deployment.api):
        screen.say(f'  pi prompt {deployment.name} "Hello"')
        return
    port, routes = deployment.port, " and ".join(apis.APIS[deployment.api].routes)
    if not reachable:
        screen.say(f"  pi tunnel {deployment.name} makes it answer on this machine; then:")
        url = f"http://127.0.0.1:{port}/v1"
    screen.say(f"  {deployment.name} answers to {apis.APIS[deployment.api].answers}, at {routes}:")
    screen.say(f"  {apis.example(deployment.api, deployment.name, url, keys.reference())}")
