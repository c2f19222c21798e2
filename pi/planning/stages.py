"""The pipeline stages of a network: which decoder blocks each of them has."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from pi.planning.network import BEHIND, Layers


def ends_of(depth: int, stages: int) -> list[int]:
    """Return the number of blocks up to the end of each stage (`get_pp_indices` in vLLM's `distributed/utils.py`).

    The stages in the middle get the blocks that remain, the last stage gets none of them.
    """
    ends = [depth // stages * (stage + 1) for stage in range(stages)]
    for more in range(depth % stages):
        first = stages - 2 - more
        ends[first:] = [end + 1 for end in ends[first:]]
    return ends


def counts_of(places: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Return how many of these blocks, in ascending order, each stage has. A draft head is in the last one."""
    passed = [0, *(bisect_left(places, end) for end in ends[:-1]), len(places)]
    return [after - before for before, after in pairwise(passed)]


def depth_of(layers: Sequence[Layers]) -> int:
    """Return the number of blocks if each keeps one of these caches."""
    own = [group for group in layers if BEHIND not in group.at]
    return max(sum(group.count for group in own), *(1 + max(group.at, default=0) for group in own), 1)


def places_of(layers: Sequence[Layers], depth: int) -> list[tuple[int, ...]]:
    """Return the blocks of each group of layers, in ascending order.

    Groups that do not name theirs are at even distances, the last in the last block, as in all periodic networks; or
    they have all blocks that are left. Windows and states have those that are left by attention to all tokens.
    """
    named = [group.at for group in layers if group.at]
    whole = [group.at or _place(group, depth, named) for group in layers if group.cache in ("full", "latent")]
    taken = [*named, *whole]
    return [group.at or _place(group, depth, named if group.cache in ("full", "latent") else taken) for group in layers]


def _place(group: Layers, depth: int, taken: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    left = set(range(depth)).difference(*taken)
    return tuple(sorted(left)) if len(left) == group.count else _even(group.count, depth)


def _even(count: int, depth: int) -> tuple[int, ...]:
    return tuple((index + 1) * depth // count - 1 for index in range(count))
