"""vLLM's KV cache: the blocks that a network's layers need, and the tokens and sequences in some memory.

vLLM 0.33.0: `v1/core/kv_cache_planning.py` (groups, blocks), `v1/kv_cache_interface.py` (pages, blocks of a request),
`platforms/interface.py` `_align_hybrid_block_size` (pages of layers with a state).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from pi.planning.network import Layers

BLOCK = 16
"""Tokens in a block of attention's cache (`CacheConfig.DEFAULT_BLOCK_SIZE`)."""

STATE_ALIGNMENT = 64
"""Tokens that a block is a multiple of if layers have a state: FlashInfer's GDN kernel, which Hopper and Blackwell use
(`FLASHINFER_GDN_CHECKPOINT_ALIGNMENT`). Other GPUs need 16, so their blocks are up to 6 % smaller."""

LATENT_ALIGNMENT = 128
"""The same for compressed keys and values (`_align_hybrid_block_size`)."""

STATES_CACHED, STATES_ALONE = 3, 1
"""States that a sequence keeps in each group with and without prefix caching: the current one, the last one and a
checkpoint (`MambaSpec.max_memory_usage_bytes`, mode "align")."""


@dataclass(frozen=True)
class CacheOptions:
    """Arguments of vLLM that change the cache.

    `in_flight` tokens are scheduled but not yet settled; `drafts` is the number of speculative tokens. Without the
    hybrid manager (`windows` False), layers with a window keep all tokens.
    """

    number_bytes: int = 2
    in_flight: int = 0
    prefix_caching: bool = True
    windows: bool = True
    drafts: int = 0


