"""Look at all pods for a model that does not listen where pods.json says: another pi may have moved or stopped it."""

from __future__ import annotations

import asyncio

from pi import screen
from pi.door import stopped
from pi.door.names import Served
from pi.errors import PiError
from pi.on_pod.pace import paced
from pi.pods import state
from pi.pods.types import Pod
from pi.steps import listing, reconcile, where

PATIENCE_S = 10
"""How long the door waits for answers of pods before it starts a model."""


async def look(model: Served) -> None:
    """Bring pods.json in step with what runs; if the model runs nowhere, keep how to start it."""
    before = state.load()
    looks = [asyncio.ensure_future(asyncio.to_thread(_look_at, pod)) for pod in before.pods.values()]
    await asyncio.wait(looks, timeout=paced(PATIENCE_S))
    name, after = model.deployment.name, state.load()
    found = [pod for pod in after.pods.values() if name in pod.models and name not in before.pods[pod.name].models]
    pod = after.pods.get(model.pod.name)
    if pod and name not in pod.models and not found:
        stopped.keep(pod.name, name, model.options)


def _look_at(pod: Pod) -> None:
    try:
        with where.connection_to(pod.name) as connection:
            reconcile.reconcile(pod, listing.see(pod, connection).status)
    except (PiError, OSError) as error:
        screen.note(f"cannot ask {pod.name} what runs: {error}")
