"""A plan as text."""

from __future__ import annotations

import shlex
from typing import Any

from pi import config, screen
from pi.calls.survey import look
from pi.planning import catalog, planner, refusals, venvs
from pi.planning.serve import server
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods.types import Pod
from pi.steps import where


def show_plan(c: Any, pod: str | None, request: Request, private: bool = False) -> None:
    """Print the plan for a request on the pod as it is now."""
    known = catalog.load(config.config_dir())
    place, facts = facts_of(c, pod, request.model, ask_hub=known.find(request.model) is None)
    refusals.require_gpus(place.name, place.gpus, facts)
    for line in plan_lines(planner.plan(request, facts, known), facts, request, place.name, private):
        screen.say(line)


def plan_lines(plan: LaunchPlan, facts: PodFacts, request: Request, pod: str, private: bool = False) -> list[str]:
    """A plan in words: the command and environment whole, the sum, the reasons, the download."""
    environment, words = server(plan, private)
    lines = [f"PATH=~/{plan.venv}/bin:$PATH"] + [f"{key}={shlex.quote(value)}" for key, value in environment.items()]
    lines += [shlex.join(words), ""]
    lines.append(f"port      {plan.port}")
    lines.append(f"GPUs      {','.join(map(str, plan.gpus)) or 'none (CPU)'}")
    if plan.context:
        lines.append(f"context   {plan.context} tokens")
    if plan.memory:
        lines.append(f"memory    {plan.memory.render()}; {plan.memory.free_gib:.1f} GiB are free")
    if not plan.model.is_path:
        lines.append(f"download  {_download(plan, facts, request.model)}")
    if plan.min_vllm:
        wanted = venvs.at_least(plan.min_vllm).removeprefix("vLLM ")
        lines.append(f"vLLM      {wanted}; ~/{plan.venv} has {plan.vllm_version or 'none'}")
    if plan.packages:
        how = f"pi pods setup {pod} --for {shlex.quote(plan.model)} installs what is missing"
        lines.append(f"packages  {' '.join(plan.packages)}; {how}")
    lines += [f"because   {reason}" for reason in plan.why]
    lines += [f"note      {warning}" for warning in plan.warnings]
    refusal = venvs.refusal(plan, facts, pod)
    return [*lines, f"refused   {refusal.message}; {refusal.hint}"] if refusal else lines


def _download(plan: LaunchPlan, facts: PodFacts, asked: str) -> str:
    """What is to be fetched, and whether the disk has room for it."""
    if facts.model_at == "cached" and plan.model == asked:
        return "none, its weights are on the pod"
    free_gib = facts.disk_free_gib
    size = f"{plan.download_gb:.3g} GB" if plan.download_gb else "of unknown size,"
    words = f"{size} if it is not on the pod yet"
    if free_gib is None:
        return words
    few = ", too few" if plan.download_gb and plan.download_gb * 1e9 > free_gib * 2**30 else ""
    return f"{words}; {free_gib:.0f} GiB of disk are free{few}"


def facts_of(c: Any, pod: str | None, model: str | None = None, *, ask_hub: bool = False) -> tuple[Pod, PodFacts]:
    with where.targeted(c, pod) as (place, link):
        return place, look(link, model, ask_hub=ask_hub)
