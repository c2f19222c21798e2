"""Starts and stops of models by the door: one at a time for each model, by pi in processes of their own.

Such a process outlives a door that is closed or killed. The next door finds the model in pods.json.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pi import config, screen
from pi.door import kept, stopped
from pi.door.names import Served
from pi.door.refusals import Refused
from pi.door.uses import Place
from pi.errors import PiError
from pi.on_pod.pace import paced
from pi.steps import durations

POLL_S = 0.1

PAUSE_S = 30
"""After a failed start, requests get its error this long, instead of another start."""

BUSY = 5
"""Exit code of pi if another pi has the name, or no GPU is free."""

MakeRoom = Callable[[Served, Callable[[str], object]], Awaitable[bool]]
"""Makes room for a model, reports what it waits for, and returns whether there is room now."""


Runner = Callable[[list[str], Place], Awaitable["Ended"]]
"""Runs pi with these words for a model until it ends."""


@dataclass
class Work:
    """A start or a stop that goes on."""

    verb: Literal["start", "stop"]
    why: str
    began: float
    task: asyncio.Task[None] | None = None
    waits_for: str = ""
    """Why the model cannot start yet."""

    async def end(self) -> None:
        """Wait for its end, which a waiting request that leaves does not change."""
        if self.task:
            await asyncio.shield(self.task)


@dataclass
class Failure:
    words: str
    at: float

    def is_fresh(self) -> bool:
        return time.monotonic() - self.at < paced(PAUSE_S)


@dataclass(frozen=True)
class Ended:
    """How a run of pi ended: its exit code and its error."""

    code: int
    words: str


class Starts:
    def __init__(self, make_room: MakeRoom, run: Runner) -> None:
        self._works: dict[Place, Work] = {}
        self._failures: dict[Place, Failure] = {}
        self._make_room, self._run = make_room, run
        self._making_room: dict[str, asyncio.Lock] = {}
        """Of each pod: one start after the other makes room."""

    def work(self, place: Place) -> Work | None:
        return self._works.get(place)

    @property
    def places(self) -> set[Place]:
        """The models that are started or stopped now."""
        return set(self._works)

    def can_start(self, model: Served) -> bool:
        """Return whether a request can make a model run, or wait until it does."""
        return bool(model.options) or model.state == "starting" or model.place in self._works

    async def until_running(self, model: Served, why: str) -> None:
        """Wait for a start of the model, and start it if nobody does. Raises Refused if that failed."""
        while (work := self._works.get(model.place)) and work.verb == "stop":
            await work.end()
        if work is None:
            self.require_calm(model)
            work = self._begin("start", model, why)
        await work.end()
        self.require_calm(model)

    def require_calm(self, model: Served) -> None:
        """Raise Refused if a start or stop of the model has just failed."""
        failure = self._failures.get(model.place)
        if failure and failure.is_fresh():
            raise Refused(503, "start_failed", failure.words, retry_s=PAUSE_S)

    async def stop(self, model: Served, why: str) -> bool:
        """Stop a model unless the door works on it, and keep how to start it. Returns whether it was stopped."""
        if model.place in self._works:
            return False
        await self._begin("stop", model, why).end()
        return model.place not in self._failures

    def note(self, model: Served) -> str:
        """Return what the door does with a model, and why."""
        if work := self._works.get(model.place):
            took = durations.load(_kept_as(model)).get(work.verb)
            last = f"; last time it took {screen.whole_seconds(took)}" if took else ""
            since = screen.whole_seconds(time.monotonic() - work.began)
            return f"{work.verb} for {since}{last}; {work.waits_for or work.why}"
        failure = self._failures.get(model.place)
        if failure and model.state != "running":
            return f"{failure.words} ({screen.ago(time.monotonic() - failure.at)})"
        return "starts on a request" if model.state == "stopped" else ""

    def _begin(self, verb: Literal["start", "stop"], model: Served, why: str) -> Work:
        self._failures.pop(model.place, None)
        work = self._works[model.place] = Work(verb, why, time.monotonic())
        doing = self._started(model, work) if verb == "start" else self._stopped(model)
        work.task = asyncio.ensure_future(self._do(verb, model, doing))
        _log(f"{verb} of {model}: {why}")
        return work

    async def _do(self, verb: Literal["start", "stop"], model: Served, doing: Any) -> None:
        began = time.monotonic()
        try:
            ended = await doing
            took = time.monotonic() - began
            if ended.code:
                self._failures[model.place] = Failure(f"{model}: {verb} failed: {ended.words}", time.monotonic())
                _log(self._failures[model.place].words)
            else:
                durations.keep(_kept_as(model), {verb: took})
                _log(f"{verb} of {model} took {screen.seconds(took)}")
        except (PiError, OSError) as error:
            self._failures[model.place] = Failure(f"{model}: {verb} failed: {error}", time.monotonic())
        finally:
            del self._works[model.place]

    async def _started(self, model: Served, work: Work) -> Ended:
        """Start a model, or wait for a start by another pi."""
        pod, name = model.place
        waiting, ended = ["wait", name, "--pod", pod], Ended(1, "pi does not know how it was started")
        if model.state == "starting":
            ended = await self._run(waiting, model.place)
        if ended.code and model.options:
            stopped.keep(pod, name, model.options)  # a start that fails leaves nothing in pods.json
            ended = await self._run(start_words(name, pod, model.options), model.place)
        if ended.code == BUSY:
            waited = await self._run(waiting, model.place)
            ended = ended if waited.code else waited
        if ended.code == BUSY and model.options:
            ended = await self._started_in_room(model, work) or ended
        if not ended.code:
            stopped.forget(pod, name)
        return ended

    async def _started_in_room(self, model: Served, work: Work) -> Ended | None:
        """Make room for a model and start it; return None if nothing can make room."""
        pod, name = model.place

        def report(waits_for: str) -> None:
            if waits_for != work.waits_for:
                _log(f"start of {model}: {waits_for}")
            work.waits_for = waits_for

        async with self._making_room.setdefault(pod, asyncio.Lock()):
            if not await self._make_room(model, report):
                return None
            work.waits_for = ""
            return await self._run(start_words(name, pod, model.options), model.place)

    async def _stopped(self, model: Served) -> Ended:
        pod, name = model.place
        stopped.keep(pod, name, model.options)
        ended = await self._run(["stop", name, "--pod", pod], model.place)
        if ended.code:
            stopped.forget(pod, name)
        return ended


def start_words(name: str, pod: str, options: Mapping[str, Any]) -> list[str]:
    """Return the words of `pi start` for options as pods.json keeps them: by the names of its flags."""
    words = ["start", str(options["model"]), "--name", name, "--pod", pod]
    for key, value in options.items():
        if value is True:
            words.append(f"--{key}")
        elif key not in ("model", TAIL) and value is not False:
            words += [f"--{key}={one}" for one in (value if isinstance(value, list) else [value])]
    words += ["--yes"] if "across" in options else []
    return [*words, f"--{TAIL}", *map(str, options[TAIL])] if TAIL in options else words


TAIL = "vllm"
"""The flag that takes every word after it."""


async def run(words: list[str], place: Place) -> Ended:
    """Run pi in a process of its own until it ends; its output is in the model's log."""
    log = kept.new_log(place)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pi", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PI_CONFIG_DIR": str(config.config_dir())},
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)
    while process.poll() is None:
        await asyncio.sleep(POLL_S)
    return Ended(process.returncode, kept.last_error(process.returncode, place).render().removeprefix("pi: "))


def _kept_as(model: Served) -> str:
    return f"door {model.pod.name}/{model.deployment.name}"


def _log(text: str) -> None:
    screen.say(f"{screen.clock(time.time())} {text}")
