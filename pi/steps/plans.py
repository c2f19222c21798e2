"""Show a plan as text or as JSON."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pi import config, screen
from pi.calls.plan import read_by_vllm
from pi.calls.start import NO_UPKEEP, Upkeep
from pi.errors import InputError
from pi.planning import catalog, plan_json, planner, prices, refusals, replicas, venvs
from pi.planning.machines import Machine
from pi.planning.serve import Rank, server
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods import apis
from pi.pods.types import Pod
from pi.steps import group, kept_prices, measurements, on_idle, unrented, where
from pi.steps.asking import facts_for
from pi.steps.proposing import with_proposal
from pi.steps.states import minutes
from pi.vllm import repositories

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def show_plans(
    c: Any,
    chosen: where.Chosen,
    request: Request,
    private: bool = False,
    *,
    upkeep: Upkeep = NO_UPKEEP,
    as_json: bool = False,
) -> None:
    """Print the plan for a request on one pod or several, as they are now. Each pod's vLLM reads words for vLLM."""
    known_models, known_prices = catalog.load(config.config_dir()), kept_prices.load()
    measured = measurements.load()

    def planned(pod: Pod, connection: Connection) -> tuple[LaunchPlan, PodFacts]:
        facts = facts_for(connection, request, known_models)
        refusals.require_gpus(pod.name, pod.gpus, facts)
        facts = replace(facts, measurements=measured, prices=known_prices)
        try:
            plan = replicas.plan(request, facts, known_models)
        except InputError as error:
            raise with_proposal(error, request, pod, facts, known_models) from None
        refusal = venvs.refusal(plan, facts, pod.name)
        if refusal and as_json:
            raise refusal
        if plan.reads_words and (plan.vllm_version or facts.vllm_version) and refusal is None:
            notes = read_by_vllm(connection, plan, private)
            plan = replace(plan, warnings=(*plan.warnings, *notes))
        return plan, facts

    with screen.progress() as line:
        line.run("  asking the pod", screen.clock_since(time.monotonic()), quiet=True)
        asked = group.ask(c, chosen, planned)
    if len(asked) == 1:
        group.raise_failed(asked)
    if as_json:
        screen.say_json(group.one_or_all(asked, "plan", lambda _, planned: plan_json.as_json(planned[0], request)))
    else:
        for each in asked:
            if each.answer:
                lines = plan_lines(*each.answer, request, each.pod.name, private)
                lines += _idle(on_idle.decided(upkeep, each.pod), each.answer[1], each.pod.name)
                _say([f"{each.pod.name}:", *lines, ""] if len(asked) > 1 else lines)
    group.raise_failed(asked)


def show_plan_on(machine: Machine, request: Request, *, as_json: bool = False) -> None:
    """Print the plan for a request on an idle machine; contact no pod."""
    known_models = catalog.load(config.config_dir())
    facts = unrented.facts_of(machine, known_models, request.model)
    plan = planner.plan(request, facts, known_models)
    plan = unrented.with_assumptions(plan, facts, known_models, request.model)
    if as_json:
        screen.say_json(plan_json.as_json(plan, request))
    else:
        _say(lines_on(machine, plan, facts))


def _idle(upkeep: Upkeep, facts: PodFacts, pod: str) -> list[str]:
    """Say what happens when nobody uses the model. Raises InputError if the pod cannot do that."""
    if not upkeep.idle_s:
        return []
    on_idle.require_way(upkeep.on_idle, facts.provider, pod)
    then = on_idle.sentences(upkeep.on_idle, facts.provider) if upkeep.on_idle else []
    after = f"idle      pi ends the model after {minutes(upkeep.idle_s)} without a request"
    return [after, *(f"          {line}" for line in then)]


def _say(lines: list[str]) -> None:
    for line in lines:
        screen.say(line)


