"""Memory of vLLM on a GPU besides weights and KV cache: CUDA and NCCL, activations, CUDA graphs.

vLLM 0.33.0 gives the KV cache the share of the GPU minus "weights + non-torch" minus "peak activation", which includes
the estimate of the graphs (`v1/worker/gpu_worker.py` `determine_available_memory`). The peak is the largest phase of a
profile run, because each phase frees its memory: a full step, the vision tower, the sampler, or the compilation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log2

from pi.planning.cuda_memory import Card
from pi.planning.network import Network
from pi.planning.serving import Serving
from pi.planning.split import Split

GIB = 1024**3

DENSE_REPLICATED, DENSE_SPLIT = 10, 20
"""Bytes of a step for each token and each number of `hidden`: norms and residuals, then the MLP (3.5 x hidden, gate and
up and product, 16 bit), which tensor parallelism splits."""

EXPERTS = 75
"""The same for a mixture of experts, whose tokens are copied for each of their experts (8 on average); not split,
because each GPU holds all copies. Logs: 77 (Qwen3.6-35B, 4096 and 16384 tokens), 72 (Gemma-4-26B), 67 (GLM-5.2)."""

STATE_PART = 12 / 512
"""Bytes of a step for each token and each byte of a state: a layer with a state keeps three copies in 32 bit of its
values. A row of the state's matrix has 128 of them (128 x 4 bytes)."""

SAMPLER, SORTING_SAMPLER = 10, 32
"""Bytes of the sampler for each sequence and word of the vocabulary: 16-bit logits, two copies in 32 bit. Without
FlashInfer's sampler, PyTorch sorts them: values, 64-bit indices, sums and masks (`topk_topp_sampler.py`)."""

VISION_GIB = 2.0
"""Profile of a vision tower with its largest image: 16384 tokens of 4 patches with 1152 numbers, 14 copies in 16 bit
(Qwen3-VL, Qwen3.5 to 3.8; a log of Qwen3.5-4B shows 1.9)."""

GRAPH_SMALL, GRAPH_STATE, GRAPH_LATENT = 1, 2, 4
"""Relative size of a layer's CUDA graph: dense; with experts or a state; with compressed keys and values."""


@dataclass(frozen=True)
class Coefficients:
    """Constants of the sum in GiB, fitted to public start-up logs by `inv fit-memory` (least squares).

    CUDA's own memory is `base`, `rtx` more on Blackwell's RTX series, `link` more for each doubling of the
    GPUs that work on a token. CUDA graphs take `capture`, and `graph` for each graph of a dense layer.
    """

    base: float = 0.39
    rtx: float = 0.66
    link: float = 0.35
    capture: float = 0.16
    graph: float = 0.0003


FITTED = Coefficients()

SPARE_GIB = 0.1
"""Not fitted: two starts of one plan differ by as much."""

UNIFIED_GIB = 4.0
"""More of CUDA's own memory where the GPU shares the host's: the page cache that loading the weights fills. Logs of
GB10 show 0.1 to 5.7 GiB from start to start."""

EXCHANGE = 10
"""Bytes of CUDA's own memory for each token of all replicas and each number of `hidden`: buffers that bring tokens to
the experts of other GPUs (one log: DeepSeek-V4.1-Flash on 8 GPUs, with 16384 tokens each)."""

EXCHANGED_PART = 1 / 3
"""Part of another replica's tokens that a GPU's experts compute in a step (the same log)."""


@dataclass(frozen=True)
class Terms:
    """What the overhead of one plan depends on: `peak` in GiB, the others with the coefficient of their name.

    `fixed` is memory without a coefficient, in GiB.
    """

    rtx: float
    link: float
    peak: float
    captured: bool
    graphs: float
    fixed: float = 0.0

    def own_gib(self, fit: Coefficients = FITTED) -> float:
        """Return the memory of CUDA and NCCL, vLLM's "non-torch"."""
        return fit.base + fit.rtx * self.rtx + fit.link * self.link + self.fixed

    def graphs_gib(self, fit: Coefficients = FITTED) -> float:
        return fit.capture * self.captured + fit.graph * self.graphs

    def gib(self, fit: Coefficients = FITTED) -> float:
        return self.own_gib(fit) + self.peak + self.graphs_gib(fit) + SPARE_GIB


