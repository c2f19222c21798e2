"""How GPUs can split a model: tensor parallel, data parallel with spread experts, pipeline."""

from __future__ import annotations

from pi.planning.catalog import ModelSpec, Variant
from pi.planning.estimate import Split
from pi.planning.tuning import has_latent_cache

COUNTS = (1, 2, 4, 8, 16)
"""Tensor-parallel sizes. Others do not divide the widths of a network, which are powers of two times a small number."""


MOST_STAGES = 3
"""Longest pipeline that pi chooses by itself: three GPUs, or six as pairs. Longer ones answer slowly."""


def split_of(spec: ModelSpec, variant: Variant, count: int, nodes: int = 1) -> Split | None:
    """Return how `count` GPUs of each node split a model, in stages only if need be, or None if they cannot."""
    if nodes > 1:
        return _over_nodes(spec, variant, count, nodes)
    return one_stage(spec, variant, count) or pipeline(spec, variant, count)


def one_stage(spec: ModelSpec, variant: Variant, count: int) -> Split | None:
    """Return a split without pipeline stages: tensor parallel, else replicas of it with the experts spread."""
    if count not in COUNTS:
        return None
    tensor = largest_tensor(spec, variant, count)
    if tensor == count:
        return Split(tensor=count)
    return Split(tensor=tensor, data=count // tensor, expert=spec.experts) if spec.data_parallel else None


def pipeline(spec: ModelSpec, variant: Variant, count: int) -> Split | None:
    """Return pipeline stages of the largest tensor-parallel size, or None if vLLM has none for this model."""
    if not spec.pipeline or count == 1:
        return None
    tensor = largest_tensor(spec, variant, count)
    return Split(tensor=tensor, pipeline=count // tensor) if tensor < count else None


def replicas(spec: ModelSpec, count: int, throughput: bool) -> Split | None:
    """Return a replica of the attention on each GPU with the experts spread over all, if that serves more users.

    Tensor parallelism copies the compressed keys and values of MLA to every GPU, replicas do not (vllm#51454).
    """
    if count == 1 or not (spec.experts and spec.data_parallel):
        return None
    serves_more = spec.spans == "data" or (throughput and has_latent_cache(spec))
    return Split(data=count, expert=True) if serves_more else None


def largest_tensor(spec: ModelSpec, variant: Variant, count: int) -> int:
    """Return the largest tensor-parallel size that divides `count` and the model."""
    return next(size for size in reversed(COUNTS) if count % size == 0 and _divides(spec, variant, size))


def _over_nodes(spec: ModelSpec, variant: Variant, count: int, nodes: int) -> Split | None:
    if spec.spans == "pipeline" and largest_tensor(spec, variant, count) == count:
        return Split(tensor=count, pipeline=nodes)
    total = count * nodes
    if spec.spans in ("pipeline", "tensor") and total in COUNTS and _divides(spec, variant, total):
        return Split(tensor=total)
    return None


def _divides(spec: ModelSpec, variant: Variant, size: int) -> bool:
    """Return whether a tensor-parallel size divides the attention heads and the blocks of the weights."""
    if size == 1 or spec.heads is None:
        return variant.tensor is None or size <= variant.tensor
    if variant.tensor is not None and size > variant.tensor:
        return False
    kv_heads = spec.attention.kv_heads if spec.attention else 0
    return spec.heads % size == 0 and (not kv_heads or kv_heads % size == 0 or size % kv_heads == 0)
