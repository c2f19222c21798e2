"""What a recipe sets for a model on some hardware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pi.planning import hardware
from pi.planning.catalog import Layout, ModelSpec, Tuning, Variant
from pi.vllm.arguments import Arguments


def tuning_of(spec: ModelSpec, variant: Variant, labels: frozenset[str], layout: Layout | None = None) -> Tuning:
    """Merge all tunings for this hardware, from general to specific; the last one wins."""
    all_parts = [spec.tuning, *_on(spec.tunings, labels), variant.tuning, *_on(variant.tunings, labels)]
    all_parts += [layout.tuning] if layout else []
    parts = [part for part in all_parts if part != NOTHING]
    if len(parts) < 2:
        return parts[0] if parts else NOTHING
    args = Arguments()
    env: dict[str, str] = {}
    context = share = None
    for part in parts:
        args = part.args.over(args)
        env |= part.env
        context = part.context if part.context is not None else context
        share = part.share if part.share is not None else share
    return Tuning(args, env, context, share)


NOTHING = Tuning()

_GENERATIONS = ("cpu", "nvidia", "mig", "turing", "ampere", "ada", "hopper", "blackwell", "blackwell_rtx")


def _on(tunings: Mapping[str, Tuning], labels: frozenset[str]) -> list[Tuning]:
    """Return the tunings for this hardware, generations before single kinds."""
    if not tunings:
        return []
    fitting = [label for label in tunings if label in labels]
    fitting.sort(key=lambda label: _GENERATIONS.index(label) if label in _GENERATIONS else len(_GENERATIONS))
    return [tunings[label] for label in fitting]


def for_gpu(tuning: Tuning, capability: tuple[int, int], spec: ModelSpec) -> Tuning:
    """Replace arguments that a recipe sets for newer GPUs: BF16, and an FP8 KV cache.

    FlashInfer reads an FP8 cache from Ampere on, but not that of MLA; Triton needs FP8 numbers (vLLM 0.33.0,
    `supports_compute_capability` of its attention backends).
    """
    args = tuning.args
    if capability < hardware.HALF_ONLY and args.get("--dtype") == "bfloat16":
        args = args.set("--dtype", "half")
    least = hardware.FP8_TRITON if has_latent_cache(spec) else hardware.HALF_ONLY
    if kv_number_bytes(args) == 1 and capability < least:
        args = args.set("--kv-cache-dtype", "auto")
    return tuning if args is tuning.args else replace(tuning, args=args)


def has_latent_cache(spec: ModelSpec) -> bool:
    """Return whether a model keeps compressed keys and values (MLA)."""
    return spec.attention is not None and spec.attention.latent > 0


def kv_number_bytes(args: Arguments) -> int:
    """Return the bytes of one number in the KV cache."""
    return 1 if (args.get("--kv-cache-dtype") or "").startswith("fp8") else 2
