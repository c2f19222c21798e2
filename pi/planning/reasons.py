"""Explain a plan: one sentence per decision."""

from __future__ import annotations

from pi.planning import hardware, venvs
from pi.planning.amounts import card_gb
from pi.planning.catalog import ModelSpec, Variant
from pi.planning.estimate import MemorySum
from pi.planning.placement import Fit, runs_on
from pi.planning.room import gpu_ids, groups
from pi.planning.types import PodFacts, Request
from pi.text import count


def reasons(
    request: Request, facts: PodFacts, spec: ModelSpec, variants: tuple[Variant, ...], fit: Fit
) -> tuple[str, ...]:
    sentences = [_variant_reason(variants, facts, fit), _gpu_reason(request, facts, fit)]
    if fit.layout is not None:
        note = f": {fit.layout.note}" if fit.layout.note else ""
        sentences.append(f"tested on {fit.layout.gpus} of this kind{note}")
    return (*sentences, _share_reason(request, fit), _context_reason(request, spec, fit), *room_reason(fit.memory))


SHARED_TOKENS = (16384, 4096)
"""Tokens of a request for the count of requests: the first that is shorter than the longest context."""


def room_reason(memory: MemorySum) -> tuple[str, ...]:
    """Say how many requests share the KV cache, such as "131072 tokens for one request, or 8 of 16384"."""
    longest, sequences = memory.longest, memory.max_num_seqs
    tokens = next((tokens for tokens in SHARED_TOKENS if longest and tokens < longest), None)
    if longest is None or tokens is None:
        return (f"up to {count(sequences, 'request')} at a time",)
    fitting = min(sequences, memory.requests_of(tokens) or 1)
    return (f"{longest} tokens for one request, or {fitting} of {tokens}; up to {sequences} at a time",)


def _variant_reason(variants: tuple[Variant, ...], facts: PodFacts, fit: Fit) -> str:
    chosen, first = fit.variant, variants[0]
    weights = f"{chosen.id}: {card_gb(chosen.weights_gb)} GB of {chosen.precision} weights"
    if chosen is first:
        return weights
    kind = next(group for group in groups(facts) if fit.slots[0] in group.by_use)
    if not runs_on(first, kind):
        return f"{weights}, because {kind.gpu.name} does not support {first.precision.upper()} natively"
    return (
        f"{weights}, because {first.precision} needs {card_gb(first.minimum_gb)} GB of GPU memory"
        " and room for a useful context"
    )


def passed_over(asked: tuple[Variant, ...], variants: tuple[Variant, ...]) -> tuple[str, ...]:
    """Explain that the first checkpoint needs a newer vLLM."""
    first = asked[0]
    return () if first in variants else (f"not {first.id}: it needs {venvs.at_least(first.min_vllm or '')}",)


def _gpu_reason(request: Request, facts: PodFacts, fit: Fit) -> str:
    gpu, split = fit.slots[0].gpu, fit.split
    ids = ", ".join(map(str, gpu_ids(fit.slots)))
    where = f" on each of {facts.nodes} pods" if facts.nodes > 1 else ""
    choice = "as requested" if request.gpus else "the fewest with enough memory"
    sizes = (("tensor", split.tensor), ("pipeline", split.pipeline), ("data", split.data))
    parallel = ", ".join(f"{size}-way {word}" for word, size in sizes if size > 1)
    product = hardware.kind(gpu)
    slow = " over PCIe" if product and not product.nvlink else ""
    how = f": {parallel} parallel{slow}" if parallel else ""
    return f"{len(fit.slots)}x {gpu.name} (GPU {ids}){where}, {choice}{how}"


def _share_reason(request: Request, fit: Fit) -> str:
    share = f"{fit.share:.0%} of each GPU's memory"
    others = sorted({name for slot in fit.slots for name in slot.models})
    if request.memory is not None:
        return f"{share}, as requested"
    if others:
        return f"{share}, next to {', '.join(others)}"
    return f"{share}, set by its recipe" if fit.tuning.share == fit.share else share


def _context_reason(request: Request, spec: ModelSpec, fit: Fit) -> str:
    own, longest = spec.context or fit.memory.longest, fit.memory.longest
    if request.context is not None:
        return f"context of {request.context} tokens, as requested"
    if longest is None:
        return f"context of up to {own} tokens, if the memory is large enough"
    if longest == own:
        return f"the model's full context of {own} tokens"
    limit = "its recipe" if longest == fit.tuning.context else "the memory"
    return f"context of about {longest} of the model's {own} tokens, limited by {limit}"
