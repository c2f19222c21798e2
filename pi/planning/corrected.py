"""Plan a start once more after vLLM exited: the same plan with one corrected argument."""

from __future__ import annotations

from dataclasses import replace

from pi.planning.types import LaunchPlan, Request
from pi.vllm.corrections import CONTEXT, SHARE, Correction, correction


def corrected(plan: LaunchPlan, request: Request, log: str, exit_code: int | None) -> tuple[LaunchPlan, str] | None:
    """Return the plan for a second try and one sentence that explains it.

    Returns None if vLLM's log names no number that works, or if the user set this number.
    """
    if request.vllm_args is not None:
        return None
    found = correction(log, exit_code, plan.args, plan.fixed)
    if found is None:
        return None
    sentence = f"vLLM stopped: {found.reason}; starting once more with {found.option} {found.value}"
    return with_correction(plan, found), sentence


def with_correction(plan: LaunchPlan, found: Correction) -> LaunchPlan:
    """Return a plan with the corrected argument, and what follows from it."""
    plan = replace(plan, args=found.applied(plan.args))
    if found.option == CONTEXT:
        plan = replace(plan, context=int(found.value))
    if found.option == SHARE:
        return replace(plan, memory_share=float(found.value))
    return replace(plan, corrections={**plan.corrections, found.option: found.value})
