"""Facts about a model's network that determine its memory: groups of alike layers, sizes, number format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

Cache = Literal["full", "window", "latent", "state"]
"""What a layer keeps: keys and values of all tokens, or of the last ones; compressed keys and values (MLA); or a state
of fixed size for each sequence (Mamba, linear attention)."""


@dataclass(frozen=True)
class Layers:
    """`count` alike layers. Sizes are those of the whole layer, before a split over GPUs.

    "full" and "window" layers keep `kv_heads` x (`key_dim` + `value_dim`) numbers for each token; a window is in
    tokens. "latent" layers keep `latent` numbers for each entry, on each tensor-parallel rank. `index_bytes` are those
    of a sparse-attention indexer, for each entry and on each rank. `ratio` is the number of tokens that share an entry
    (1: none). "state" layers keep `conv_bytes` + `state_bytes` for each sequence and split by `kv_heads` (0: not
    known); those of Mamba-2 (`mamba2`) keep a checkpoint, too. `number_bytes` is the size of a number if the cache has
    a fixed format; 0 means that of the KV cache. `at` are the decoder's blocks with this cache, from 0 on; empty if
    they are at even distances.
    """

    cache: Cache
    count: int
    kv_heads: int = 0
    key_dim: int = 0
    value_dim: int = 0
    window: int = 0
    latent: int = 0
    index_bytes: int = 0
    ratio: int = 1
    number_bytes: int = 0
    conv_bytes: int = 0
    state_bytes: int = 0
    mamba2: bool = False
    at: tuple[int, ...] = ()

    def splits_over(self, tensor: int) -> bool:
        """Return whether vLLM can split a layer over `tensor` GPUs.

        Several GPUs may keep the same head of keys and values, but not the same head of a state.
        """
        if self.cache == "latent" or not self.kv_heads or self.kv_heads % tensor == 0:
            return True
        return self.cache != "state" and tensor % self.kv_heads == 0


@dataclass(frozen=True)
class Network:
    """A model's network, as its `config.json` describes it.

    A tensor-parallel size must divide `heads` (0: no attention). `hidden` is the width of a token, `context` the
    longest context in tokens (None: not stated). `precision` is the number format of the weights, such as "bf16",
    "fp8", "int4". `multimodal` means that vLLM profiles a vision or audio tower. `depth` counts the decoder's blocks:
    a block may have several caches or none. `draft_layers` counts the layers of a draft head in the checkpoint (MTP).
    """

    groups: tuple[Layers, ...]
    heads: int
    hidden: int
    vocabulary: int = 0
    intermediate: int = 0
    experts: int = 0
    context: int | None = None
    precision: str | None = None
    multimodal: bool = False
    depth: int = 0
    draft_layers: int = 0

    def splits_over(self, tensor: int) -> bool:
        """Return whether `tensor` GPUs can share the heads of all layers."""
        return self.heads % tensor == 0 and all(group.splits_over(tensor) for group in self.groups)

    @property
    def layers(self) -> int:
        """Count the caches of all groups."""
        return sum(group.count for group in self.groups)


BEHIND = 2**20
"""Place of a draft head: behind all blocks of the decoder."""


@lru_cache(maxsize=256)
def with_head(network: Network) -> Network:
    """Return a network with its draft head (MTP), whose layer keeps the keys and values of all tokens, too."""
    whole = next((group for group in network.groups if group.cache in ("full", "latent")), None)
    if whole is None:
        return network
    return replace(network, groups=(*network.groups, replace(whole, count=1, at=(BEHIND,))))


USUAL_VOCABULARY = 152000
"""Words of a model that does not state its own: Qwen's, more than most."""


def usual_hidden(parameters_b: float, experts: bool) -> int:
    """Return the width of a token in models of this size, from the widths of known models.

    Dense: 4096 numbers at 8 billion parameters (32B: 5120, 70B: 8192). Experts: 2048 at 30 (235B: 4096, 671B: 7168).
    """
    return int(2048 * (parameters_b / 30) ** 0.4) if experts else int(4096 * (parameters_b / 8) ** 0.3)
