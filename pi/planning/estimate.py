"""The memory of a model on a GPU as vLLM divides it: weights, overhead, KV cache; context and sequences in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pi.planning.cache import Cache, CacheOptions, cache_of
from pi.planning.cuda_memory import Card
from pi.planning.network import Network
from pi.planning.overhead import GIB, terms
from pi.planning.serving import BATCHES_IN_FLIGHT, Serving
from pi.planning.split import Split

REPLICATED = 0.06
"""Part of a mixture of experts outside its experts; each data-parallel replica holds all of it."""

SPARE_KV_GIB = 1.0
"""KV cache on each GPU if a model's bytes per token are unknown."""

UNKNOWN_SEQUENCES = 64
"""Sequences if a model's cache is unknown: it may have layers with a state."""

SEQUENCE_TOKENS = 2048
"""Tokens of a request among many; a server with less memory for each would pause requests."""

LEAST_SEQUENCES = 8

BLOCKS_KEPT = 0.75
"""Part of the state's blocks that sequences may use: the memory for them is an estimate."""


@dataclass(frozen=True)
class MemorySum:
    """Memory of each GPU of a plan, in GiB.

    `allowed_gib` is the model's share of `memory_gib`, CUDA's total; `free_gib` is unused on the fullest GPU.
    `kv_cache_gib` is for one sequence of `context` tokens, `room_gib` is what vLLM gives the cache; the longest
    sequence that fits is `longest`. `max_num_seqs` sequences run beside each other. `kv_tokens` is the cache's size for
    sequences of `longest` tokens, `state_blocks` its blocks if layers have a state. Context and tokens are None if the
    model's bytes per token are unknown. The weights may differ by the part `uncertainty`.
    """

    weights_gib: float
    kv_cache_gib: float
    overhead_gib: float
    allowed_gib: float
    memory_gib: float
    free_gib: float
    context: int | None = None
    longest: int | None = None
    uncertainty: float = 0.0
    room_gib: float = 0.0
    max_num_seqs: int = UNKNOWN_SEQUENCES
    kv_tokens: int | None = None
    state_blocks: int | None = None
    cache: Cache | None = None

    @property
    def needed_gib(self) -> float:
        return self.weights_gib + self.kv_cache_gib + self.overhead_gib

    @property
    def fits(self) -> bool:
        return self.needed_gib <= self.allowed_gib

    def requests_of(self, tokens: int) -> int | None:
        """Return how many requests of `tokens` fit beside each other, or None if unknown."""
        return self.cache.requests(self.room_gib * GIB, tokens) if self.cache else None

    def render(self) -> str:
        """Return the sum in one line, such as "61.0 weights + 8.0 KV cache + 4.4 overhead = 73.4 of 71.7 GB"."""
        kv = f"{self.kv_cache_gib:.1f} KV cache"
        if self.context:
            kv += f" for {self.context} tokens"
        within = f" (+-{self.uncertainty:.0%})" if self.uncertainty else ""
        return (
            f"{self.weights_gib:.1f} weights{within} + {kv} + {self.overhead_gib:.1f} overhead"
            f" = {self.needed_gib:.1f} of {self.allowed_gib:.1f} GB on each GPU"
        )


@dataclass(frozen=True)
class Load:
    """What a GPU must hold: all weights (10^9 bytes), a drafter's weights, and the network.

    `vision_gib` is the profile of its vision tower in GiB if it is known.
    """

    weights_gb: float
    network: Network
    draft_gb: float = 0.0
    vision_gib: float | None = None
    uncertainty: float = 0.0


def weights_per_gpu_gib(weights_gb: float, split: Split) -> float:
    """Return the weights on the fullest GPU in GiB; `weights_gb` are all weights in 10^9 bytes."""
    whole = weights_gb * 1e9 / GIB
    if split.data == 1:
        return whole / (split.tensor * split.pipeline)
    replicated = REPLICATED if split.expert else 1.0
    ranks = split.tensor * split.pipeline
    return whole * (replicated / ranks + (1 - replicated) / (ranks * split.data))


