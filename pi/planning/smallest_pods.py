"""The smallest pods that are large enough for a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache

from pi.planning import hardware, prices
from pi.planning.catalog import ModelSpec
from pi.planning.placement import choose
from pi.planning.room import Group, groups
from pi.planning.types import PodFacts, Request
from pi.pods.gpus import Gpu


def smallest_pods(
    spec: ModelSpec, like: Iterable[Gpu] = (), kept_prices: Mapping[str, float] | None = None
) -> tuple[str, ...]:
    """Return the smallest pods of up to eight GPUs for a model with their prices, kinds in `like` first."""
    preferred = {product.name for product in map(hardware.kind, like) if product}
    request = Request(spec.id, "x")
    pods: list[tuple[int, str, str]] = []
    for product, group in _pods_of_eight():
        fit = choose(spec, spec.variants, request, (group,))
        if fit is not None:
            size = len(fit.slots)
            price = prices.per_hour(kept_prices or {}, product, size)
            machine = prices.with_price(f"{size}x {product.title}", price)
            pods.append((size * product.memory_mib, product.name, machine))
    same_kind = [pod for _, name, pod in pods if name in preferred][:1]
    return tuple(dict.fromkeys(same_kind + [pod for _, _, pod in sorted(pods)][:2]))


@cache
def _pods_of_eight() -> tuple[tuple[hardware.Kind, Group], ...]:
    """Return an idle pod of eight GPUs of each kind."""
    return tuple((product, _group(product)) for product in hardware.KINDS)


def _group(product: hardware.Kind) -> Group:
    gpu = Gpu(0, product.title, product.memory_mib, compute_capability=product.capability)
    return groups(PodFacts(tuple(replace(gpu, id=index) for index in range(8))))[0]
