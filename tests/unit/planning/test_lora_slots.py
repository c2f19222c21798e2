"""Memory of LoRA slots, held against the shapes of vLLM's layers (`lora/layers`, 0.32.0)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pi.planning.lora_slots import GIB, USUAL_EXPERTS, slots_gib
from pi.planning.network import Layers, Network
from pi.planning.serving import Serving
from pi.planning.split import Split

WIDTH, WORDS, LAYERS = 4096, 151936, 36
QUERY, KEYS, MLP = 32 * 128, 8 * 128, 12288
QWEN3_8B = Network((Layers("full", LAYERS, 8, 128, 128),), 32, WIDTH, WORDS)
PARAMETERS = (LAYERS * WIDTH * (2 * QUERY + 2 * KEYS + 3 * MLP) + 2 * WORDS * WIDTH) / 1e9
SERVING = Serving(tokens=2048, lora_slots=1)


def shapes(rank: int, tensor: int) -> int:
    """Return the numbers of one slot on one GPU: a matrix of the rank x input and one of output x rank."""
    block = 3 * WIDTH + (QUERY + 2 * KEYS) // tensor  # query, key and value, split by their outputs
    block += QUERY // tensor + WIDTH  # the attention's output, split by its input
    block += 2 * WIDTH + 2 * MLP // tensor  # gate and up
    block += MLP // tensor + WIDTH  # down
    return rank * (LAYERS * block + 2 * WORDS)


@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_slot_of_a_dense_model_has_the_shapes_of_its_layers(tensor: int) -> None:
    found = slots_gib(QWEN3_8B, PARAMETERS, Split(tensor=tensor), SERVING)
    assert found == pytest.approx(2 * shapes(16, tensor) / GIB)


def test_slots_grow_with_their_number_and_rank() -> None:
    one = slots_gib(QWEN3_8B, PARAMETERS, Split(), SERVING)
    assert slots_gib(QWEN3_8B, PARAMETERS, Split(), replace(SERVING, lora_slots=4, lora_rank=64)) == 16 * one
    assert slots_gib(QWEN3_8B, PARAMETERS, Split(), replace(SERVING, lora_slots=0)) == 0


def test_each_expert_has_its_matrices() -> None:
    """Qwen3-30B-A3B: 128 experts of 2048 x 768 in 48 layers, and attention with 32 and 4 heads of 128."""
    network = Network((Layers("full", 48, 4, 128, 128),), 32, 2048, WORDS, experts=128)
    attention, experts = 2 * 4096 + 2 * 512, 128 * 3 * 768
    parameters_b = (48 * 2048 * (attention + experts) + 2 * WORDS * 2048) / 1e9
    numbers = 48 * (4 * 2048 + attention + 128 * 3 * 2048 + experts) + 2 * WORDS
    assert slots_gib(network, parameters_b, Split(), SERVING) == pytest.approx(2 * 16 * numbers / GIB)
    spread = slots_gib(network, parameters_b, Split(data=4, expert=True), SERVING)
    assert spread == pytest.approx(slots_gib(network, parameters_b, Split(), SERVING) / 4, rel=0.05)
    unknown = replace(network, experts=1)
    assert slots_gib(unknown, parameters_b, Split(), SERVING) == slots_gib(
        replace(network, experts=USUAL_EXPERTS), parameters_b, Split(), SERVING
    )