def memory_sum(
    load: Load, split: Split, card: Card, serving: Serving, *, share: float, context: int | None, wanted: int | None
) -> MemorySum:
    """Return the sum for one GPU of `split`.

    `context` is the model's limit and `wanted` the user's, in tokens. Without `wanted`, the sum contains the longest
    context that fits. Fewer sequences than `serving` allows need less memory, so the sum is made again with them.
    """
    first = _sum(load, split, card, serving, share, context, wanted)
    if first.max_num_seqs >= serving.sequences:
        return first
    fewer = replace(serving, sequences=first.max_num_seqs)
    return replace(
        _sum(load, split, card, fewer, share, context, wanted),
        max_num_seqs=first.max_num_seqs,
    )


def _sum(
    load: Load, split: Split, card: Card, serving: Serving, share: float, context: int | None, wanted: int | None
) -> MemorySum:
    network, ranks = load.network, split.tensor * split.pipeline
    weights = weights_per_gpu_gib(load.weights_gb, split) + load.draft_gb * 1e9 / GIB / ranks
    overhead = terms(network, split, card, serving, load.vision_gib).gib()
    made = MemorySum(
        weights_gib=weights,
        kv_cache_gib=SPARE_KV_GIB,
        overhead_gib=overhead,
        allowed_gib=share * card.total_gib,
        memory_gib=card.total_gib,
        free_gib=card.free_gib,
        context=wanted,
        uncertainty=load.uncertainty,
        max_num_seqs=min(serving.sequences, UNKNOWN_SEQUENCES),
    )
    made = replace(made, room_gib=max(0.0, made.allowed_gib - weights - overhead))
    cache = cache_of(network.groups, split.tensor, split.pipeline, _options(serving, split))
    return made if cache is None else _with_cache(made, cache, serving, context, wanted)


def _options(serving: Serving, split: Split) -> CacheOptions:
    batches = BATCHES_IN_FLIGHT if split.pipeline == 1 else split.pipeline + 1
    return CacheOptions(
        number_bytes=serving.number_bytes,
        in_flight=batches * serving.tokens,
        prefix_caching=serving.prefix_caching,
        windows=serving.windows,
        drafts=serving.drafts,
    )


UNLIMITED = 2**24
"""Tokens of the longest context if a model does not state its own."""


def _with_cache(made: MemorySum, cache: Cache, serving: Serving, context: int | None, wanted: int | None) -> MemorySum:
    room = made.room_gib * GIB
    longest = cache.longest(room, context or UNLIMITED)
    tokens = wanted if wanted is not None else longest
    blocks = cache.blocks(room)
    return replace(
        made,
        kv_cache_gib=cache.bytes_of(tokens) / GIB,
        context=tokens,
        longest=longest,
        max_num_seqs=sequences(cache, room, serving.sequences),
        kv_tokens=int(blocks / max(1, cache.blocks_of(longest)) * longest),
        state_blocks=blocks if cache.has_states else None,
        cache=cache,
    )


def sequences(cache: Cache, room_bytes: float, most: int) -> int:
    """Return `--max-num-seqs`: as many sequences of 2048 tokens as fit, at least 8 and at most `most`.

    A sequence with a state needs a block of its own, so three quarters of the blocks limit it too. Above 8 it is a
    multiple of 8, like the sizes of CUDA graphs.
    """
    fitting = max(LEAST_SEQUENCES, cache.requests(room_bytes, SEQUENCE_TOKENS))
    if cache.has_states:
        fitting = min(fitting, int(BLOCKS_KEPT * cache.blocks(room_bytes)))
    fitting = min(fitting, most)
    return max(1, fitting if fitting < LEAST_SEQUENCES else fitting // 8 * 8)
