"""vLLM's KV cache: the blocks that a network's layers need, and the tokens and sequences in some memory.

vLLM 0.33.0: `v1/core/kv_cache_planning.py` (groups, blocks), `v1/kv_cache_interface.py` (pages, blocks of a request),
`platforms/interface.py` `_align_hybrid_block_size` (pages of layers with a state).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from pi.planning.network import Layers
from pi.planning.stages import counts_of, depth_of, ends_of, places_of

BLOCK = 16
"""Tokens in a block of attention's cache (`CacheConfig.DEFAULT_BLOCK_SIZE`)."""

STATE_ALIGNMENT = 64
"""Tokens that a block is a multiple of if layers have a state: FlashInfer's GDN kernel, which Hopper and Blackwell use
(`FLASHINFER_GDN_CHECKPOINT_ALIGNMENT` of vLLM 0.33). Other GPUs and layers need 16."""

LATENT_ALIGNMENT = 128
"""The same for compressed keys and values (`_align_hybrid_block_size`)."""

STATES_CACHED, STATES_ALONE = 2, 1
"""States that a sequence keeps in each group with and without prefix caching: the current one and the last one; and a
checkpoint if the kernel makes them (`MambaSpec.max_memory_usage_bytes`, mode "align")."""


@dataclass(frozen=True)
class CacheOptions:
    """Arguments of vLLM that change the cache.

    `in_flight` tokens are scheduled but not yet settled; `drafts` is the number of speculative tokens. Without the
    hybrid manager (`windows` False), layers with a window keep all tokens. `checkpoints` means that this GPU's kernels
    of linear attention keep one; those of Mamba-2 always do.
    """

    number_bytes: int = 2
    in_flight: int = 0
    prefix_caching: bool = True
    windows: bool = True
    drafts: int = 0
    checkpoints: bool = True


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
        if self.blocks_of(1) > usable:
            return 0
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
def cache_of(
    layers: tuple[Layers, ...], tensor: int, pipeline: int, options: CacheOptions, depth: int = 0
) -> Cache | None:
    """Return the cache of these layers on each of tensor x pipeline GPUs, or None for a network without a cache.

    The network has `depth` blocks (0: one for each layer). The pipeline stage with the largest block decides.
    """
    layers = tuple(group for group in layers if group.count)
    if not layers:
        return None
    depth = depth or depth_of(layers)
    places = places_of(layers, depth) if pipeline > 1 else [range(group.count) for group in layers]
    buckets = [_bucket(group, place, tensor, options) for group, place in zip(layers, places, strict=True)]
    ends = ends_of(depth, pipeline)
    if any(bucket.layers.cache == "state" for bucket in buckets):
        return _with_states(buckets, ends, tensor, options)
    windows = [bucket for bucket in buckets if bucket.window]
    if not windows:
        return _one_group(buckets, ends)
    if any(bucket.layers.ratio > 1 for bucket in buckets):
        return _packed(layers, places, ends, options)
    return _grouped(_merged(buckets), ends, options.in_flight)


