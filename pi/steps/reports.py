"""How a start and a setup show what happens."""

from __future__ import annotations

import time

from pi import screen
from pi.calls.events import Download, Event, Launched, Log, Reconnected, Reconnecting, Step
from pi.planning import venvs
from pi.planning.types import LaunchPlan, PodFacts, Request


class StartReport:
    """Tells how a start goes: the plan, the download, then the time and vLLM's last log line."""

    def __init__(self, request: Request, pod: str, detach: bool) -> None:
        self._request, self._pod, self._detach = request, pod, detach
        self._line = screen.Progress()
        self._began = time.monotonic()
        self._download_bytes = 0.0

    def planned(self, plan: LaunchPlan, facts: PodFacts) -> LaunchPlan:
        """The plan, told. Raises InputError where every vLLM of the pod is too old for it."""
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
        match event:
            case Download(done, total, per_second):
                whole = total or self._download_bytes
                of = f" of {screen.gib(whole)}" if whole else ""
                speed = f"{screen.gib(per_second)}/s"
                self._line.show(f"  downloading {screen.gib(done)}{of}, {speed} ({elapsed}; Ctrl+C cancels)")
            case Launched(pid):
                self._began = time.monotonic()
                self._line.clear()
                interrupt = "leaves it starting" if self._detach else "stops it"
                screen.say(f"  vLLM is running (pid {pid}); waiting until it is ready (Ctrl+C {interrupt})")
            case Log(text) if text.strip():
                self._line.show(f"  {elapsed}: {text.strip().splitlines()[-1]}")
            case Reconnecting() | Reconnected():
                self._line.clear()
                reconnecting(event)

    def end(self) -> None:
        self._line.clear()


class SetupReport:
    """Shows the steps of a setup as they happen, with the time each took; installers' output live on a terminal.

    A step that has nothing to do is one line; one that works says first what it does.
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
    """Tell that the connection to a pod was lost and which try to make it again this is, or that it is there again."""
    if isinstance(event, Reconnected):
        screen.note("  connected again")
    else:
        screen.note(f"  connection lost; reconnecting ({event.attempt}/{event.of})")
