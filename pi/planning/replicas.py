"""Plan several equal servers of one model on a pod."""

from __future__ import annotations

from dataclasses import replace

from pi.errors import PiError
from pi.planning import planner
from pi.planning.catalog import Catalog
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods.types import Deployment


def name_of(name: str, number: int) -> str:
    """Return the name of a replica, such as "qwen.3"."""
    return f"{name}.{number}"


def number_of(name: str) -> int:
    """Return the number in the name of a replica."""
    number = name.rpartition(".")[2]
    return int(number) if number.isdecimal() else 0


def replica(request: Request, number: int) -> Request:
    """Return the request for one replica of a model."""
    return replace(request, name=name_of(request.name, number), replica_of=request.name, replicas=0)


def plan(request: Request, facts: PodFacts, catalog: Catalog) -> LaunchPlan:
    """Return the plan of a model, or of its first replica, if all of them fit. Raises PiError."""
    if not request.replicas:
        return planner.plan(request, facts, catalog)
    return first_of(plan_all(request, facts, catalog))


def first_of(plans: list[LaunchPlan]) -> LaunchPlan:
    """Return the plan of the first replica, which says where all are."""
    places = [f"{each.name}: {_place(each)}" for each in plans]
    return replace(plans[0], why=(*plans[0].why, f"all replicas fit; {', '.join(places)}"))


def are_apart(plans: list[LaunchPlan]) -> bool:
    """Return whether each replica has GPUs of its own, so that all can start at the same time.

    vLLM measures the free memory of a GPU while it starts.
    """
    used = [gpu for each in plans for gpu in each.gpus]
    return all(each.gpus for each in plans) and len(set(used)) == len(used)


def plan_all(request: Request, facts: PodFacts, catalog: Catalog) -> list[LaunchPlan]:
    """Return the plan of each replica, with the earlier ones in place. Raises PiError if one does not fit."""
    plans: list[LaunchPlan] = []
    for number in range(1, request.replicas + 1):
        try:
            made = planner.plan(replica(request, number), facts, catalog)
        except PiError as error:
            if plans:
                error.message = f"only {len(plans)} of {request.replicas} replicas fit: {error.message}"
            raise
        plans.append(made)
        placed = Deployment(made.name, made.model, made.port, made.gpus, 0, memory_share=made.memory_share)
        facts = replace(facts, deployments=(*facts.deployments, placed))
    return plans


def _place(made: LaunchPlan) -> str:
    return f"GPU {','.join(map(str, made.gpus))}" if made.gpus else "CPU"