def plan_lines(
    plan: LaunchPlan, facts: PodFacts, request: Request, pod: str, private: bool = False, rank: Rank | None = None
) -> list[str]:
    """Describe a plan: the whole command and environment, the memory sum, the reasons, the download."""
    lines = _command(plan, private, rank) + _sizes(plan)
    if not plan.model.is_path:
        lines.append(f"download  {_download(plan, facts, request.model)}")
    lines += _also(plan)
    if plan.min_vllm:
        lines.append(f"vLLM      {_wanted(plan.min_vllm)}; ~/{plan.venv} has {plan.vllm_version or 'none'}")
    lines += _packages(plan, pod) + _reasons(plan)
    refusal = venvs.refusal(plan, facts, pod)
    return [*lines, f"refused   {refusal.message}; {refusal.hint}"] if refusal else lines


def lines_on(machine: Machine, plan: LaunchPlan, facts: PodFacts) -> list[str]:
    """Describe a plan for a machine that is not a pod yet, with its price."""
    lines = [*_command(plan), f"machine   {machine.title}, idle, not a pod", *_sizes(plan)]
    if not plan.model.is_path:
        lines.append(f"download  {_size(plan)}")
    lines += _also(plan)
    if plan.min_vllm:
        lines.append(f"vLLM      {_wanted(plan.min_vllm)}")
    price = prices.per_hour(facts.prices, machine.kind, machine.count)
    if price is not None:
        lines.append(f"price     {prices.amount(price)} per hour for {machine.title}")
    return lines + _packages(plan, "NAME") + _reasons(plan)


def _command(plan: LaunchPlan, private: bool = False, rank: Rank | None = None) -> list[str]:
    environment, words = server(plan, private, rank)
    variables = [f"{key}={shlex.quote(value)}" for key, value in environment.items()]
    return [f"PATH=~/{plan.venv}/bin:$PATH", *variables, shlex.join(words), ""]


def _sizes(plan: LaunchPlan) -> list[str]:
    lines = [f"port      {plan.port}", f"GPUs      {','.join(map(str, plan.gpus)) or 'none (CPU)'}"]
    if plan.context:
        lines.append(f"context   {plan.context} tokens")
    if not apis.is_chat(plan.api):
        lines.append(f"answers   {apis.APIS[plan.api].answers}: {' '.join(apis.APIS[plan.api].routes)}")
    if plan.memory:
        day = f", measured on {plan.measured_on}" if plan.predicted else ""
        lines.append(f"memory    {plan.memory.render()}{day}; {plan.memory.free_gib:.1f} GB free")
    if plan.predicted:
        lines.append(f"predicted {plan.predicted.render()}")
    return lines


def _also(plan: LaunchPlan) -> list[str]:
    """Name the other repositories that the arguments load."""
    others = [each.id for each in repositories.named_by(plan.args) if each.id != plan.model]
    return [f"also      {', '.join(others)}, unless already on the pod"] if others else []


def _wanted(min_vllm: str) -> str:
    return venvs.at_least(min_vllm).removeprefix("vLLM ")


def _packages(plan: LaunchPlan, pod: str) -> list[str]:
    install = f"pi pods setup {pod} --for {shlex.quote(plan.model)}"
    return [f"packages  {' '.join(plan.packages)}; to install what is missing: {install}"] if plan.packages else []


def _reasons(plan: LaunchPlan) -> list[str]:
    return [f"because   {reason}" for reason in plan.why] + [f"note      {warning}" for warning in plan.warnings]


def _download(plan: LaunchPlan, facts: PodFacts, requested: str) -> str:
    """Describe the download, and whether it fits the disk."""
    if facts.model_at == "cached" and plan.model == requested:
        return "none, its weights are on the pod"
    free_gib = facts.disk_free_gib
    download = f"{_size(plan)}{'' if plan.download_gb else ','} unless it is already on the pod"
    if free_gib is None:
        return download
    is_short = plan.download_gb and plan.download_gb * 1e9 > free_gib * 2**30
    return f"{download}; {free_gib * 2**30 / 1e9:.0f} GB of disk free{', not enough' if is_short else ''}"


def _size(plan: LaunchPlan) -> str:
    return f"{plan.download_gb:.3g} GB" if plan.download_gb else "of unknown size"
