"""A request, a pod and the catalog as a launch plan: which GPUs, arguments and environment, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace

from pi import cpu_plans, hardware, venvs, vllm
from pi.catalog import Catalog, ModelSpec, Tuning, Variant
from pi.errors import BusyError, InputError, RemoteError
from pi.estimate import MemorySum, Split, attention_of, context_of, heads_of, memory_sum
from pi.placement import COUNTS, LEAST_SHARE, SHARE, SHARED, Fit, Slot, choose, groups, laid_over, runs_on
from pi.plans import VENV, LaunchPlan, PodFacts, Request, served_names, share_text
from pi.pods import NAME
from pi.refusals import busy, refusal
from pi.text import count
from pi.vllm import too_old

__all__ = ["LaunchPlan", "PodFacts", "Request", "next_port", "plan"]

FITS_ITSELF = "0.14.0"
"""First vLLM that takes `--max-model-len auto`: the longest context that the memory holds."""

UNCERTAINTY = 0.1
"""By how much the weights of a model outside the catalog may differ from its files (converted on loading)."""


def plan(request: Request, facts: PodFacts, catalog: Catalog) -> LaunchPlan:
    """The plan for a request on a pod.

    Raises InputError for what this pod can never do, with the sum and the nearest thing that fits,
    BusyError for what it could do if something stopped, and RemoteError for a path that the pod has not.
    """
    _check(request, facts)
    if facts.model_at == "absent":
        raise RemoteError(f"there is no directory {request.model} on the pod")
    known = catalog.find(request.model)
    if request.vllm_args is not None:
        return _on_raw_vllm(_raw_plan(request, facts, request.vllm_args), facts, known)
    if known is not None:
        return _known_plan(request, facts, *known)
    if near := catalog.named(request.model):
        raise InputError(f"{request.model!r} is no model's whole id", f"did you mean {near}?")
    if request.variant is not None:
        raise InputError(f"{request.model} is not in the catalog, so it has no variants")
    return cpu_plans.unknown(request, facts, _port(facts)) if _on_cpu(facts) else _unknown_plan(request, facts)


def next_port(taken: AbstractSet[int], first: int = 8001) -> int:
    """The lowest port from `first` on that is not taken."""
    return next(port for port in range(first, 65536) if port not in taken)


def _on_cpu(facts: PodFacts) -> bool:
    return facts.device == "cpu"


def _port(facts: PodFacts) -> int:
    return next_port(facts.taken_ports | {deployment.port for deployment in facts.deployments})


def _check(request: Request, facts: PodFacts) -> None:
    if not re.fullmatch(NAME, request.name):
        raise InputError(f"{request.name!r} is no name for a model", "use letters, digits, dot, dash, underscore")
    if not request.model.strip() or request.model.startswith("-") or not request.model.isprintable():
        raise InputError(f"{request.model!r} is no model", "give a Hugging Face id or a path on the pod")
    if any(deployment.name == request.name for deployment in facts.deployments):
        raise BusyError(f"{request.name} already runs", f"pi stop {request.name}, or choose another --name")
    if request.gpus is not None and _on_cpu(facts):
        raise InputError("this pod has no GPU", "leave out --gpus")
    if request.gpus is not None and not 1 <= request.gpus <= len(facts.gpus):
        raise InputError(f"--gpus {request.gpus}: the pod has {count(len(facts.gpus), 'GPU')}")
    bent = [word for word in ("memory", "context", "variant") if getattr(request, word) is not None]
    if request.vllm_args is not None and bent:
        raise InputError(f"--{bent[0]} and --vllm exclude each other", "with --vllm all arguments are your own")


# ------------------------------------------------------------------------------------- models of the catalog


def _known_plan(request: Request, facts: PodFacts, spec: ModelSpec, named: Variant) -> LaunchPlan:
    _, version = venvs.choose(facts, spec.floor, spec.ceiling)
    if too_old(spec.ceiling, version):
        raise InputError(f"{spec.title} needs vLLM {spec.ceiling} or older, the pod has {version}")
    if request.context is not None and spec.context is not None and request.context > spec.context:
        raise InputError(f"{spec.title} has a context of {spec.context} tokens", f"say --context {spec.context}")
    asked = _asked(request, spec, named)
    variants = venvs.served(asked, facts, spec.ceiling)
    if _on_cpu(facts):
        made, variant, tuning = cpu_plans.known(request, facts, spec, variants, _port(facts))
        args = (*made.args, *_model_args(spec, tuning.args))
        made = replace(made, args=args, env=dict(tuning.env) | dict(made.env))
        return _described(_on_vllm(made, facts, variant.floor, spec.ceiling), spec)
    fit = choose(spec, variants, request, groups(facts), facts.nodes)
    if fit is None:
        raise refusal(request, facts, spec, variants)
    _, version = venvs.choose(facts, fit.variant.floor, spec.ceiling)
    made = LaunchPlan(
        model=fit.variant.id,
        name=request.name,
        served_names=served_names(fit.variant.id, request),
        port=_port(facts),
        gpus=_ids(fit.slots),
        args=laid_over(
            (
                *_split_args(fit.split, facts.nodes),
                *("--gpu-memory-utilization", share_text(fit.share)),
                *_length(request.context, fit.tuning, fit.memory, version),
            ),
            _model_args(spec, fit.tuning.args),
        ),
        env=_gpu_env(fit.slots) | dict(fit.tuning.env),
        context=fit.memory.context or fit.tuning.context or spec.context,
        memory_share=fit.share,
        memory=fit.memory,
        why=(*_reasons(request, facts, spec, variants, fit), *_passed_over(asked, variants)),
        variant=fit.variant.name,
        split=fit.split,
        nodes=facts.nodes,
        download_gb=fit.variant.weights_gb,
    )
    return _described(_on_vllm(made, facts, fit.variant.floor, spec.ceiling), spec)


def _on_vllm(made: LaunchPlan, facts: PodFacts, floor: str | None, ceiling: str | None) -> LaunchPlan:
    """The plan with the vLLM of the pod that serves it, and why where that is not the usual one."""
    venv, version = venvs.choose(facts, floor, ceiling)
    why = made.why
    if venv != VENV:
        limit = venvs.wanted(floor) if floor and too_old(facts.vllm_version, floor) else f"vLLM {ceiling} or older"
        why += (f"vLLM {version} of ~/{venv}: it needs {limit}, ~/venv has {facts.vllm_version}",)
    return replace(made, venv=venv, vllm_version=version, vllm_floor=floor, why=why)


def _asked(request: Request, spec: ModelSpec, named: Variant) -> tuple[Variant, ...]:
    """Checkpoints that may serve a request, the wanted one first: one alone where the user names it."""
    if request.variant is not None:
        chosen = spec.variant(request.variant)
        if chosen is None:
            names = ", ".join(variant.name for variant in spec.variants)
            raise InputError(f"{spec.title} has no variant {request.variant}", f"it has {names}")
        return (chosen,)
    return spec.variants if request.model.lower() == spec.id.lower() else (named,)


def _described(made: LaunchPlan, spec: ModelSpec) -> LaunchPlan:
    """The plan with what the catalog says of the model wherever it runs."""
    why, warnings = list(made.why), list(made.warnings)
    if spec.tools:
        why.append(f"vLLM's parser {spec.tools} reads its tool calls")
    if spec.reasoning:
        why.append(f"vLLM's parser {spec.reasoning} reads its reasoning")
    if spec.notes:
        why.append(spec.notes)
    if spec.trust_remote_code:
        warnings.append(f"{made.model} brings Python code that vLLM runs on the pod (--trust-remote-code)")
    return replace(made, api=spec.api, packages=spec.packages, why=tuple(why), warnings=tuple(warnings))


def _ids(chosen: Iterable[Slot]) -> tuple[int, ...]:
    return tuple(sorted(slot.gpu.id for slot in chosen))


def _gpu_env(chosen: Iterable[Slot]) -> dict[str, str]:
    """Names the GPUs by nvidia-smi's index, which CUDA counts by only when told to."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, _ids(chosen)))}