def terms(
    network: Network, split: Split, card: Card, serving: Serving, sequences: int, vision_gib: float | None = None
) -> Terms:
    """Return the terms of a network on one GPU of `split` that runs this many `sequences`."""
    spread = split.data if split.expert else 1
    words = sequences * network.vocabulary * (SORTING_SAMPLER if card.sorts else SAMPLER) / GIB
    return Terms(
        rtx=float(card.rtx),
        link=log2(split.tensor * split.pipeline * spread),
        peak=max(
            step_gib(network, split.tensor, serving) * (1 + EXCHANGED_PART * (spread - 1)),
            _vision_gib(network, split.tensor, serving, vision_gib),
            words,
            _compile_gib(network, split.tensor, serving),
        ),
        captured=serving.captured,
        graphs=_graphs(network, serving, sequences, card) if serving.captured else 0.0,
        fixed=UNIFIED_GIB * card.unified + (_exchange_gib(network, spread, serving) if spread > 1 else 0.0),
    )


def step_gib(network: Network, tensor: int, serving: Serving) -> float:
    """Return the activations of a step with all its tokens."""
    numbers = EXPERTS if network.experts else DENSE_REPLICATED + DENSE_SPLIT / tensor
    states = max((group.state_bytes for group in network.groups), default=0) * STATE_PART / tensor
    return serving.tokens * (network.hidden * numbers + states) / GIB


def _exchange_gib(network: Network, spread: int, serving: Serving) -> float:
    """Return the buffers for the tokens of `spread` replicas."""
    return EXCHANGE * serving.tokens * network.hidden * spread / GIB


def _vision_gib(network: Network, tensor: int, serving: Serving, vision_gib: float | None) -> float:
    """Return the profile of the vision tower; tensor parallelism splits half of it, unless each GPU has its own."""
    if not network.multimodal or not serving.vision:
        return 0.0
    part = (1 + 1 / tensor) / 2 if serving.vision_split else 1.0
    return part * (VISION_GIB if vision_gib is None else vision_gib)


def _compile_gib(network: Network, tensor: int, serving: Serving) -> float:
    """Return a copy of the word vectors, which a first start makes when it compiles them.

    Seven logs with a cold cache show it to within 0.1 GiB; a warm cache saves it. A multimodal model's words are looked
    up outside the compiled part.
    """
    if network.multimodal or not serving.compiled or not serving.first:
        return 0.0
    return network.vocabulary * network.hidden * 2 / tensor / GIB


def _graphs(network: Network, serving: Serving, sequences: int, card: Card) -> float:
    """Return the CUDA graphs of all batch sizes, counted in graphs of one dense layer.

    With LoRA adapters, vLLM captures each size with and without them (`CudagraphDispatcher._get_lora_cases`).
    """
    largest = serving.largest_graph or min(card.largest_graph, 2 * sequences * (1 + serving.drafts))
    sizes = capture_sizes(min(largest, serving.tokens), sequences, serving.drafts) * (2 if serving.lora_slots else 1)
    if any(group.cache == "latent" for group in network.groups):
        weight = GRAPH_LATENT
    elif network.experts or any(group.cache == "state" for group in network.groups):
        weight = GRAPH_STATE
    else:
        weight = GRAPH_SMALL
    return weight * (network.depth or network.layers or 32) * sizes


@lru_cache(maxsize=1024)
def capture_sizes(largest: int, sequences: int, drafts: int) -> int:
    """Return the number of batch sizes up to `largest` that vLLM captures (`_set_cudagraph_sizes`, 0.32.0)."""
    decoded = {(1 + drafts) * requests for requests in (*_steps(sequences), sequences)}
    return len({*_steps(largest), *(size for size in decoded if size <= largest)})


def _steps(largest: int) -> list[int]:
    sizes = [*(1, 2, 4), *range(8, 256, 8), *range(256, largest + 1, 16)]
    return [size for size in sizes if size <= largest]
