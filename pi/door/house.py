"""What is behind the door: the models, the connections to their pods, and their starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from pi import screen
from pi.calls.status import read_status
from pi.door import names, stopped
from pi.door.evicting import Evictions
from pi.door.lines import Lines, new_pool
from pi.door.looking import Looks
from pi.door.names import Kept, Served
from pi.door.passing import UNREACHABLE, NotListening, Question, Reply, pass_on
from pi.door.refusals import Refused
from pi.door.rules import Rules
from pi.door.starts import Runner, Starts
from pi.door.uses import Place, Uses
from pi.errors import PiError
from pi.on_pod.pace import paced
from pi.pods import state
from pi.pods.types import Pod
from pi.steps import where

FIRST_KEEP_S, KEEP_S = 1.0, 3.0
"""When a waiting stream first gets something, and how often then: httpx ends a silent one after 5 s by itself."""

HOLD_S = 240
"""How long a request that is not a stream waits for a start: Node's `fetch` waits 300 s for headers."""

RETRY_S = 30
"""When clients shall ask again: the libraries of OpenAI and Anthropic ignore more than 60 s."""

TRIES = 3
"""How often a request looks for its model: a start may have moved it to another port, or another pod has it, too."""

LOOK_S = 30
"""How often the door looks for idle models."""


