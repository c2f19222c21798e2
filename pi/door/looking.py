"""Look at all pods for a model that does not listen where pods.json says: another pi may have moved or stopped it."""

from __future__ import annotations

import asyncio

from pi import screen
from pi.door import stopped
from pi.door.names import Served
from pi.door.uses import Place
from pi.errors import PiError
from pi.on_pod.pace import paced
from pi.pods import state
from pi.pods.types import Pod
from pi.steps import listing, reconcile, where

PATIENCE_S = 10
"""How long the door waits for answers of pods before it starts a model."""


class Looks:
    """One look for each model at a time, for all requests that wait."""

    def __init__(self) -> None:
        self._looks: dict[Place, asyncio.Task[None]] = {}

    async def look(self, model: Served) -> None:
        """Bring pods.json in step with what runs; if the model runs nowhere, keep how to start it."""
        if model.place not in self._looks:
            looking = self._looks[model.place] = asyncio.ensure_future(_look(model))
            looking.add_done_callback(lambda _: self._looks.pop(model.place))
        await asyncio.shield(self._looks[model.place])


async def _look(model: Served) -> None:
    before = state.load()
    looks = [asyncio.ensure_future(asyncio.to_thread(_look_at, pod)) for pod in before.pods.values()]
    await asyncio.wait(looks, timeout=paced(PATIENCE_S))
    name, after = model.deployment.name, state.load()
    had = {pod.name for pod in before.pods.values() if name in pod.models}
    found = [pod for pod in after.pods.values() if name in pod.models and pod.name not in had]
    pod = after.pods.get(model.pod.name)
    if pod and name not in pod.models and not found:
        stopped.keep(pod.name, name, model.options)


def _look_at(pod: Pod) -> None:
    try:
        with where.connection_to(pod.name) as connection:
            reconcile.reconcile(pod, listing.see(pod, connection).status)
    except (PiError, OSError) as error:
        screen.note(f"cannot ask {pod.name} what runs: {error}")
