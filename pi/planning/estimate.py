"""The memory of a model on a GPU as vLLM divides it: weights, overhead, KV cache; context and sequences in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from pi.planning.cache import Cache, CacheOptions, cache_of
from pi.planning.cuda_memory import Card
from pi.planning.lora_slots import slots_gib
from pi.planning.network import Network
from pi.planning.overhead import GIB, terms
from pi.planning.serving import BATCHES_IN_FLIGHT, Serving
from pi.planning.split import Split
from pi.planning.stages import depth_of, ends_of

REPLICATED = 0.06
"""Part of the weights outside the experts if the network is unknown."""

BLOCK_NUMBERS = 5
"""Numbers of a decoder's block outside its experts, as multiples of the squared width: attention and shared experts
(DeepSeek-V3: 5.2; Qwen3-Coder-480B: 4.3)."""

SPARE_KV_GIB = 1.0
"""KV cache on each GPU if a model's bytes per token are unknown."""

UNKNOWN_SEQUENCES = 64
"""Sequences if a model's cache is unknown: it may have layers with a state."""

SEQUENCE_TOKENS = 2048
"""Tokens of a request among many; a server with less memory for each would pause requests."""

LEAST_SEQUENCES = 8

RISK = 0.034
"""Largest part of a GPU's memory by which a public log of a start has less room than this sum (vLLM 0.20 and newer)."""

BLOCKS_KEPT = 0.75
"""Part of the state's blocks that sequences may use: the memory for them is an estimate."""


@dataclass(frozen=True)
class MemorySum:
    """Memory of each GPU of a plan, in GiB.

    `weights_gib` includes the slots of LoRA adapters. `allowed_gib` is the model's share of `memory_gib`, CUDA's total;
    `free_gib` is unused on the fullest GPU. `kv_cache_gib` is for one sequence of `context` tokens, `room_gib` is what
    vLLM gives the `cache`; the longest sequence that fits is `longest`. `max_num_seqs` sequences run beside each other.
    Context, longest and cache are None if the model's bytes per token are unknown. The weights may differ by the part
    `uncertainty`.
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
    cache: Cache | None = None

    @property
    def needed_gib(self) -> float:
        return self.weights_gib + self.kv_cache_gib + self.overhead_gib

    @property
    def fits(self) -> bool:
        """Whether a request fits, and whether layers with a state have a block for each sequence."""
        return self.needed_gib <= self.allowed_gib and (self.state_blocks or UNLIMITED) >= self.max_num_seqs

    @property
    def kv_tokens(self) -> int | None:
        """The cache's size in tokens of the longest sequences, as vLLM logs it; None if unknown."""
        if self.cache is None or not self.longest:
            return None
        return int(self.cache.blocks(self.room_gib * GIB) / max(1, self.cache.blocks_of(self.longest)) * self.longest)

    @property
    def state_blocks(self) -> int | None:
        """The cache's blocks if layers have a state; `--max-num-seqs` may not exceed them."""
        return self.cache.blocks(self.room_gib * GIB) if self.cache and self.cache.has_states else None

    def certain(self, tokens: int) -> int:
        """Return the longest request up to `tokens` that fits even if the sum is too bold; 0 if none does."""
        room = max(0.0, self.room_gib - RISK * self.memory_gib)
        return self.cache.longest(room * GIB, tokens) if self.cache else tokens

    def sure(self) -> MemorySum:
        """Return the sum with the certain context: vLLM does not shorten one that is passed as a number."""
        tokens = self.certain(self.longest or 0)
        if not tokens or self.cache is None:
            return self
        return replace(self, longest=tokens, context=tokens, kv_cache_gib=self.cache.bytes_of(tokens) / GIB)

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

    `vision_gib` is the profile of its vision tower in GiB if it is known. `replicated` is the part of the weights that
    each data-parallel replica holds if the experts are spread. `parameters_b` are all parameters, in billions.
    """

    weights_gb: float
    network: Network
    draft_gb: float = 0.0
    vision_gib: float | None = None
    uncertainty: float = 0.0
    replicated: float = REPLICATED
    parameters_b: float = 0.0


PADDED = 256
"""vLLM's kernels for MXFP4 experts pad the width of a token to a multiple of this
(`mxfp4_round_up_hidden_size_and_intermediate_size`): gpt-oss has 2880, so its experts grow by 1/15."""


def loaded_gb(weights_gb: float, precision: str | None, network: Network) -> float:
    """Return the weights in memory in 10^9 bytes; those of the files may be padded."""
    if precision != "mxfp4" or not network.experts:
        return weights_gb
    growth = -(-network.hidden // PADDED) * PADDED / network.hidden - 1
    return weights_gb * (1 + growth * (1 - replicated_part(weights_gb, precision, network)))


def replicated_part(weights_gb: float, precision: str | None, network: Network) -> float:
    """Return the part of the weights outside the experts: blocks in 8 bit if the experts are, and word vectors."""
    layers = network.depth or network.layers
    if not layers or not weights_gb:
        return REPLICATED
    block_bytes = BLOCK_NUMBERS * network.hidden**2 * (1 if precision in ("fp8", "mxfp8") else 2)
    return min(1.0, (layers * block_bytes + 2 * network.vocabulary * network.hidden * 2) / (weights_gb * 1e9))


def weights_per_gpu_gib(
    weights_gb: float, split: Split, replicated: float = REPLICATED, network: Network | None = None
) -> float:
    """Return the weights on the fullest GPU in GiB; `weights_gb` are all weights in 10^9 bytes.

    Each data-parallel replica holds the part `replicated` of them if the experts are spread, else all. Pipeline stages
    are equal if the network is unknown.
    """
    whole = weights_gb * 1e9 / GIB * _fullest_stage(weights_gb, split.pipeline, network)
    if split.data == 1:
        return whole / split.tensor
    replicated = replicated if split.expert else 1.0
    return whole / split.tensor * (replicated + (1 - replicated) / split.data)


def _fullest_stage(weights_gb: float, stages: int, network: Network | None) -> float:
    """Return the largest part of the weights in a pipeline stage; the first and the last have word vectors, too."""
    if stages == 1 or not weights_gb or network is None or not network.groups:
        return 1 / stages
    depth = network.depth or depth_of(network.groups)
    words = min(0.25, network.vocabulary * network.hidden * 2 / (weights_gb * 1e9))
    ends = ends_of(depth, stages)
    parts = [(after - before) / depth * (1 - 2 * words) for before, after in pairwise([0, *ends])]
    parts[0] += words
    parts[-1] += words
    return max(parts)


def memory_sum(
    load: Load, split: Split, card: Card, serving: Serving, *, share: float, context: int | None, wanted: int | None
) -> MemorySum:
    """Return the sum for one GPU of `split`.

    `context` is the model's limit and `wanted` the user's, in tokens. Without `wanted`, the sum contains the longest
    context that fits. Fewer sequences than `serving` allows need less memory, which the sum then contains.
    """
    cache = cache_of(
        load.network.groups,
        split.tensor,
        split.pipeline,
        _options(serving, split, card.checkpoints),
        load.network.depth,
    )
    weights = _weights_gib(load, split) + slots_gib(load.network, load.parameters_b, split, serving)
    allowed = share * card.total_gib
    shortest = wanted or min(context or UNLIMITED, 2 * SEQUENCE_TOKENS)
    room, overhead, count = _room(load, split, card, serving, allowed - weights, cache, shortest)
    longest = cache.longest(room * GIB, context or UNLIMITED) if cache else None
    tokens = wanted if wanted is not None else longest
    return MemorySum(
        weights_gib=weights,
        kv_cache_gib=cache.bytes_of(tokens or 0) / GIB if cache else SPARE_KV_GIB,
        overhead_gib=overhead,
        allowed_gib=allowed,
        memory_gib=card.total_gib,
        free_gib=card.free_gib,
        context=tokens,
        longest=longest,
        uncertainty=load.uncertainty,
        room_gib=room,
        max_num_seqs=count,
        cache=cache,
    )


def _weights_gib(load: Load, split: Split) -> float:
    """Return the weights and the drafter's on the fullest GPU in GiB."""
    draft = load.draft_gb * 1e9 / GIB / (split.tensor * split.pipeline)
    return weights_per_gpu_gib(load.weights_gb, split, load.replicated, load.network) + draft


