"""Why a plan is what it is: one sentence for each decision."""

from __future__ import annotations

from pi.planning import hardware, venvs
from pi.planning.catalog import ModelSpec, Variant
from pi.planning.placement import Fit, runs_on
from pi.planning.room import groups
from pi.planning.serving import gpu_ids
from pi.planning.types import PodFacts, Request


def reasons(
    request: Request, facts: PodFacts, spec: ModelSpec, variants: tuple[Variant, ...], fit: Fit
) -> tuple[str, ...]:
    reasons = [_variant_reason(spec, variants, facts, fit), _gpu_reason(request, facts, fit)]
    if fit.layout is not None:
        reasons.append(
            f"proved on {fit.layout.gpus} of this kind" + (f": {fit.layout.note}" if fit.layout.note else "")
        )
    return (*reasons, _share_reason(request, fit), _context_reason(request, spec, fit))


def _variant_reason(spec: ModelSpec, variants: tuple[Variant, ...], facts: PodFacts, fit: Fit) -> str:
    chosen, wanted = fit.variant, variants[0]
    weights = f"{chosen.id}: {chosen.weights_gb:g} GB of {chosen.precision} weights"
    if chosen is wanted:
        return weights
    kind = next(group for group in groups(facts) if fit.slots[0] in group.by_use)
    if not runs_on(wanted, kind):
        return f"{weights}, since {kind.gpu.name} has no arithmetic for the {wanted.precision} ones"
    return (
        f"{weights}, since the {wanted.precision} ones need {wanted.minimum_gb:g} GB of GPU memory"
        " and room for a useful context"
    )


def passed_over(asked: tuple[Variant, ...], variants: tuple[Variant, ...]) -> tuple[str, ...]:
    """That a newer vLLM would have served the checkpoint that comes first."""
    first = asked[0]
    return () if first in variants else (f"not {first.id}, which needs {venvs.wanted(first.floor or '')}",)


def _gpu_reason(request: Request, facts: PodFacts, fit: Fit) -> str:
    gpu, split = fit.slots[0].gpu, fit.split
    ids = ", ".join(map(str, gpu_ids(fit.slots)))
    where = f" on each of {facts.nodes} pods" if facts.nodes > 1 else ""
    asked = "as asked" if request.gpus else "the fewest that hold it well"
    sizes = (("tensor", split.tensor), ("pipeline", split.pipeline), ("data", split.data))
    parallel = ", ".join(f"{size}-way {word}" for word, size in sizes if size > 1)
    known = hardware.kind(gpu)
    slow = " over PCIe" if known and not known.nvlink else ""
    how = f": {parallel} parallel{slow}" if parallel else ""
    return f"{len(fit.slots)}x {gpu.name} (GPU {ids}){where}, {asked}{how}"


def _share_reason(request: Request, fit: Fit) -> str:
    share = f"{fit.share:.0%} of each GPU's memory"
    others = sorted({name for slot in fit.slots for name in slot.models})
    if request.memory is not None:
        return f"{share}, as asked"
    if others:
        return f"{share}, beside {', '.join(others)}"
    return f"{share}, as its recipe says" if fit.tuning.share == fit.share else share


def _context_reason(request: Request, spec: ModelSpec, fit: Fit) -> str:
    own, longest = spec.context or fit.memory.longest, fit.memory.longest
    if request.context is not None:
        return f"context of {request.context} tokens, as asked"
    if longest is None:
        return f"context up to {own} tokens: vLLM takes what the memory holds"
    if longest == own:
        return f"the model's whole context of {own} tokens"
    reason = "as its recipe says" if longest == fit.tuning.context else "what the memory holds"
    return f"context of about {longest} of the model's {own} tokens: {reason}"
