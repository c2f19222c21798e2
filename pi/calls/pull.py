"""`pull` on the pod: fetch the repositories that a plan needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi.calls.call import Listener, call
from pi.calls.launch import hub_environment, repositories_beside, repository_of
from pi.on_pod.cache_shapes import PulledRepository, PullRequest
from pi.planning.types import LaunchPlan

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class Pulled:
    """A repository that is whole on the pod now."""

    model: str
    was_there: bool
    size_bytes: int


def pull_model(connection: Connection, plan: LaunchPlan, listen: Listener) -> tuple[Pulled, ...]:
    """Fetch a plan's model, unless it is a path, and the repositories beside it."""
    model = [] if plan.model.is_path else [repository_of(plan)]
    request: PullRequest = {
        "name": str(plan.model),
        "repositories": model + [each for each in repositories_beside(plan) if each["id"] != plan.model],
        "hub_environment": hub_environment(plan),
    }
    answered = call(connection, "pull", "pull", request, list[PulledRepository], listen, outlives=True)
    return tuple(Pulled(each["model"], each["was_there"], each["size_bytes"]) for each in answered)