def _split_args(split: Split, nodes: int = 1) -> tuple[str, ...]:
    args: list[str] = []
    if split.tensor > 1:
        args += ["--tensor-parallel-size", str(split.tensor)]
    if split.pipeline > 1:
        args += ["--pipeline-parallel-size", str(split.pipeline)]
    if split.data > 1:
        args += ["--data-parallel-size", str(split.data)]
        args += ["--data-parallel-size-local", str(split.data // nodes)] if nodes > 1 else []
    elif nodes > 1:
        args += ["--nnodes", str(nodes)]
    return (*args, "--enable-expert-parallel") if split.expert else tuple(args)


def _length(wanted: int | None, tuning: Tuning, memory: MemorySum | None, version: str | None) -> tuple[str, ...]:
    """`--max-model-len`: the user's, else the recipe's, else as much as vLLM finds room for."""
    if wanted is not None:
        return ("--max-model-len", str(wanted))
    longest = memory.longest if memory else None
    if tuning.context is not None:
        return ("--max-model-len", str(min(tuning.context, longest or tuning.context)))
    if not too_old(version, FITS_ITSELF):
        return ("--max-model-len", "auto")
    return ("--max-model-len", str(longest)) if longest else ()


def _model_args(spec: ModelSpec, tuned: tuple[str, ...]) -> tuple[str, ...]:
    args: list[str] = []
    if spec.tools:
        args += ["--enable-auto-tool-choice", "--tool-call-parser", spec.tools]
    if spec.reasoning:
        args += ["--reasoning-parser", spec.reasoning]
    if spec.trust_remote_code:
        args.append("--trust-remote-code")
    return laid_over(tuple(args), tuned)


# ------------------------------------------------------------------------------------------------- and why


def _reasons(
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


def _passed_over(asked: tuple[Variant, ...], variants: tuple[Variant, ...]) -> tuple[str, ...]:
    """That a newer vLLM would have served the checkpoint that comes first."""
    first = asked[0]
    return () if first in variants else (f"not {first.id}, which needs {venvs.wanted(first.floor or '')}",)


def _gpu_reason(request: Request, facts: PodFacts, fit: Fit) -> str:
    gpu, split = fit.slots[0].gpu, fit.split
    ids = ", ".join(map(str, _ids(fit.slots)))
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


# ------------------------------------------------------------------------------------- outside the catalog


def _unknown_plan(request: Request, facts: PodFacts) -> LaunchPlan:
    """One GPU unless the user says more, and a context that vLLM fits itself; what is known is summed up."""
    own, size = context_of(facts.config or {}), request.gpus or 1
    _check_unknown(request, facts, own, size)
    least = SHARE if facts.weights_bytes is None else LEAST_SHARE  # of one that may have any size, nothing less helps
    chosen = _least_used(facts, size, request.memory or least)
    share = request.memory or min(SHARE, *(slot.open for slot in chosen))
    split = Split(tensor=size)
    memory = _unknown_sum(request, facts, split, chosen, share, own)
    if memory is not None and memory.weights_gib * (1 - UNCERTAINTY) > memory.allowed_gib:
        raise InputError(f"{request.model} does not fit: {memory.render()}", _more(facts, memory, size))
    return LaunchPlan(
        model=request.model,
        name=request.name,
        served_names=served_names(request.model, request),
        port=_port(facts),
        gpus=_ids(chosen),
        args=(
            *_split_args(split),
            *("--gpu-memory-utilization", share_text(share)),
            *_length(request.context, Tuning(), memory, facts.vllm_version),
        ),
        env=_gpu_env(chosen),
        context=request.context or (memory.context if memory else None) or own,
        memory_share=share,
        memory=memory,
        why=(
            f"{request.model} is not in the catalog: {count(size, 'GPU')}, "
            + ("as asked" if request.gpus else "unless you say --gpus"),
            f"{share:.0%} of each GPU's memory" + (", as asked" if request.memory else ""),
        ),
        warnings=_doubts(memory),
        split=split,
        download_gb=facts.weights_bytes / 1e9 if facts.weights_bytes else None,
    )


def _doubts(memory: MemorySum | None) -> tuple[str, ...]:
    if memory is None:
        return ("how large it is could not be found out, so whether it fits is not known",)
    return () if memory.fits else (f"it may not fit: {memory.render()}",)


def _check_unknown(request: Request, facts: PodFacts, own: int | None, size: int) -> None:
    heads = heads_of(facts.config or {})
    if heads and heads % size:
        fits = ", ".join(str(n) for n in range(1, len(facts.gpus) + 1) if heads % n == 0)
        raise InputError(
            f"{size} GPUs cannot share the {heads} attention heads of {request.model} evenly", f"say --gpus {fits}"
        )
    if request.context and own and request.context > own:
        raise InputError(f"{request.model} has a context of {own} tokens", f"say --context {own}")


def _unknown_sum(
    request: Request, facts: PodFacts, split: Split, chosen: tuple[Slot, ...], share: float, own: int | None
) -> MemorySum | None:
    if facts.weights_bytes is None:
        return None
    return memory_sum(
        facts.weights_bytes / 1e9,
        attention_of(facts.config or {}),
        split,
        memory_gib=min(slot.gpu.memory_mib for slot in chosen) / 1024,
        free_gib=min(slot.gpu.free_mib for slot in chosen) / 1024,
        share=share,
        context=own,
        wanted=request.context,
        uncertainty=UNCERTAINTY,
    )


def _more(facts: PodFacts, memory: MemorySum, size: int) -> str:
    needed = memory.weights_gib * size * 1.2
    enough = next((n for n in COUNTS if n > size and n * memory.allowed_gib >= needed), None)
    if enough and enough <= len(facts.gpus):
        return f"say --gpus {enough}"
    return f"it takes about {needed:.0f} GiB of GPU memory"


def _least_used(facts: PodFacts, size: int, share: float) -> tuple[Slot, ...]:
    """The least used GPUs of one kind with at least `share` left. Raises InputError or BusyError."""
    if not any(len(group.by_use) >= size for group in groups(facts)):
        raise InputError(f"the pod has no {count(size, 'GPU')} of one kind" if facts.gpus else "the pod has no GPU")
    found = _roomy(facts, size, share)
    if found:
        return found

    def fits(facts: PodFacts, gpus: int = size, memory: float = share) -> bool:
        return bool(_roomy(facts, gpus, memory))

    what = "no GPU has" if size == 1 else f"no {size} GPUs of one kind have"
    raise busy(f"{what} {share:.0%} of {'its' if size == 1 else 'their'} memory left", facts, fits)


def _roomy(facts: PodFacts, size: int, share: float) -> tuple[Slot, ...]:
    for group in groups(facts):
        roomy = tuple(slot for slot in group.by_use if slot.open >= share)
        if len(roomy) >= size:
            return roomy[:size]
    return ()


def _raw_plan(request: Request, facts: PodFacts, args: tuple[str, ...]) -> LaunchPlan:
    """The user's own arguments on the GPUs that they ask for; pi adds names, address and the environment."""
    vllm.check_raw(args)
    share = _raw_share(args)
    length = vllm.value_of(args, "--max-model-len") or ""
    made = LaunchPlan(
        model=request.model,
        name=request.name,
        served_names=served_names(request.model, request),
        port=_port(facts),
        gpus=(),
        args=args,
        env={},
        context=int(length) if re.fullmatch("[0-9]{1,9}", length) else None,
        memory_share=share,
        why=("--vllm: the arguments are your own",),
        warnings=vllm.code_warnings(args),
    )
    if _on_cpu(facts):
        decided = share is not None or vllm.value_of(args, "--kv-cache-memory-bytes")
        return replace(made, env=cpu_plans.environment(facts, None if decided else cpu_plans.kv_space_gib(facts)))
    size = request.gpus or _raw_count(args)
    if size > len(facts.gpus):
        raise InputError(f"--vllm asks for {count(size, 'GPU')}, the pod has {len(facts.gpus)}")
    chosen = _least_used(facts, size, min(share or SHARE, SHARED))
    return replace(made, gpus=_ids(chosen), env=_gpu_env(chosen))


def _on_raw_vllm(made: LaunchPlan, facts: PodFacts, known: tuple[ModelSpec, Variant] | None) -> LaunchPlan:
    """A plan of the user's own arguments: a floor of the catalog chooses the vLLM, but refuses none."""
    if known is None:
        return made
    spec, variant = known
    chosen = _on_vllm(made, facts, variant.floor, spec.ceiling)
    if variant.floor and too_old(chosen.vllm_version, variant.floor):
        warning = f"the catalog says {venvs.wanted(variant.floor)}; the pod has {chosen.vllm_version}"
        chosen = replace(chosen, warnings=(*chosen.warnings, warning))
    return replace(chosen, vllm_floor=None)


def _raw_count(args: tuple[str, ...]) -> int:
    size = 1
    for option in ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size"):
        value = vllm.value_of(args, option) or "1"
        size *= int(value) if re.fullmatch(r"[1-9]\d{0,2}", value) else 1
    return size


def _raw_share(args: tuple[str, ...]) -> float | None:
    value = vllm.value_of(args, "--gpu-memory-utilization") or ""
    return float(value) if re.fullmatch(r"0?\.\d+|1(\.0*)?", value) else None
