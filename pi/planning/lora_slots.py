"""Memory of the slots for LoRA adapters, which vLLM reserves when it loads a model.

vLLM 0.32.0, `lora/layers`: for each slot, a layer of IN x OUT numbers gets rank x IN and rank x OUT ones in 16 bit.
Tensor parallelism splits the width that it splits in the layer, not the other one.
"""

from __future__ import annotations

from pi.planning.network import Network
from pi.planning.serving import Serving
from pi.planning.split import Split

NUMBER_BYTES = 2

GIB = 1024**3

WHOLE, WHOLE_OF_ATTENTION = 7, 4
"""Widths `hidden` of a decoder's block that no GPU splits: inputs of query, key, value, gate and up, outputs of the
attention and of the MLP. The layers of experts have the last three for each expert."""

WHOLE_OF_EXPERT = 3

USUAL_EXPERTS = 256
"""Experts of a layer if the catalog does not state their number: as many as Qwen3.5, DeepSeek-V3 and MiniMax-M2 have,
and more than most."""

USUAL_LAYERS = 32


def slots_gib(network: Network, parameters_b: float, split: Split, serving: Serving) -> float:
    """Return the memory of the slots on each GPU in GiB.

    The other width of each matrix follows from the model's parameters, because one width is always `hidden`.
    """
    if not serving.lora_slots:
        return 0.0
    hidden, words = network.hidden, 2 * network.vocabulary
    ranks = split.tensor * (split.data if split.expert else 1)
    layers = network.depth or network.layers or USUAL_LAYERS
    others = max(0.0, parameters_b * 1e9 - words * hidden) / hidden / ranks
    whole = float(layers * WHOLE * hidden)
    if network.experts:
        experts = network.experts if network.experts > 1 else USUAL_EXPERTS
        spread = ranks if split.expert else 1
        whole = layers * hidden * (WHOLE_OF_ATTENTION + WHOLE_OF_EXPERT * experts / spread)
    numbers = (whole + others) / split.pipeline + words
    return serving.lora_slots * serving.lora_rank * numbers * NUMBER_BYTES / GIB
