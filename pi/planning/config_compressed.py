"""Layers of DeepSeek-V4 and V4.1: a window of tokens, and entries that several tokens share."""

from __future__ import annotations

from pi.planning.config_fields import Table, count, entries, positions, section
from pi.planning.network import Layers

ENTRY_BYTES = 584
"""Cache entry on Hopper: 448 FP8 and 64 BF16 numbers, 8 bytes of scales; V4.1 on Blackwell has 528 bytes.

Source: `get_kv_cache_spec` in `vllm/models/deepseek_v4/attention.py` and `deepseek_v41/attention.py`.
"""

COMPRESSOR_WINDOWS = {4: 8, 128: 128}
"""Tokens whose numbers a compressor keeps, by its ratio (`vllm/models/deepseek_v4/compressor.py`)."""


def compressed_layers(text: Table, depth: int) -> list[tuple[int, Layers]]:
    """Return the caches of all `depth` blocks with their block, or an empty list for another architecture."""
    dim, window = count(text, "head_dim"), count(text, "sliding_window")
    ratios = _ratios(text, depth)
    if not (ratios and dim and window):
        return []
    plain = Layers("window", 1, kv_heads=1, key_dim=ENTRY_BYTES, window=window, number_bytes=1)
    layers = [(block, plain) for block in range(depth)]
    sources = positions(text, "kv_source_layer_ids")
    for index, ratio in enumerate(ratios):
        if sources:
            layers += [(index, _entries(text, max(1, ratio)))] if index in sources else []
        elif ratio in COMPRESSOR_WINDOWS:
            layers += [(index, cache) for cache in _with_compressor(text, ratio, dim)]
    return layers


def index_entry_bytes(dim: int) -> int:
    """Return the bytes of an index key with `dim` dimensions.

    It has an FP8 number for each dimension and an FP32 scale for each 128.
    """
    return dim + dim // 128 * 4


def _ratios(text: Table, depth: int) -> list[int]:
    """Return the tokens for each entry by layer, 0 for a window only.

    The lists in the file may contain the layers of a draft head too.
    """
    ratios = entries(text, "compress_ratios")
    if not ratios and (rates := section(text, "compress_rates")):
        ratios = [rates.get(name, 0) if isinstance(name, str) else 0 for name in entries(text, "layer_types")]
    usable = [count({"ratio": ratio}, "ratio") for ratio in ratios[:depth]]
    return usable if depth and len(usable) == depth else []


def _entries(text: Table, ratio: int) -> Layers:
    """Return the entries that `ratio` tokens share, with an index key."""
    index = index_entry_bytes(count(text, "index_head_dim"))
    return Layers("latent", 1, latent=ENTRY_BYTES, number_bytes=1, index_bytes=index, ratio=ratio)


def _with_compressor(text: Table, ratio: int, dim: int) -> list[Layers]:
    """Return the entries and compressors of a V4 layer.

    Only layers with four tokens for each entry have an indexer.
    """
    if ratio != 4:
        entry = Layers("latent", 1, latent=ENTRY_BYTES, number_bytes=1, ratio=ratio)
        return [entry, _compressor(dim, ratio)]
    return [_entries(text, ratio), _compressor(dim, ratio), _compressor(count(text, "index_head_dim"), ratio)]


def _compressor(dim: int, ratio: int) -> Layers:
    """Return the cache of a compressor.

    It has FP32 numbers and scores of the tokens that are not compressed yet.
    """
    overlap = 2 if ratio == 4 else 1
    return Layers("window", 1, kv_heads=1, key_dim=2 * overlap * dim, window=COMPRESSOR_WINDOWS[ratio], number_bytes=4)
