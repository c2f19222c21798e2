"""Show a plan as text."""

from __future__ import annotations

import shlex
from typing import Any

from pi import config, screen
from pi.calls.survey import look
from pi.planning import catalog, planner, refusals, venvs
from pi.planning.serve import server
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods import apis
from pi.pods.types import Pod
from pi.steps import where


def show_plan(c: Any, pod: str | None, request: Request, private: bool = False) -> None:
    """Print the plan for a request on the pod as it is now."""
    known_models = catalog.load(config.config_dir())
    sized = planner.checkpoints(request, known_models)
    entry, facts = facts_of(c, pod, request.model, ask_hub=known_models.find(request.model) is None, checkpoints=sized)
    refusals.require_gpus(entry.name, entry.gpus, facts)
    for line in plan_lines(planner.plan(request, facts, known_models), facts, request, entry.name, private):
        screen.say(line)


def plan_lines(plan: LaunchPlan, facts: PodFacts, request: Request, pod: str, private: bool = False) -> list[str]:
    """Describe a plan: the whole command and environment, the memory sum, the reasons, the download."""
    environment, words = server(plan, private)
    lines = [f"PATH=~/{plan.venv}/bin:$PATH"] + [f"{key}={shlex.quote(value)}" for key, value in environment.items()]
    lines += [shlex.join(words), ""]
    lines.append(f"port      {plan.port}")
    lines.append(f"GPUs      {','.join(map(str, plan.gpus)) or 'none (CPU)'}")
    if plan.context:
        lines.append(f"context   {plan.context} tokens")
    if not apis.is_chat(plan.api):
        lines.append(f"answers   {apis.APIS[plan.api].answers}: {' '.join(apis.APIS[plan.api].routes)}")
    if plan.memory:
        lines.append(f"memory    {plan.memory.render()}; {plan.memory.free_gib:.1f} GiB free")
    if not plan.model.is_path:
        lines.append(f"download  {_download(plan, facts, request.model)}")
    if plan.min_vllm:
        wanted = venvs.at_least(plan.min_vllm).removeprefix("vLLM ")
        lines.append(f"vLLM      {wanted}; ~/{plan.venv} has {plan.vllm_version or 'none'}")
    if plan.packages:
        install = f"pi pods setup {pod} --for {shlex.quote(plan.model)}"
        lines.append(f"packages  {' '.join(plan.packages)}; to install what is missing: {install}")
    lines += [f"because   {reason}" for reason in plan.why]
    lines += [f"note      {warning}" for warning in plan.warnings]
    refusal = venvs.refusal(plan, facts, pod)
    return [*lines, f"refused   {refusal.message}; {refusal.hint}"] if refusal else lines


def _download(plan: LaunchPlan, facts: PodFacts, requested: str) -> str:
    """Describe the download, and whether it fits the disk."""
    if facts.model_at == "cached" and plan.model == requested:
        return "none, its weights are on the pod"
    free_gib = facts.disk_free_gib
    size = f"{plan.download_gb:.3g} GB" if plan.download_gb else "of unknown size,"
    download = f"{size} unless it is already on the pod"
    if free_gib is None:
        return download
    is_short = plan.download_gb and plan.download_gb * 1e9 > free_gib * 2**30
    return f"{download}; {free_gib:.0f} GiB of disk free{', not enough' if is_short else ''}"


def facts_of(
    c: Any, pod: str | None, model: str | None = None, *, ask_hub: bool = False, checkpoints: tuple[str, ...] = ()
) -> tuple[Pod, PodFacts]:
    """Return the pod's entry in pods.json and what is true of the pod now."""
    with where.targeted(c, pod) as (entry, link):
        return entry, look(link, model, ask_hub=ask_hub, checkpoints=checkpoints)
