"""Plans for a machine that nobody rented yet (`--on`): its facts, and a model's files on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pi.calls.survey import with_model_here
from pi.errors import InputError
from pi.planning import machines, unserved
from pi.planning.catalog import Catalog
from pi.planning.machines import Machine
from pi.planning.types import LaunchPlan, PodFacts
from pi.steps import kept_prices

NO_HUB = (
    "without a pod, pi does not ask the hub: its config.json and the size of its files are missing;"
    " to plan with them, give a folder: pi plan ./FOLDER --on MACHINE"
)


def here(model: str) -> str:
    """Return a path on this machine as a full path, and a hub id as it is."""
    is_path = model in (".", "..", "~") or model.startswith(("/", "./", "../", "~/"))
    return str(Path(model).expanduser().resolve()) if is_path else model


def facts_of(machine: Machine, known_models: Catalog, model: str | None = None) -> PodFacts:
    """Return the facts of an idle pod, and those of a model whose path is on this machine.

    Raises InputError if the path has no config.json.
    """
    facts = machines.idle_pod(machine, known_models, kept_prices.load())
    if model is None or not model.startswith("/"):
        return facts
    facts = with_model_here(facts, model)
    if facts.config is None:
        raise InputError(
            "no-local-model", f"{model} has no config.json", "with --on, a path is a model's folder on this machine"
        )
    return facts


def with_assumptions(plan: LaunchPlan, facts: PodFacts, known_models: Catalog, model: str) -> LaunchPlan:
    """Add which vLLM the plan assumes, and warnings if nothing describes the model."""
    version = plan.vllm_version or facts.vllm_version
    newest = ", the newest that pi's catalog names" if version == facts.vllm_version else ""
    plan = replace(plan, why=(*plan.why, f"planned for vLLM {version}{newest}"))
    if known_models.find(model) or facts.config is not None:
        return plan
    doubts = [doubt for doubt in (unserved.misspelled(model, known_models), NO_HUB) if doubt]
    return replace(plan, warnings=(*plan.warnings, *doubts))