@dataclass(frozen=True)
class _Share:
    """Blocks of one kind in a request: `groups` x tokens / `block`; a window counts its tokens and those in flight."""

    groups: int
    block: int
    window: int = 0
    in_flight: int = 0

    def blocks(self, tokens: int, in_flight: bool = True) -> int:
        if not self.window:
            return self.groups * -(-tokens // self.block)
        kept = self.window - 1 + (self.in_flight if in_flight else 0)
        return self.groups * (-(-min(tokens, kept) // self.block) + 1)


@dataclass(frozen=True)
class Cache:
    """The KV cache of a network on one GPU: a pool of equal blocks of `block_bytes`.

    A request takes the blocks of all `shares`, and `fixed` ones at any length: its states.
    """

    block_bytes: int
    shares: tuple[_Share, ...]
    fixed: int = 0
    has_states: bool = False

    def blocks(self, room_bytes: float) -> int:
        """Return the blocks in some memory. With states, `--max-num-seqs` may not exceed them
        (`config/compilation.py`)."""
        return max(0, int(room_bytes // self.block_bytes))

    def blocks_of(self, tokens: int) -> int:
        """Return the blocks of one request of `tokens`."""
        return self.fixed + sum(share.blocks(tokens) for share in self.shares)

    def bytes_of(self, tokens: int) -> int:
        """Return the memory of one request of `tokens`, with the block that vLLM keeps empty."""
        return (self.blocks_of(tokens) + 1) * self.block_bytes

    def longest(self, room_bytes: float, limit: int) -> int:
        """Return the longest request of at most `limit` tokens that fits, in tokens; 0 if none does."""
        usable = self.blocks(room_bytes) - 1
        if self.blocks_of(limit) <= usable:
            return limit
        least, most = 0, limit
        while least + 1 < most:
            middle = (least + most) // 2
            if self.blocks_of(middle) <= usable:
                least = middle
            else:
                most = middle
        return least

    def requests(self, room_bytes: float, tokens: int) -> int:
        """Return how many requests of `tokens` fit beside each other; they share the tokens in flight."""
        each = self.fixed + sum(share.blocks(tokens, in_flight=False) for share in self.shares)
        shared = self.blocks_of(tokens) - each
        return max(0, self.blocks(room_bytes) - 1 - shared) // max(1, each)


@lru_cache(maxsize=4096)
def cache_of(layers: tuple[Layers, ...], tensor: int, pipeline: int, options: CacheOptions) -> Cache | None:
    """Return the cache of these layers on each of tensor x pipeline GPUs, or None for a network without a cache."""
    layers = tuple(group for group in layers if group.count)
    if not layers:
        return None
    states = [group for group in layers if group.cache == "state"]
    attention = [group for group in layers if group.cache != "state"]
    if states:
        return _with_states(states, attention, tensor, pipeline, options)
    windows = [group for group in attention if group.cache == "window" and options.windows]
    if not windows:
        return _one_group(attention, tensor, pipeline, options)
    if len(windows) < len(attention) and any(group.cache == "latent" or group.ratio > 1 for group in attention):
        return _packed(windows, attention, tensor, pipeline, options)
    return _grouped([_bucket(group, tensor, options) for group in attention], pipeline, options.in_flight)


def token_bytes(group: Layers, tensor: int, number_bytes: int) -> float:
    """Return the bytes of a token in one layer, on each of `tensor` GPUs; each GPU has at least one head."""
    numbers = group.latent or -(-group.kv_heads // tensor) * (group.key_dim + group.value_dim)
    return (numbers * (group.number_bytes or number_bytes) + group.index_bytes) / group.ratio


def _one_group(attention: Iterable[Layers], tensor: int, pipeline: int, options: CacheOptions) -> Cache:
    """All layers keep all tokens: one group, whose block holds the pages of all its layers."""
    size = sum(-(-group.count // pipeline) * token_bytes(group, tensor, options.number_bytes) for group in attention)
    return Cache(max(1, int(size * BLOCK)), (_Share(1, BLOCK),))


PACKED_BLOCK, PACKED_WINDOW = 256, 64
"""Tokens of a block if pages of different sizes share it, and of a window's part (DeepSeek-V4 on vLLM 0.32)."""


def _packed(windows: list[Layers], attention: list[Layers], tensor: int, pipeline: int, options: CacheOptions) -> Cache:
    """Pages of different sizes lie side by side (DeepSeek-V4), but a window takes whole blocks for its tokens.

    The windows of the attention are in as many groups as there are kinds of compressed layers. Those of the
    compressors, in 32 bit, take a block for each 4 tokens (window 8) or 8 tokens.
    """
    compressed = [group for group in attention if group not in windows]
    whole = _one_group(compressed, tensor, pipeline, options)
    shares = {_Share(1, PACKED_BLOCK): None}
    for group in windows:
        is_compressor = group.number_bytes == 4
        tokens = (4 if group.window <= 8 else 8) if is_compressor else PACKED_WINDOW
        groups = 1 if is_compressor else len(compressed)
        shares[_Share(groups, tokens, max(2, group.window), options.in_flight)] = None
    return Cache(whole.block_bytes * PACKED_BLOCK // BLOCK, tuple(shares))


@dataclass(frozen=True)
class _Bucket:
    """Layers of one kind: their number, the bytes of their page of `BLOCK` tokens, their window (0: none)."""

    count: int
    page: int
    window: int = 0


def _bucket(group: Layers, tensor: int, options: CacheOptions) -> _Bucket:
    page = int(token_bytes(group, tensor, options.number_bytes) * BLOCK)
    return _Bucket(group.count, max(1, page), _window(group, options))


def _window(group: Layers, options: CacheOptions) -> int:
    """Return the window that limits a layer's cache, in tokens, or 0."""
    return max(2, group.window) if group.cache == "window" and options.windows else 0


def _grouped(buckets: list[_Bucket], pipeline: int, in_flight: int) -> Cache:
    """Pages get one size: smaller ones hold more tokens, or are padded. Layers form groups of one size."""
    largest = max(bucket.page for bucket in buckets)
    size = _group_size([bucket.count for bucket in buckets])
    shares = tuple(
        _Share(
            -(-bucket.count // size),
            BLOCK * (largest // bucket.page if largest % bucket.page == 0 else 1),
            bucket.window,
            in_flight,
        )
        for bucket in buckets
    )
    return Cache(-(-size // pipeline) * largest, shares)


def _group_size(counts: list[int]) -> int:
    """Return the layers of each group (`_get_kv_cache_groups_uniform_page_size`)."""
    return max(counts) if max(counts) < 1.5 * min(counts) else min(counts)


def _with_states(
    states: list[Layers], attention: list[Layers], tensor: int, pipeline: int, options: CacheOptions
) -> Cache:
    """A page of attention is at least as large as a state, which is padded to it."""
    state = max((group.conv_bytes + group.state_bytes) // tensor for group in states)
    per_sequence = (STATES_CACHED if options.prefix_caching else STATES_ALONE) + options.drafts
    if not attention:
        count = sum(group.count for group in states)
        return Cache(max(1, -(-count // pipeline) * state), (), per_sequence, has_states=True)
    token = max(token_bytes(group, tensor, options.number_bytes) for group in attention)
    block = _aligned(state, token, any(group.latent for group in attention), options)
    counts = [group.count for group in attention] + [sum(group.count for group in states)]
    size = _group_size(counts)
    shares = tuple(
        _Share(-(-group.count // size), block, _window(group, options), options.in_flight) for group in attention
    )
    fixed = -(-counts[-1] // size) * per_sequence
    return Cache(-(-size // pipeline) * int(block * token), shares, fixed, has_states=True)


def _aligned(state: int, token: float, latent: bool, options: CacheOptions) -> int:
    """Return the tokens of the smallest allowed block whose page holds a state."""
    step = LATENT_ALIGNMENT if latent else STATE_ALIGNMENT if options.prefix_caching else BLOCK
    return step * max(1, -(-state // int(step * token)))
