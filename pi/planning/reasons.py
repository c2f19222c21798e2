"""Explain a plan: one sentence per decision."""

from __future__ import annotations

from pi.planning import hardware, venvs
from pi.planning.amounts import card_gb
from pi.planning.catalog import ModelSpec, Variant
from pi.planning.estimate import MemorySum
from pi.planning.hardware import Level
from pi.planning.placement import Fit
from pi.planning.ranking import SIXTEEN_BIT, level_on, ranked
from pi.planning.room import Group, gpu_ids, groups
from pi.planning.splits import split_of
from pi.planning.types import PodFacts, Request
from pi.text import count


def reasons(
    request: Request, facts: PodFacts, spec: ModelSpec, variants: tuple[Variant, ...], fit: Fit
) -> tuple[str, ...]:
    kind = next(group for group in groups(facts) if fit.slots[0] in group.by_use)
    sentences = [_variant_reason(request, spec, variants, kind, fit), _gpu_reason(request, facts, fit)]
    sentences += _idle_reason(request, facts, spec, kind, fit)
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


def warnings(facts: PodFacts, fit: Fit) -> tuple[str, ...]:
    """Warn of a split that needs a faster connection than most pods have."""
    if fit.split.tensor <= len(fit.slots):
        return ()
    return (
        f"tensor parallel over {facts.nodes} pods: every layer of every token waits for their network."
        " Over Ethernet this is many times slower than on one pod; it needs InfiniBand",
    )


def _variant_reason(request: Request, spec: ModelSpec, variants: tuple[Variant, ...], kind: Group, fit: Fit) -> str:
    chosen, first, name = fit.variant, variants[0], hardware.short_name(kind.gpu)
    weights = f"{chosen.id}: {card_gb(chosen.weights_gb)} GB of {chosen.precision} weights"
    if level_on(spec, chosen, kind) is Level.WEIGHT_ONLY:
        weights += f", computed in {'FP16' if chosen.precision == 'bf16' else '16 bit'} on {name}"
    order = [variant for variant, _ in ranked(spec, variants, (kind,))]
    before = order[: order.index(chosen)]
    if before:
        better = f"{card_gb(before[0].weights_gb)} GB of {before[0].precision}"
        return f"{weights}, because {better} leave no room for a useful context"
    if level_on(spec, first, kind) is Level.NONE:
        return f"{weights}, because {name} does not support {first.precision.upper()}"
    sixteen = next((variant for variant in order if variant.precision in SIXTEEN_BIT), chosen)
    if request.variant is None and chosen.precision not in SIXTEEN_BIT and sixteen is not chosen:
        return f"{weights}; --variant {sixteen.name} takes the 16-bit ones"
    return weights


def _idle_reason(request: Request, facts: PodFacts, spec: ModelSpec, kind: Group, fit: Fit) -> list[str]:
    """Say which GPUs of the kind stay idle, and how to use them."""
    idle = [slot for slot in kind.by_use if not slot.busy and slot not in fit.slots]
    used = len(fit.slots)
    if not idle or facts.nodes > 1 or request.gpus is not None or kind.largest == 1:
        return []
    ids = ", ".join(map(str, gpu_ids(idle)))
    stay = f"GPU {ids} {'stays' if len(idle) == 1 else 'stay'} idle"
    most = next((n for n in range(used + len(idle), used, -1) if split_of(spec, fit.variant, n)), None)
    if most is None:
        return [f"{stay}: the model cannot be split over {used + len(idle)} GPUs"]
    return [f"{stay}; --gpus {most} or --for-throughput uses {most} GPUs"]


def passed_over(asked: tuple[Variant, ...], variants: tuple[Variant, ...]) -> tuple[str, ...]:
    """Explain that the first checkpoint needs a newer vLLM."""
    first = asked[0]
    return () if first in variants else (f"not {first.id}: it needs {venvs.at_least(first.min_vllm or '')}",)


def _gpu_reason(request: Request, facts: PodFacts, fit: Fit) -> str:
    gpu, split = fit.slots[0].gpu, fit.split
    ids = ", ".join(map(str, gpu_ids(fit.slots)))
    where = f" on each of {facts.nodes} pods" if facts.nodes > 1 else ""
    choice = "the fewest with enough memory"
    if request.gpus or request.for_throughput:
        choice = "as requested" if request.gpus else "all that are idle, for throughput"
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


def predicts_context(sentence: str) -> bool:
    """Return whether a sentence of `reasons` is about a context that pi estimated."""
    beginnings = ("context of about ", "context of up to ", "the model's full context ", "up to ")
    return sentence.startswith(beginnings) or " tokens for one request" in sentence


def _context_reason(request: Request, spec: ModelSpec, fit: Fit) -> str:
    own, longest = spec.context or fit.memory.longest, fit.memory.longest
    if request.context is not None:
        return f"context of {request.context} tokens, as requested"
    if own is None:
        return "context of up to the model's own length, which its config.json does not say"
    if longest is None:
        return f"context of up to {own} tokens, if the memory is large enough"
    if longest == own:
        return f"the model's full context of {own} tokens"
    limit = "its recipe" if longest == fit.tuning.context else "the memory"
    return f"context of about {longest} of the model's {own} tokens, limited by {limit}"
