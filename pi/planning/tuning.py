"""What a recipe sets for a model on some hardware."""

from __future__ import annotations

from collections.abc import Mapping

from pi.planning.catalog import Layout, ModelSpec, Tuning, Variant
from pi.vllm import arguments
from pi.vllm.arguments import laid_over


def tuning_of(spec: ModelSpec, variant: Variant, labels: frozenset[str], layout: Layout | None = None) -> Tuning:
    """All that applies on this hardware, from the general to the particular; a later option wins."""
    parts = [spec.tuning, *_on(spec.tunings, labels), variant.tuning, *_on(variant.tunings, labels)]
    parts += [layout.tuning] if layout else []
    said = [part for part in parts if part != NOTHING]
    if len(said) < 2:
        return said[0] if said else NOTHING
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    context = share = None
    for part in said:
        args = laid_over(args, part.args)
        env |= part.env
        context = part.context if part.context is not None else context
        share = part.share if part.share is not None else share
    return Tuning(args, env, context, share)


NOTHING = Tuning()

_GENERAL = ("cpu", "nvidia", "ampere", "ada", "hopper", "blackwell", "blackwell_rtx")


def _on(tunings: Mapping[str, Tuning], labels: frozenset[str]) -> list[Tuning]:
    """Tunings of this hardware, generations before kinds."""
    if not tunings:
        return []
    named = [label for label in tunings if label in labels]
    named.sort(key=lambda label: _GENERAL.index(label) if label in _GENERAL else len(_GENERAL))
    return [tunings[label] for label in named]


def number_bytes(args: tuple[str, ...]) -> int:
    """Bytes of a number in the KV cache under these arguments."""
    if "--kv-cache-dtype" not in args:
        return 2
    return 1 if (arguments.value_of(args, "--kv-cache-dtype") or "").startswith("fp8") else 2