@dataclass(frozen=True)
class _Bucket:
    """Alike layers: the blocks of the decoder that have them, the bytes of their page of `BLOCK` tokens, their window
    (0: none)."""

    layers: Layers
    places: Sequence[int]
    page: int
    window: int = 0

    def groups(self, size: int) -> list[Sequence[int]]:
        """Return the blocks of each of the groups with at most `size` layers that vLLM makes of them."""
        number = -(-len(self.places) // size)
        return [self.places[index::number] for index in range(number)]


def _bucket(group: Layers, places: Sequence[int], tensor: int, options: CacheOptions) -> _Bucket:
    page = int(token_bytes(group, tensor, options.number_bytes) * BLOCK)
    return _Bucket(group, places, max(1, page), _window(group, options))


def _window(group: Layers, options: CacheOptions) -> int:
    """Return the window that limits a layer's cache, in tokens, or 0."""
    return max(2, group.window) if group.cache == "window" and options.windows else 0


def _merged(buckets: Iterable[_Bucket]) -> list[_Bucket]:
    """Put layers with pages and windows of the same size into one bucket: such as a draft head and the full layers."""
    merged: dict[tuple[int, int], _Bucket] = {}
    for bucket in buckets:
        same = merged.get((bucket.page, bucket.window))
        both = replace(same, places=sorted([*same.places, *bucket.places])) if same else bucket
        merged[bucket.page, bucket.window] = both
    return list(merged.values())


def token_bytes(group: Layers, tensor: int, number_bytes: int) -> float:
    """Return the bytes of a token in one layer, on each of `tensor` GPUs; each GPU has at least one head."""
    numbers = group.latent or -(-group.kv_heads // tensor) * (group.key_dim + group.value_dim)
    return (numbers * (group.number_bytes or number_bytes) + group.index_bytes) / group.ratio


def _one_group(buckets: Sequence[_Bucket], ends: Sequence[int]) -> Cache:
    """All layers keep all tokens: one group, whose block holds the pages of all its layers."""
    return Cache(_fullest([(bucket.page, bucket.places) for bucket in buckets], ends), (_Share(1, BLOCK),))


def _fullest(pages: Sequence[tuple[int, Sequence[int]]], ends: Sequence[int]) -> int:
    """Return the bytes that a block of one group has on the stage where they are most."""
    counts = [counts_of(places, ends) for _, places in pages]
    return max(sum(pages[row][0] * counts[row][stage] for row in range(len(pages))) for stage in range(len(ends)))


def _grouped(buckets: Sequence[_Bucket], ends: Sequence[int], in_flight: int) -> Cache:
    """Pages get one size: smaller ones hold more tokens, or are padded. Layers form groups of one size."""
    largest = max(bucket.page for bucket in buckets)
    size = _group_size([len(bucket.places) for bucket in buckets])
    shares = tuple(
        _Share(
            -(-len(bucket.places) // size),
            BLOCK * (largest // bucket.page if largest % bucket.page == 0 else 1),
            bucket.window,
            in_flight,
        )
        for bucket in buckets
    )
    groups = [group for bucket in buckets for group in bucket.groups(size)]
    return Cache(max(_fullest([(largest, group)], ends) for group in groups), shares)


def _group_size(counts: Sequence[int]) -> int:
    """Return the layers of each group (`_get_kv_cache_groups_uniform_page_size`)."""
    return max(counts) if max(counts) < 1.5 * min(counts) else min(counts)


def _with_states(buckets: Sequence[_Bucket], ends: Sequence[int], tensor: int, options: CacheOptions) -> Cache:
    """A page of attention is at least as large as a state, which is padded to it."""
    attention = [bucket for bucket in buckets if bucket.layers.cache != "state"]
    states = [bucket for bucket in buckets if bucket.layers.cache == "state"]
    state = max((bucket.layers.conv_bytes + bucket.layers.state_bytes) // tensor for bucket in states)
    mamba2 = any(bucket.layers.mamba2 for bucket in states)
    cached = STATES_CACHED + (options.checkpoints or mamba2)
    per_sequence = (cached if options.prefix_caching else STATES_ALONE) + options.drafts
    together = sorted(place for bucket in states for place in bucket.places)
    if not attention:
        return Cache(max(1, _fullest([(state, together)], ends)), (), per_sequence, has_states=True)
    token = max(token_bytes(bucket.layers, tensor, options.number_bytes) for bucket in attention)
    aligned = options.prefix_caching and options.checkpoints and not mamba2
    step = STATE_ALIGNMENT if aligned else BLOCK
    step = LATENT_ALIGNMENT if any(bucket.layers.latent for bucket in attention) else step
    block = step * max(1, -(-state // int(step * token)))
    all_states = replace(states[0], places=together)
    attention = _merged(attention)
    size = _group_size([len(bucket.places) for bucket in (*attention, all_states)])
    shares = tuple(_Share(len(bucket.groups(size)), block, bucket.window, options.in_flight) for bucket in attention)
    groups = [group for bucket in (*attention, all_states) for group in bucket.groups(size)]
    page = int(block * token)
    fixed = len(all_states.groups(size)) * per_sequence
    return Cache(max(_fullest([(page, group)], ends) for group in groups), shares, fixed, has_states=True)


PACKED_BLOCK, PACKED_WINDOW, PACKED_PAGE = 256, 64, 576
"""Tokens of a block if pages of different sizes share it, and of a window's part; the bytes that a page is a multiple
of (DeepSeek-V4 on vLLM 0.32)."""

COMPRESSOR_BLOCKS = {8: 4, 128: 8}
"""Tokens of a compressor's block by its window (`vllm/models/deepseek_v4/compressor.py`)."""


def _packed(
    layers: Sequence[Layers], places: Sequence[Sequence[int]], ends: Sequence[int], options: CacheOptions
) -> Cache:
    """Pages of different sizes lie side by side in a block (DeepSeek-V4; `_get_packed_kv_cache_groups`).

    Layers with blocks of the same tokens and the same window are in one bucket. A bucket with the same number of each
    of its pages is a pattern, and is split into groups of about equal length.
    """
    buckets: dict[tuple[int, int], dict[int, list[int]]] = {}
    for group, place in zip(layers, places, strict=True):
        window = _window(group, options)
        tokens = _packed_tokens(group, window)
        pages = buckets.setdefault((tokens, window), {})
        for number in (group.index_bytes, token_bytes(replace(group, index_bytes=0, ratio=1), 1, 1)):
            if number:
                page = -(-int(number * -(-tokens // group.ratio)) // PACKED_PAGE) * PACKED_PAGE
                pages[page] = sorted([*pages.get(page, ()), *place])
    patterns = [pages for pages in buckets.values() if len({len(each) for each in pages.values()}) == 1]
    least = max((len(each) for pages in patterns if len(pages) > 1 for each in pages.values()), default=0)
    repeats = _least_padding([max(map(len, pages.values())) for pages in patterns], least) if least else 0
    shares, size = [], 1
    for (tokens, window), pages in buckets.items():
        number = -(-max(map(len, pages.values())) // repeats) if repeats and pages in patterns else 1
        shares.append(_Share(number, tokens, window, options.in_flight))
        parts = ([(page, each[index::number]) for page, each in pages.items()] for index in range(number))
        size = max(size, *(_fullest(part, ends) for part in parts))
    return Cache(size, tuple(shares))


def _packed_tokens(group: Layers, window: int) -> int:
    """Return the tokens of a layer's part of a block."""
    if not window:
        return PACKED_BLOCK
    return COMPRESSOR_BLOCKS.get(group.window, PACKED_WINDOW) if group.number_bytes == 4 else PACKED_WINDOW


def _least_padding(counts: Sequence[int], least: int) -> int:
    """Return the length of groups of at least `least` layers with the fewest layers missing (`_approximate_gcd`)."""
    return min(range(least, max(counts) + 1), key=lambda size: (sum(-count % size for count in counts), -size))
