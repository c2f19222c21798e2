"""Find which models have to stop so that another one fits on a pod."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pi import config
from pi.calls import top
from pi.calls.status import Found, read_status
from pi.errors import PiError
from pi.planning import catalog, room
from pi.planning.replicas import plan
from pi.planning.types import Request
from pi.steps import kept_prices, measurements
from pi.steps.asking import facts_for

if TYPE_CHECKING:
    from pi.calls.top import Sample
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class Tenant:
    """A running model as its pod reports it; `requests` is None if its server does not tell."""

    name: str
    asked_s_ago: float | None
    ready_s: float
    """Seconds since it was ready."""
    start_s: float
    """How long its start took."""
    requests: int | None


@dataclass(frozen=True)
class Room:
    """A pod as it is now, for one model that does not fit: what runs, and whether the model fits without some of it."""

    tenants: Mapping[str, Tenant]
    fits_without: Callable[[Sequence[str]], bool]

    def to_stop(self, names: Sequence[str]) -> list[str] | None:
        """Return the first of these models that make room together, without those that do not help.

        The list is empty if the model fits now. Returns None if it would not fit without all of them.
        """
        count = next((n for n in range(len(names) + 1) if self.fits_without(names[:n])), None)
        if count is None:
            return None
        needed = list(names[:count])
        for name in names[: max(0, count - 1)]:
            fewer = [each for each in needed if each != name]
            needed = fewer if self.fits_without(fewer) else needed
        return needed


def look(connection: Connection, request: Request) -> Room:
    """Ask a pod about its room for a model. Raises PiError."""
    known_models = catalog.load(config.config_dir())
    found = facts_for(connection, request, known_models)
    facts = replace(found, prices=kept_prices.load(), measurements=measurements.load())
    status, samples = read_status(connection), list["Sample"]()
    top.sample(connection, samples.append, 1)
    running = [each for each in status.found if each.state == "running"]
    tenants = [_tenant(each, running, status.up_s, samples) for each in running if not each.deployment.is_part]
    replicas = {each.name: each.replica_of for each in facts.deployments}

    def fits_without(names: Sequence[str]) -> bool:
        gone = [name for name, endpoint in replicas.items() if name in names or endpoint in names]
        try:
            plan(request, room.without(facts, *gone), known_models)
        except PiError:
            return False
        return True

    return Room({each.name: each for each in tenants}, fits_without)


def _tenant(found: Found, running: Sequence[Found], pod_up_s: float, samples: Sequence[Sample]) -> Tenant:
    """Return a model with the requests of its replicas."""
    name, start_s = found.deployment.name, found.ready_after_s or 0.0
    own = {each.deployment.name for each in running if name in (each.deployment.name, each.deployment.replica_of)}
    figures = [model["metrics"] for sample in samples for model in sample["models"] if model["name"] in own]
    requests = [int(each["running"] + each["waiting"]) for each in figures if each]
    up_s = pod_up_s - found.launched if found.launched is not None else 0.0
    return Tenant(name, found.asked_s_ago, max(0.0, up_s - start_s), start_s, sum(requests) if requests else None)
