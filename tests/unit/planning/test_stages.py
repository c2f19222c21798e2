"""The blocks of pipeline stages, against vLLM's own numbers."""

from __future__ import annotations

import pytest

from pi.planning.network import BEHIND, Layers
from pi.planning.stages import counts_of, depth_of, ends_of, places_of

FULL, WINDOW = Layers("full", 10, kv_heads=4, key_dim=512), Layers("window", 50, kv_heads=16, key_dim=256, window=1024)

ENDS = {
    (64, 2): [32, 64],
    (61, 2): [31, 61],
    (52, 3): [17, 35, 52],
    (62, 3): [21, 42, 62],
    (61, 4): [15, 30, 46, 61],
    (62, 4): [15, 31, 47, 62],
    (80, 7): [11, 22, 33, 45, 57, 69, 80],
}
"""Blocks and stages: the ends that vLLM 0.32's `get_pp_indices` gives."""


@pytest.mark.parametrize(("asked", "ends"), ENDS.items(), ids=str)
def test_ends_of_stages(asked: tuple[int, int], ends: list[int]) -> None:
    assert ends_of(*asked) == ends


def test_layers_lie_at_even_distances_and_windows_between_them() -> None:
    full, window = places_of((FULL, WINDOW), depth_of((FULL, WINDOW)))
    assert full == (5, 11, 17, 23, 29, 35, 41, 47, 53, 59)
    assert set(full) | set(window) == set(range(60))
    assert counts_of(full, ends_of(60, 3)) == [3, 3, 4]
    assert counts_of(window, ends_of(60, 3)) == [17, 17, 16]


def test_named_blocks_count_and_the_others_have_the_rest() -> None:
    first, rest = places_of((Layers("full", 3, at=(0, 1, 2)), Layers("full", 57)), 60)
    assert (first, rest) == ((0, 1, 2), tuple(range(3, 60)))


def test_draft_head_is_in_the_last_stage() -> None:
    head = Layers("full", 1, at=(BEHIND,))
    assert depth_of((FULL, WINDOW, head)) == 60
    assert counts_of((BEHIND,), ends_of(60, 3)) == [0, 0, 1]
