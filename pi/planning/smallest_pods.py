"""The smallest pods that providers rent and that are large enough for a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache

from pi.planning import hardware, prices
from pi.planning.catalog import ModelSpec
from pi.planning.gpu_kinds import KINDS, Kind
from pi.planning.placement import USEFUL_CONTEXT, choose
from pi.planning.room import SHARED, Group, Slot, slots
from pi.planning.types import PodFacts, Request
from pi.pods.gpus import Gpu

SEVERAL = 1.5
"""A pod of several GPUs counts as this many times its memory, compared with one GPU."""

LEAST_OVERHEAD_MIB = 1024
"""vLLM needs more than this beside weights and KV cache on each GPU."""


def smallest_pods(
    spec: ModelSpec, like: Iterable[Gpu] = (), kept_prices: Mapping[str, float] | None = None
) -> tuple[str, ...]:
    """Return up to three rented pods that hold a model with a useful context, a kind in `like` first, with prices."""
    known = kept_prices or {}
    preferred = {product.name for product in map(hardware.kind, like) if product}
    least_mib = min(variant.weights_gb for variant in spec.variants) * 1e9 / 1024**2
    large = [pod for pod in _rented() if pod[1] * (SHARED * pod[0].memory_mib - LEAST_OVERHEAD_MIB) >= least_mib]
    tried: dict[tuple[str, int], bool] = {}
    same_kind = next(_fitting(spec, [pod for pod in large if pod[0].name in preferred], known, tried), None)
    found = dict.fromkeys([same_kind] if same_kind else [])
    for pod in _fitting(spec, large, known, tried):
        if len(found) >= (3 if same_kind else 2):
            break
        found[pod] = None
    return tuple(found)


def _fitting(
    spec: ModelSpec,
    pods: Iterable[tuple[Kind, int]],
    kept_prices: Mapping[str, float],
    tried: dict[tuple[str, int], bool],
) -> Iterator[str]:
    """Yield the pods that hold a model, each kind once: `choose` plans it on exactly these GPUs.

    `tried` has the results by kind and count.
    """
    request = Request(spec.id, "x")
    seen = set()
    for product, size in pods:
        if product.name in seen:
            continue
        pod = product.name, size
        if pod not in tried:
            fit = choose(spec, spec.variants, request, (_group(product, size),))
            tried[pod] = fit is not None and fit.reaches(USEFUL_CONTEXT, spec.context)
        if tried[pod]:
            seen.add(product.name)
            price = prices.per_hour(kept_prices, product, size)
            yield prices.with_price(f"{size}x {product.title}", price)


@cache
def _rented() -> tuple[tuple[Kind, int], ...]:
    """Return each kind with each count in which providers rent it, the smallest first."""
    pods = [(product, count) for product in KINDS for count in product.rented]
    return tuple(sorted(pods, key=_size))


def _size(pod: tuple[Kind, int]) -> tuple[float, str]:
    """Sort key: memory; one card comes before several with less memory, which cost more and connect slowly."""
    product, count = pod
    return count * product.memory_mib * (1 if count == 1 else SEVERAL), product.name


@cache
def _group(product: Kind, count: int) -> Group:
    """Return the GPUs of an idle pod."""
    alike = _slots(product)[:count]
    return Group(alike, alike, hardware.product_labels(product))


@cache
def _slots(product: Kind) -> tuple[Slot, ...]:
    """Return as many idle GPUs as the largest pod of this kind has."""
    gpu = Gpu(0, product.title, product.memory_mib, compute_capability=product.capability)
    return slots(PodFacts(tuple(replace(gpu, id=index) for index in range(max(product.rented)))))
