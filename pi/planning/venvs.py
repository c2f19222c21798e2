"""Choose the vLLM that serves a model: the one in ~/venv, or one in an extra venv."""

from __future__ import annotations

import shlex
from dataclasses import replace

from pi.errors import InputError
from pi.planning.catalog import Variant
from pi.planning.types import LaunchPlan, PodFacts
from pi.vllm.venvs import VENV
from pi.vllm.versions import NIGHTLY, is_nightly, too_old, version_numbers


def choose(facts: PodFacts, min_vllm: str | None, max_vllm: str | None = None) -> tuple[str, str | None]:
    """Return the folder and version of the vLLM that serves a model with these limits.

    Prefers ~/venv. Otherwise the oldest fitting extra venv, releases before nightly builds: it is nearest to the
    vLLM that the catalog was written for, and the choice stays when setup adds a newer one. If no vLLM fits,
    returns ~/venv.
    """

    def serves(version: str | None) -> bool:
        return not too_old(version, min_vllm) and not too_old(max_vllm, version)

    if serves(facts.vllm_version):
        return VENV, facts.vllm_version
    fitting = [(is_nightly(v), version_numbers(v), folder, v) for folder, v in facts.extra_venvs.items() if serves(v)]
    return min(fitting)[2:] if fitting else (VENV, facts.vllm_version)


def with_venv(plan: LaunchPlan, facts: PodFacts, min_vllm: str | None, max_vllm: str | None) -> LaunchPlan:
    """Set a plan's venv; an extra venv adds its reason."""
    venv, version = choose(facts, min_vllm, max_vllm)
    why = plan.why
    if venv != VENV:
        limit = at_least(min_vllm) if min_vllm and too_old(facts.vllm_version, min_vllm) else at_most(max_vllm or "")
        why += (f"vLLM {version} from ~/{venv}: it needs {limit}, but ~/venv has {facts.vllm_version}",)
    return replace(plan, venv=venv, vllm_version=version, min_vllm=min_vllm, why=why)


def served(variants: tuple[Variant, ...], facts: PodFacts, max_vllm: str | None) -> tuple[Variant, ...]:
    """Return the checkpoints that a vLLM of the pod serves, or all if none does."""
    fitting = (v for v in variants if not too_old(choose(facts, v.min_vllm, max_vllm)[1], v.min_vllm))
    return tuple(fitting) or variants


def at_least(min_vllm: str) -> str:
    return "a nightly build of vLLM" if min_vllm == NIGHTLY else f"vLLM {min_vllm} or newer"


def at_most(max_vllm: str) -> str:
    return f"vLLM {max_vllm} or older"


def refusal(plan: LaunchPlan, facts: PodFacts, pod: str) -> InputError | None:
    """Return the error if a plan's vLLM is too old for its model, else None."""
    if plan.min_vllm is None or not too_old(plan.vllm_version, plan.min_vllm):
        return None
    extra = "".join(f", {version} in ~/{folder}" for folder, version in sorted(facts.extra_venvs.items()))
    setup = f"pi pods setup {pod} --for {shlex.quote(plan.model)}"
    return InputError(
        "vllm-too-old",
        f"{plan.model} needs {at_least(plan.min_vllm)}, but {pod} has {facts.vllm_version}{extra}",
        f"add an extra venv: {setup} --beside; or upgrade ~/venv: {setup}",
    )
