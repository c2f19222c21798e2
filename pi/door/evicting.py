"""Stop the least used models of a pod, so that a requested one fits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from pi import screen
from pi.door.names import Served
from pi.door.rules import Rules
from pi.door.starts import Starts
from pi.door.uses import Uses
from pi.errors import PiError
from pi.on_pod.pace import paced
from pi.steps import where
from pi.steps.making_room import Room, Tenant, look

LEAST_STAY_S = 120
"""How long a model runs at least before it makes room: two models that alternate would load all the time."""

PATIENCE_S = 600
"""How long a start waits until other models may stop."""

LOOK_S = 5


@dataclass(frozen=True)
class Choice:
    """The models to stop, or why the door waits; None and no reason if that would not help."""

    stops: tuple[Served, ...] | None
    waits_for: str = ""


class Evictions:
    """`models` returns the models of the door now."""

    def __init__(self, rules: Rules, uses: Uses, starts: Starts, models: Callable[[], list[Served]]) -> None:
        self._rules, self._uses, self._starts, self._models = rules, uses, starts, models

    async def make_room(self, wanted: Served, report: Callable[[str], object]) -> bool:
        """Stop models until another one fits. Returns False if it cannot; `report` gets what it waits for."""
        deadline = time.monotonic() + paced(PATIENCE_S)
        while self._rules.evict:
            tenants = self._tenants_beside(wanted)
            room = await asyncio.to_thread(_room, wanted, self._rules) if tenants else None
            choice = self.choose(room, tenants) if room else Choice(None)
            if choice.stops is not None:
                return await self._stop(wanted, choice.stops)
            if not choice.waits_for or time.monotonic() > deadline:
                return False
            report(choice.waits_for)
            await asyncio.sleep(paced(LOOK_S))
        return False

    def choose(self, room: Room, tenants: list[Served]) -> Choice:
        """Choose the least used models whose end makes room. Those that may not stop yet are the last choice."""
        known = [each for each in tenants if each.deployment.name in room.tenants]
        by_use = sorted(known, key=lambda each: -self._idle_s(each, room.tenants[each.deployment.name]))
        obstacles = {each.deployment.name: self._obstacle(each, room.tenants[each.deployment.name]) for each in by_use}
        names = [each.deployment.name for each in by_use]
        stops = room.to_stop([name for name in names if not obstacles[name]])
        if stops is not None:
            return Choice(tuple(each for each in by_use if each.deployment.name in stops))
        later = room.to_stop(names)
        return Choice(None, "; ".join(obstacles[name] for name in later or () if obstacles[name]))

    def _tenants_beside(self, wanted: Served) -> list[Served]:
        """Return the models on the same pod that the door may stop."""
        return [
            each
            for each in self._models()
            if each.pod.name == wanted.pod.name
            and each.place != wanted.place
            and each.state == "running"
            and each.place not in self._starts.places
            and self._rules.may_stop(each)
        ]

    def _idle_s(self, model: Served, tenant: Tenant) -> float:
        """Return the time since the last request, through the door or not; without any, since it was ready."""
        ages = [tenant.ready_s if tenant.asked_s_ago is None else tenant.asked_s_ago]
        if (here := self._uses.idle_s(model.place)) is not None:
            ages.append(here)
        return min(ages)

    def _obstacle(self, model: Served, tenant: Tenant) -> str:
        """Return why a model may not stop now; empty if it may."""
        if tenant.requests or self._uses.running(model.place):
            return f"waits until {model.deployment.name} has no requests"
        left = paced(max(LEAST_STAY_S, tenant.start_s)) - tenant.ready_s
        return (
            f"waits {screen.whole_seconds(left)} more for {model.deployment.name}, which has just started"
            if left > 0
            else ""
        )

    async def _stop(self, wanted: Served, models: tuple[Served, ...]) -> bool:
        """Stop these models, unless a request has come for one meanwhile."""
        for model in models:
            if self._uses.running(model.place) or not await self._starts.stop(model, f"makes room for {wanted}"):
                return False
        return True


def _room(wanted: Served, rules: Rules) -> Room | None:
    try:
        request = rules.start_of(wanted.deployment.name, wanted.options).request
        with where.connection_to(wanted.pod.name) as connection:
            return look(connection, request)
    except (PiError, OSError):
        return None
