"""What a plan has the pod fetch: the model, and the repositories beside it."""

from __future__ import annotations

from pi.on_pod.shapes import Repository
from pi.planning.types import LaunchPlan
from pi.vllm import repositories

HUB_VARIABLES = ("HF_HUB_", "HF_XET_")
"""Beginnings of the variables that the download reads too."""


def repository_of(plan: LaunchPlan) -> Repository:
    """Return the repository of a plan's model."""
    revision = plan.args.get("--revision")
    return {"id": plan.model, "revision": revision, "weights": True, "load_format": load_format(plan)}


def load_format(plan: LaunchPlan) -> str:
    """Return vLLM's `--load-format`, which decides the weights to fetch."""
    return plan.args.get("--load-format") or "auto"


def repositories_beside(plan: LaunchPlan) -> list[Repository]:
    """Return the other repositories that a plan's arguments name."""
    return [
        {"id": each.id, "revision": each.revision, "weights": each.weights, "load_format": "auto"}
        for each in repositories.named_by(plan.args)
    ]


def hub_environment(plan: LaunchPlan) -> dict[str, str]:
    """Return the variables of a plan that its downloads read too."""
    return {name: value for name, value in plan.env.items() if name.startswith(HUB_VARIABLES)}
