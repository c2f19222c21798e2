"""Ask a pod what the planner needs for a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from pi.calls.survey import look
from pi.planning import catalog, planner
from pi.planning.types import PodFacts, Request

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


class Lookups(TypedDict):
    """What the pod looks up about a request's model beside the pod itself; see `calls.start.start_model`."""

    ask_hub: bool
    checkpoints: Sequence[str]
    adapters: Sequence[str]


def lookups(request: Request, known_models: catalog.Catalog) -> Lookups:
    return {
        "ask_hub": planner.needs_files(request, known_models),
        "checkpoints": planner.checkpoints(request, known_models),
        "adapters": [adapter.source for adapter in request.adapters],
    }


def facts_for(connection: Connection, request: Request, known_models: catalog.Catalog) -> PodFacts:
    """Return the facts of a pod, of the request's model, and of its adapters there. Raises PiError."""
    return look(connection, request.model, **lookups(request, known_models))
