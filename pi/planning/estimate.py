"""Estimate the memory of a model on a GPU: weights, KV cache, vLLM's own overhead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GIB = 1024**3

FIXED_OVERHEAD_GIB = 2.0
"""CUDA context, NCCL, CUDA graphs and activations of a small model on one GPU."""

OVERHEAD_PER_WEIGHTS = 0.04
"""Activations and graphs of larger models, as a part of the weights on a GPU."""

REPLICATED = 0.06
"""Part of a mixture of experts outside its experts; each data-parallel replica holds all of it."""

SPARE_KV_GIB = 1.0
"""KV cache on each GPU if a model's bytes per token are unknown."""


@dataclass(frozen=True)
class Attention:
    """Facts that determine the size of a model's KV cache.

    `layers` see the whole context, `window_layers` the last `window` tokens; linear attention and state spaces are in
    neither. Per token, a layer keeps `kv_heads` x (`head_dim` + `value_dim`) numbers. With compressed keys and values
    (MLA) it keeps `latent` numbers, on each tensor-parallel rank.
    """

    layers: int
    kv_heads: int = 0
    head_dim: int = 0
    value_dim: int | None = None
    latent: int = 0
    window_layers: int = 0
    window: int = 0

    def numbers_per_token(self, tensor: int = 1) -> int:
        """Return the numbers per token and layer on each of `tensor` GPUs."""
        if self.latent:
            return self.latent
        heads = -(-self.kv_heads // tensor)
        return heads * (self.head_dim + (self.head_dim if self.value_dim is None else self.value_dim))

    def bytes_per_token(self, tensor: int = 1, number_bytes: int = 2) -> int:
        """Return the KV cache of one token within the window, in bytes on each of `tensor` GPUs."""
        return (self.layers + self.window_layers) * self.numbers_per_token(tensor) * number_bytes

    def kv_bytes(self, tokens: int, tensor: int = 1, number_bytes: int = 2) -> int:
        """Return the KV cache of one sequence of `tokens`, in bytes on each of `tensor` GPUs."""
        per_layer = self.numbers_per_token(tensor) * number_bytes
        return per_layer * (self.layers * tokens + self.window_layers * min(tokens, self.window))

    def tokens_in(self, room_bytes: float, tensor: int = 1, number_bytes: int = 2) -> int:
        """Return the longest sequence whose KV cache fits into `room_bytes` on each of `tensor` GPUs."""
        per_layer = self.numbers_per_token(tensor) * number_bytes
        within = int(room_bytes / max(1, per_layer * (self.layers + self.window_layers)))
        if within <= self.window or not self.window_layers:
            return max(0, within)
        beyond = room_bytes - per_layer * self.window_layers * self.window
        return max(self.window, int(beyond / max(1, per_layer * self.layers)))


@dataclass(frozen=True)
class MemorySum:
    """Memory of each GPU of a plan, in GiB.

    `allowed_gib` is the model's share of `memory_gib`; `free_gib` is unused on the fullest GPU. `kv_cache_gib` is for
    one sequence of `context` tokens; the longest that fits is `longest`. Both are None if the model's bytes per token
    are unknown. The weights may differ by the part `uncertainty`.
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

    @property
    def needed_gib(self) -> float:
        return self.weights_gib + self.kv_cache_gib + self.overhead_gib

    @property
    def fits(self) -> bool:
        return self.needed_gib <= self.allowed_gib

    def render(self) -> str:
        """Return the sum in one line, such as "61.0 weights + 8.0 KV cache + 4.4 overhead = 73.4 of 71.7 GiB"."""
        kv = f"{self.kv_cache_gib:.1f} KV cache"
        if self.context:
            kv += f" for {self.context} tokens"
        within = f" (+-{self.uncertainty:.0%})" if self.uncertainty else ""
        return (
            f"{self.weights_gib:.1f} weights{within} + {kv} + {self.overhead_gib:.1f} overhead"
            f" = {self.needed_gib:.1f} of {self.allowed_gib:.1f} GiB on each GPU"
        )


@dataclass(frozen=True)
class Split:
    """Split of a model: tensor x pipeline x data = GPUs of all its pods."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: bool = False

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data


def weights_per_gpu_gib(weights_gb: float, split: Split) -> float:
    """Return the weights on the fullest GPU in GiB; `weights_gb` are all weights in 10^9 bytes."""
    whole = weights_gb * 1e9 / GIB
    if split.data == 1:
        return whole / (split.tensor * split.pipeline)
    replicated = REPLICATED if split.expert else 1.0
    ranks = split.tensor * split.pipeline
    return whole * (replicated / ranks + (1 - replicated) / (ranks * split.data))


def memory_sum(
    weights_gb: float,
    attention: Attention | None,
    split: Split,
    *,
    memory_gib: float,
    free_gib: float,
    share: float,
    context: int | None,
    wanted: int | None,
    number_bytes: int = 2,
    uncertainty: float = 0.0,
) -> MemorySum:
    """Return the sum for one GPU of `split`.

    `context` is the model's limit and `wanted` the user's, in tokens. Without `wanted`, the sum contains the longest
    context that fits.
    """
    weights = weights_per_gpu_gib(weights_gb, split)
    overhead = FIXED_OVERHEAD_GIB + OVERHEAD_PER_WEIGHTS * weights
    allowed = share * memory_gib
    if attention is None:
        return MemorySum(weights, SPARE_KV_GIB, overhead, allowed, memory_gib, free_gib, wanted, None, uncertainty)
    room_bytes = max(0.0, (allowed - weights - overhead) * GIB * split.pipeline)
    longest = attention.tokens_in(room_bytes, split.tensor, number_bytes)
    if context is not None:
        longest = min(longest, context)
    tokens = wanted if wanted is not None else longest
    kv_cache = attention.kv_bytes(tokens, split.tensor, number_bytes) / GIB / split.pipeline
    return MemorySum(weights, kv_cache, overhead, allowed, memory_gib, free_gib, tokens, longest, uncertainty)


def attention_of(config: Mapping[str, Any]) -> Attention | None:
    """Read the KV facts from a model's `config.json` or its `text_config`; return None if some are missing.

    Keys: num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim, kv_lora_rank,
    qk_rope_head_dim, sliding_window, layer_types.
    """
    text = config.get("text_config") or config
    layers, heads = _count(text, "num_hidden_layers"), _count(text, "num_attention_heads")
    if not layers or not heads:
        return None
    kinds = text.get("layer_types")
    kinds = kinds if isinstance(kinds, list) and len(kinds) == layers else ["full_attention"] * layers
    full = sum(kind in ("full_attention", "attention") for kind in kinds)
    windowed = sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds)
    window = _count(text, "sliding_window") or _count(text, "attention_chunk_size")
    if windowed and not window:
        full, windowed = full + windowed, 0
    latent = _count(text, "kv_lora_rank")
    if latent:
        return Attention(layers=full, latent=latent + _count(text, "qk_rope_head_dim"))
    head_dim = _count(text, "head_dim") or _count(text, "hidden_size") // heads
    if not head_dim:
        return None
    return Attention(
        layers=full,
        kv_heads=_count(text, "num_key_value_heads") or heads,
        head_dim=head_dim,
        window_layers=windowed,
        window=window if windowed else 0,
    )


def heads_of(config: Mapping[str, Any]) -> int | None:
    """Return the attention heads in `config.json`, or None. A tensor-parallel size must divide them."""
    return _count(config.get("text_config") or config, "num_attention_heads") or None


def context_of(config: Mapping[str, Any]) -> int | None:
    """Return the longest context in `config.json`, in tokens, or None."""
    return _count(config.get("text_config") or config, "max_position_embeddings") or None


def _count(table: Mapping[str, Any], key: str) -> int:
    value = table.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
