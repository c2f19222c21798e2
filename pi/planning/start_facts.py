"""What hints for a failed start need of its plan, its pod and the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pi.errors import PiError
from pi.planning import planner
from pi.planning.catalog import Catalog
from pi.planning.room import groups
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.vllm.start_facts import StartFacts


def facts_of_start(plan: LaunchPlan, request: Request, facts: PodFacts, catalog: Catalog) -> StartFacts:
    """Return what a start was given and what its pod had. `facts` are those before the start."""
    used = [gpu for gpu in facts.gpus if gpu.id in plan.gpus]
    idle = next((kind.idle for kind in groups(facts) if used and used[0] in [slot.gpu for slot in kind.by_use]), 0)
    return StartFacts(
        args=plan.args,
        env=plan.env,
        share=plan.memory_share,
        context=plan.context,
        gpus=len(plan.gpus),
        pod_gpus=max(idle, len(plan.gpus)),
        card=used[0].name if used else None,
        version=plan.vllm_version,
        venv=plan.venv,
        variant=plan.variant,
        smaller=next(_smaller(plan, request, facts, catalog), None),
        raw=request.vllm_args is not None,
    )


def _smaller(plan: LaunchPlan, request: Request, facts: PodFacts, catalog: Catalog) -> Iterator[str]:
    """Yield the names of smaller checkpoints of the model that fit on the pod, the largest of them first."""
    entry = catalog.find(plan.model)
    if entry is None or request.vllm_args is not None or facts.is_cpu:
        return
    spec, current = entry
    for variant in sorted(spec.variants, key=lambda each: -each.weights_gb):
        if variant.weights_gb < current.weights_gb and variant.name != current.name:
            try:
                planner.plan(
                    replace(request, model=spec.id, variant=variant.name, gpus=None, name=plan.name), facts, catalog
                )
            except PiError:
                continue
            yield variant.name
