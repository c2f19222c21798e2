"""Arguments and variables that a plan gives to vLLM: GPUs, split, memory, context, parsers."""

from __future__ import annotations

from collections.abc import Iterable

from pi.planning.catalog import ModelSpec, Tuning
from pi.planning.estimate import UNKNOWN_SEQUENCES, MemorySum
from pi.planning.room import Slot
from pi.planning.split import Split
from pi.planning.types import Request
from pi.vllm.arguments import Arguments
from pi.vllm.versions import too_old

AUTO_CONTEXT_SINCE = "0.14.0"
"""First vLLM that accepts `--max-model-len auto`, the longest context that fits."""


def served_names(model: str, request: Request) -> tuple[str, ...]:
    """Return the names that the server answers to: the loaded id, the requested id, the local name.

    A replica has the name of its endpoint, so that all answer alike.
    """
    return tuple(dict.fromkeys((model, request.model, request.replica_of or request.name)))


def gpu_env(chosen: Iterable[Slot]) -> dict[str, str]:
    """Select GPUs by nvidia-smi's index, because CUDA's own order differs; slices (MIG) by their UUID."""
    by_id = {slot.gpu.id: slot.gpu for slot in chosen}
    words = [by_id[index].uuid if by_id[index].uuid.startswith("MIG-") else str(index) for index in sorted(by_id)]
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(words)}


def split_args(split: Split, nodes: int = 1) -> Arguments:
    args = Arguments()
    for option, size in (
        ("--tensor-parallel-size", split.tensor),
        ("--pipeline-parallel-size", split.pipeline),
        ("--data-parallel-size", split.data),
        ("--nnodes", nodes),
    ):
        args = args.set(option, size) if size > 1 else args
    return args.set("--enable-expert-parallel") if split.expert else args


def memory_args(share: float) -> Arguments:
    return Arguments().set("--gpu-memory-utilization", f"{share:g}")


def context_args(wanted: int | None, tuning: Tuning, memory: MemorySum | None, version: str | None) -> Arguments:
    """Set `--max-model-len`: the user's, else the recipe's, else the longest that fits."""
    longest = memory.longest if memory else None
    tokens: int | str | None = wanted
    if tokens is None and tuning.context is not None:
        tokens = min(tuning.context, longest or tuning.context)
    if tokens is None:
        tokens = longest if too_old(version, AUTO_CONTEXT_SINCE) else "auto"
    return Arguments().set("--max-model-len", tokens) if tokens else Arguments()


def sequences_args(memory: MemorySum | None) -> Arguments:
    """Set `--max-num-seqs`, whose default stops models with a state at the start."""
    return Arguments().set("--max-num-seqs", memory.max_num_seqs if memory else UNKNOWN_SEQUENCES)


def model_args(spec: ModelSpec, tuned: Arguments) -> Arguments:
    """Return the arguments of a model everywhere, with a recipe's arguments over them."""
    args = Arguments()
    if spec.tools:
        args = args.set("--enable-auto-tool-choice").set("--tool-call-parser", spec.tools)
    if spec.reasoning:
        args = args.set("--reasoning-parser", spec.reasoning)
    if spec.trust_remote_code:
        args = args.set("--trust-remote-code")
    return tuned.over(args)
