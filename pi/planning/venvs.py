"""Which vLLM of a pod serves a model: that of ~/venv, or one beside it, made for models that need another."""

from __future__ import annotations

import re
import shlex

from pi.errors import InputError
from pi.planning.catalog import Variant
from pi.planning.types import VENV, LaunchPlan, PodFacts
from pi.vllm.versions import NIGHTLY, is_nightly, too_old, version_numbers


def is_beside(folder: object) -> bool:
    """Whether setup makes a folder of this name beside ~/venv: it is named after the vLLM that was asked for."""
    return isinstance(folder, str) and bool(re.fullmatch(r"venv-(nightly|\d+(\.\d+)*)", folder, re.ASCII))


def choose(facts: PodFacts, floor: str | None, ceiling: str | None = None) -> tuple[str, str | None]:
    """Folder in the pod's home and version of the vLLM that serves a model of this floor and ceiling.

    That of ~/venv where it can, and where none can. Else the oldest beside it that can, a release before a
    nightly build: it is the nearest to what the model's entry was written for, and a model goes on running
    from it when a newer one is made for another.
    """

    def serves(version: str | None) -> bool:
        return not too_old(version, floor) and not too_old(ceiling, version)

    if serves(facts.vllm_version):
        return VENV, facts.vllm_version
    able = [(is_nightly(at), version_numbers(at), folder, at) for folder, at in facts.beside.items() if serves(at)]
    return min(able)[2:] if able else (VENV, facts.vllm_version)


def served(variants: tuple[Variant, ...], facts: PodFacts, ceiling: str | None) -> tuple[Variant, ...]:
    """The checkpoints that a vLLM of the pod serves; all of them where none does."""
    able = (v for v in variants if not too_old(choose(facts, v.floor, ceiling)[1], v.floor))
    return tuple(able) or variants


def wanted(floor: str) -> str:
    """A floor in words."""
    return "a nightly build of vLLM" if floor == NIGHTLY else f"vLLM {floor} or newer"


def refusal(plan: LaunchPlan, facts: PodFacts, pod: str) -> InputError | None:
    """Why the vLLM of a plan cannot serve its model, with both ways on; None where it can."""
    if plan.vllm_floor is None or not too_old(plan.vllm_version, plan.vllm_floor):
        return None
    beside = "".join(f", {version} in ~/{folder}" for folder, version in sorted(facts.beside.items()))
    setup = f"pi pods setup {pod} --for {shlex.quote(plan.model)}"
    return InputError(
        "vllm-too-old",
        f"{plan.model} needs {wanted(plan.vllm_floor)}, {pod} has {facts.vllm_version}{beside}",
        f"leave ~/venv as it is and make this model a venv of its own: {setup} --beside; or upgrade ~/venv: {setup}",
    )


def extra_venvs(told: dict[str, str]) -> dict[str, str]:
    """Venvs beside ~/venv, without folders that setup does not make."""
    return {folder: version for folder, version in told.items() if is_beside(folder)}
