"""The arguments and variables of a plan: GPUs, split, context length, parsers."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace

from pi.planning import venvs
from pi.planning.catalog import ModelSpec, Tuning
from pi.planning.estimate import MemorySum, Split
from pi.planning.room import Slot
from pi.planning.types import VENV, LaunchPlan, PodFacts
from pi.vllm.arguments import laid_over
from pi.vllm.versions import too_old

FITS_ITSELF = "0.14.0"
"""First vLLM that takes `--max-model-len auto`: the longest context that the memory holds."""


def next_port(taken: AbstractSet[int], first: int = 8001) -> int:
    """The lowest port from `first` on that is not taken."""
    return next(port for port in range(first, 65536) if port not in taken)


def on_cpu(facts: PodFacts) -> bool:
    return facts.device == "cpu"


def port_for(facts: PodFacts) -> int:
    return next_port(facts.taken_ports | {deployment.port for deployment in facts.deployments})


def on_vllm(made: LaunchPlan, facts: PodFacts, floor: str | None, ceiling: str | None) -> LaunchPlan:
    """The plan with the vLLM of the pod that serves it, and why where that is not the usual one."""
    venv, version = venvs.choose(facts, floor, ceiling)
    why = made.why
    if venv != VENV:
        limit = venvs.wanted(floor) if floor and too_old(facts.vllm_version, floor) else f"vLLM {ceiling} or older"
        why += (f"vLLM {version} of ~/{venv}: it needs {limit}, ~/venv has {facts.vllm_version}",)
    return replace(made, venv=venv, vllm_version=version, vllm_floor=floor, why=why)


def gpu_ids(chosen: Iterable[Slot]) -> tuple[int, ...]:
    return tuple(sorted(slot.gpu.id for slot in chosen))


def gpu_env(chosen: Iterable[Slot]) -> dict[str, str]:
    """Names the GPUs by nvidia-smi's index, which CUDA counts by only when told to."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpu_ids(chosen)))}


def split_args(split: Split, nodes: int = 1) -> tuple[str, ...]:
    args: list[str] = []
    if split.tensor > 1:
        args += ["--tensor-parallel-size", str(split.tensor)]
    if split.pipeline > 1:
        args += ["--pipeline-parallel-size", str(split.pipeline)]
    if split.data > 1:
        args += ["--data-parallel-size", str(split.data)]
        args += ["--data-parallel-size-local", str(split.data // nodes)] if nodes > 1 else []
    elif nodes > 1:
        args += ["--nnodes", str(nodes)]
    return (*args, "--enable-expert-parallel") if split.expert else tuple(args)


def length_args(wanted: int | None, tuning: Tuning, memory: MemorySum | None, version: str | None) -> tuple[str, ...]:
    """`--max-model-len`: the user's, else the recipe's, else as much as vLLM finds room for."""
    if wanted is not None:
        return ("--max-model-len", str(wanted))
    longest = memory.longest if memory else None
    if tuning.context is not None:
        return ("--max-model-len", str(min(tuning.context, longest or tuning.context)))
    if not too_old(version, FITS_ITSELF):
        return ("--max-model-len", "auto")
    return ("--max-model-len", str(longest)) if longest else ()


def model_args(spec: ModelSpec, tuned: tuple[str, ...]) -> tuple[str, ...]:
    args: list[str] = []
    if spec.tools:
        args += ["--enable-auto-tool-choice", "--tool-call-parser", spec.tools]
    if spec.reasoning:
        args += ["--reasoning-parser", spec.reasoning]
    if spec.trust_remote_code:
        args.append("--trust-remote-code")
    return laid_over(tuple(args), tuned)