class House:
    """`key` is that of the pods; `run` runs pi."""

    def __init__(self, key: str, rules: Rules, run: Runner) -> None:
        self._key = key
        self._rules = rules
        self._uses = Uses()
        self._looks = Looks()
        self._lines = Lines()
        self._pool = new_pool(self._lines)
        self._starts = Starts(self._make_room, run)
        self._evictions = Evictions(rules, self._uses, self._starts, self.models)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Stop idle models until the end; starts and stops go on after it."""
        idle = asyncio.ensure_future(self._stop_idle())
        try:
            yield
        finally:
            idle.cancel()
            await self._pool.aclose()

    def models(self) -> list[Served]:
        """Return the models now. Raises Refused if pods.json cannot be read."""
        try:
            now, tables = state.load(), stopped.load()
            for place in (each for pod in now.pods.values() for each in self._running_again(pod, tables)):
                stopped.forget(*place)
        except PiError as error:
            raise Refused(500, "state_unusable", error.message) from None
        return names.served(now, tables, self._rules.declared(now))

    def _running_again(self, pod: Pod, tables: Kept) -> list[Place]:
        """Return the stopped models of a pod that somebody has started since."""
        places = [(pod.name, name) for name in tables.get(pod.name, {}) if name in pod.models]
        running = [place for place in places if pod.models[place[1]].status == "running"]
        return [place for place in running if place not in self._starts.places]

    def status(self) -> dict[str, Any]:
        """Return each model with its state, its requests and what the door does with it."""
        models = [
            {
                "id": each.id,
                "pod": each.pod.name,
                "state": self._state(each),
                "requests": self._uses.running(each.place),
                "note": self._note(each),
            }
            for each in self.models()
        ]
        moved = [
            {
                "id": f"{pod}/{name}",
                "pod": pod,
                "state": "leaving",
                "requests": self._uses.running((pod, name)),
                "note": MOVED,
            }
            for pod, name in names.leaving(state.load())
        ]
        return {"models": [*models, *moved], "problem": self._rules.file.problem if self._rules.file else ""}

    async def answer(self, asked: Question, reply: Reply) -> None:
        """Have the model of a request answer it, and start it for that. Raises Refused."""
        tried = set[Place]()
        for _ in range(TRIES):
            models = self.models()
            model = names.find(models, asked.model, asked.session, tried)
            if model.state == "running" and model.place not in self._starts.places:
                self._lines.know(model.pod)
                tried.add(model.place)
                has_other = names.find(models, asked.model, asked.session, tried).place not in tried
                try:
                    with self._uses.of(model.place), contextlib.suppress(NotListening):
                        return await pass_on(self._pool, model, self._key, asked, reply)
                except Refused as refused:
                    if refused.code != UNREACHABLE or not has_other:
                        raise
                if has_other:
                    continue
            if not self._starts.can_start(model):
                break
            await self._wait_for(model, asked, reply)
        hint = f"see: pi list --pod {model.pod.name}"
        raise Refused(503, "model_not_running", f"{model} does not answer; {hint}", retry_s=RETRY_S)

    async def _wait_for(self, model: Served, asked: Question, reply: Reply) -> None:
        """Wait until a model runs. A stream gets comments meanwhile; other requests have `HOLD_S`."""
        why = f"asked for by {asked.path}"
        waiting = asyncio.ensure_future(self._until_running(model, why))
        try:
            if asked.wants_stream:
                await self._keep_open(waiting, model, asked, reply)
            elif not (await asyncio.wait((waiting,), timeout=paced(HOLD_S)))[0]:
                raise Refused(503, "model_starting", f"{model} is starting; ask again later", retry_s=RETRY_S)
            await waiting
            self._uses.note(model.place)
        finally:
            waiting.cancel()

    async def _until_running(self, model: Served, why: str) -> None:
        """Start a model. If pods.json says that it runs, it may run on another pod now."""
        if model.state == "running" and model.place not in self._starts.places:
            self._starts.require_calm(model)
            await self._looks.look(model)
            found = [each for each in self.models() if each.name == model.name and each.place != model.place]
            if any(each.state == "running" for each in found):
                return
        await self._starts.until_running(model, why)

    async def _keep_open(self, waiting: asyncio.Future[None], model: Served, asked: Question, reply: Reply) -> None:
        pause_s = FIRST_KEEP_S
        while not (await asyncio.wait((waiting,), timeout=paced(pause_s)))[0]:
            if not reply.has_begun:
                await reply.begin_stream()
            await reply.keep_open(f"{model} is starting", asked.path)
            pause_s = KEEP_S

    async def _make_room(self, model: Served, report: Callable[[str], object]) -> bool:
        return await self._evictions.make_room(model, report)

    def _state(self, model: Served) -> str:
        work = self._starts.work(model.place)
        return {"start": "starting", "stop": "stopping"}[work.verb] if work else model.state

    def _note(self, model: Served) -> str:
        note = self._starts.note(model)
        if note or model.state != "running":
            return note
        ttl_s, idle_s = self._rules.ttl_s, self._rules.idle_s(model)
        if ttl_s and not model.options:
            return "stays, as pi does not know how to start it again"
        if ttl_s and not self._rules.may_stop(model):
            return "stays" if model.name == model.deployment.name else ""
        limits = [each for each in (ttl_s, idle_s) if each]
        if not limits:
            return ""
        left = max(0.0, min(limits) - self._uses.known_since(model.place))
        both = (
            f" (--ttl {screen.whole_seconds(ttl_s)}, --stop-after-idle {screen.whole_seconds(idle_s)})"
            if ttl_s and idle_s
            else ""
        )
        return f"stops after {screen.whole_seconds(left)} without requests{both}"

    async def _stop_idle(self) -> None:
        """Stop models that nobody has asked for, if the door can start them again."""
        while self._rules.ttl_s:
            await asyncio.sleep(paced(min(LOOK_S, self._rules.ttl_s / 4)))
            with contextlib.suppress(Refused):
                for model in self.models():
                    if model.state != "running":
                        self._uses.forget(model.place)
                    elif self._rules.may_stop(model):
                        await self._stop_if_idle(model, self._rules.ttl_s)

    async def _stop_if_idle(self, model: Served, ttl_s: int) -> None:
        """Stop a model that is idle here and on its pod, where others may ask it."""
        limit_s = paced(ttl_s)
        if self._uses.known_since(model.place) < limit_s or model.place in self._starts.places:
            return
        try:
            asked_s_ago = await asyncio.to_thread(_asked_s_ago, model)
        except (PiError, OSError):
            return
        if asked_s_ago is not None:
            self._uses.note(model.place, asked_s_ago)
        idle_s = self._uses.known_since(model.place)
        if idle_s < limit_s:
            return
        if not await self._starts.stop(model, f"no requests for {screen.whole_seconds(idle_s)}"):
            self._uses.note(model.place)


MOVED = "has moved; it answers its last requests"


def _asked_s_ago(model: Served) -> float | None:
    """Return the age of a model's last request, as its pod knows it."""
    with where.connection_to(model.pod.name) as connection:
        found = read_status(connection).found
    return next((each.asked_s_ago for each in found if each.deployment.name == model.deployment.name), None)