def _room(
    load: Load, split: Split, card: Card, serving: Serving, free_gib: float, cache: Cache | None, tokens: int
) -> tuple[float, float, int]:
    """Return the room for the KV cache and the overhead in GiB, and the sequences that both allow, or the user's.

    There are at most `LEAST_SEQUENCES` if the room for more would not hold one request of `tokens`.
    """
    count = serving.sequences
    while True:
        overhead = terms(load.network, split, card, serving, count, load.vision_gib).gib()
        room = max(0.0, free_gib - overhead)
        if serving.fixed:
            return room, overhead, count
        fitting = sequences(cache, room * GIB, count) if cache else min(count, UNKNOWN_SEQUENCES)
        enough = cache is None or count <= LEAST_SEQUENCES or cache.bytes_of(tokens) <= room * GIB
        if free_gib <= 0 or (fitting == count and enough):
            return room, overhead, fitting
        count = count // 2 if fitting == count else max(fitting, count // 2)


@lru_cache(maxsize=256)
def _options(serving: Serving, split: Split, checkpoints: bool) -> CacheOptions:
    batches = BATCHES_IN_FLIGHT if split.pipeline == 1 else split.pipeline + 1
    return CacheOptions(
        number_bytes=serving.number_bytes,
        in_flight=batches * serving.tokens,
        prefix_caching=serving.prefix_caching,
        windows=serving.windows,
        drafts=serving.drafts,
        checkpoints=checkpoints,
    )


UNLIMITED = 2**24
"""Tokens of the longest context if a model does not state its own."""


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
