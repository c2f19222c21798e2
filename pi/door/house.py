"""What is behind the door: the models, the connections to their pods, and their starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from pi import screen
from pi.calls.status import read_status
from pi.door import names, stopped
from pi.door.lines import Lines, new_pool
from pi.door.names import Kept, Served
from pi.door.passing import NotListening, Question, Reply, pass_on
from pi.door.refusals import Refused
from pi.door.starts import Place, Starts
from pi.errors import PiError
from pi.on_pod.pace import paced
from pi.pods import state
from pi.pods.types import Pod
from pi.steps import where

FIRST_COMMENT_S, COMMENT_S = 1.0, 10.0
"""When a waiting stream gets its first comment, and how often then: clients end a silent one after a minute or more."""

HOLD_S = 240
"""How long a request that is not a stream waits for a start: Node's `fetch` waits 300 s for headers."""

RETRY_S = 30

TRIES = 3
"""How often a request looks for its model: a start may have moved it to another port."""

LOOK_S = 30
"""How often the door looks for idle models."""


@dataclass
class Use:
    """The requests of a model that are running, and when the last one ended."""

    last: float
    running: int = 0

    def idle_s(self) -> float:
        return 0 if self.running else time.monotonic() - self.last


class House:
    """`key` is that of the pods; idle models are stopped after `ttl_s`, if it is not None."""

    def __init__(self, key: str, ttl_s: int | None = None) -> None:
        self._key = key
        self._ttl_s = ttl_s
        self._uses: dict[Place, Use] = {}
        self._lines = Lines()
        self._pool = new_pool(self._lines)
        self._starts = Starts()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Stop idle models until the end; starts and stops go on after it."""
        looking = asyncio.ensure_future(self._stop_idle())
        try:
            yield
        finally:
            looking.cancel()
            await self._pool.aclose()

    def models(self) -> list[Served]:
        """Return the models now. Raises Refused if pods.json cannot be read."""
        try:
            now, tables = state.load(), stopped.load()
            for place in (each for pod in now.pods.values() for each in self._running_again(pod, tables)):
                stopped.forget(*place)
        except PiError as error:
            raise Refused(500, "state_unusable", error.message) from None
        return names.served(now, tables)

    def _running_again(self, pod: Pod, tables: Kept) -> list[Place]:
        """Return the stopped models of a pod that somebody has started since."""
        places = [(pod.name, name) for name in tables.get(pod.name, {}) if name in pod.models]
        running = [place for place in places if pod.models[place[1]].status == "running"]
        return [place for place in running if place not in self._starts.places]

    def status(self) -> list[dict[str, str]]:
        """Return each model with its state, and what the door does with it."""
        return [
            {"id": each.id, "pod": each.pod.name, "state": self._state(each), "note": self._note(each)}
            for each in self.models()
        ]

    async def answer(self, asked: Question, reply: Reply) -> None:
        """Have the model of a request answer it, and start it for that. Raises Refused."""
        for _ in range(TRIES):
            model = names.find(self.models(), asked.model)
            if model.state == "running" and model.place not in self._starts.places:
                self._lines.know(model.pod)
                with self._used(model.place), contextlib.suppress(NotListening):
                    return await pass_on(self._pool, model, self._key, asked, reply)
            if not self._starts.can_start(model):
                break
            await self._wait_for(model, asked, reply)
        hint = f"see: pi list --pod {model.pod.name}"
        raise Refused(503, "model_not_running", f"{model} does not answer; {hint}", retry_s=RETRY_S)

    async def _wait_for(self, model: Served, asked: Question, reply: Reply) -> None:
        """Wait until a model runs. A stream gets comments meanwhile; other requests have `HOLD_S`."""
        why = f"asked for by {asked.path}"
        waiting = asyncio.ensure_future(self._starts.until_running(model, why))
        try:
            if asked.wants_stream:
                await self._comment(waiting, model, reply)
            elif not (await asyncio.wait((waiting,), timeout=paced(HOLD_S)))[0]:
                raise Refused(503, "model_starting", f"{model} is starting; ask again later", retry_s=RETRY_S)
            await waiting
            self._use(model.place).last = time.monotonic()
        finally:
            waiting.cancel()

    async def _comment(self, waiting: asyncio.Future[None], model: Served, reply: Reply) -> None:
        pause_s = FIRST_COMMENT_S
        while not (await asyncio.wait((waiting,), timeout=paced(pause_s)))[0]:
            if not reply.has_begun:
                await reply.begin_stream()
            await reply.write(f": {model} is starting\n\n".encode())
            pause_s = COMMENT_S

    @contextlib.contextmanager
    def _used(self, place: Place) -> Iterator[None]:
        use = self._use(place)
        use.running += 1
        try:
            yield
        finally:
            use.running -= 1
            use.last = time.monotonic()

    def _use(self, place: Place) -> Use:
        return self._uses.setdefault(place, Use(time.monotonic()))

    def _state(self, model: Served) -> str:
        work = self._starts.work(model.place)
        return {"start": "starting", "stop": "stopping"}[work.verb] if work else model.state

    def _note(self, model: Served) -> str:
        note = self._starts.note(model)
        if note or not self._ttl_s or model.state != "running":
            return note
        if not model.options:
            return "stays, as pi does not know how to start it again"
        left = max(0.0, self._ttl_s - self._use(model.place).idle_s())
        return f"stops after {screen.whole_seconds(left)} without requests"

    async def _stop_idle(self) -> None:
        """Stop models that nobody has asked for, if the door can start them again."""
        while self._ttl_s:
            await asyncio.sleep(paced(min(LOOK_S, self._ttl_s / 4)))
            with contextlib.suppress(Refused):
                for model in self.models():
                    if model.state != "running":
                        self._uses.pop(model.place, None)
                    elif model.name == model.deployment.name and model.options:
                        await self._stop_if_idle(model, self._ttl_s)

    async def _stop_if_idle(self, model: Served, ttl_s: int) -> None:
        """Stop a model that is idle here and on its pod, where others may ask it."""
        use = self._use(model.place)
        if use.idle_s() < paced(ttl_s) or model.place in self._starts.places:
            return
        try:
            asked_s_ago = await asyncio.to_thread(_asked_s_ago, model)
        except (PiError, OSError):
            return
        if asked_s_ago is not None:
            use.last = max(use.last, time.monotonic() - asked_s_ago)
        if use.idle_s() < paced(ttl_s):
            return
        if not await self._starts.stop(model, f"no requests for {screen.whole_seconds(use.idle_s())}"):
            use.last = time.monotonic()


def _asked_s_ago(model: Served) -> float | None:
    """Return the age of a model's last request, as its pod knows it."""
    with where.connection_to(model.pod.name) as connection:
        found = read_status(connection).found
    return next((each.asked_s_ago for each in found if each.deployment.name == model.deployment.name), None)
