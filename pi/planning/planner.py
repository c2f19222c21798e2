"""Turn a request, a pod and the catalog into a launch plan: GPUs, arguments, environment, reasons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from pi.errors import AbsentError, BusyError, InputError
from pi.planning import cpu, drafting, outside, overrides, served_cards, unserved, variables, venvs
from pi.planning.as_measured import as_measured
from pi.planning.catalog import RECIPE_FACTOR, Catalog, ModelSpec, Variant
from pi.planning.config_reader import read_network
from pi.planning.placement import Fit, choose
from pi.planning.plan_args import (
    context_args,
    gpu_env,
    memory_args,
    model_args,
    sequences_args,
    served_names,
    split_args,
)
from pi.planning.raw import raw_plan, with_catalog_venv
from pi.planning.reasons import passed_over, reasons, warnings
from pi.planning.refusals import context_too_long, refusal
from pi.planning.room import gpu_ids, groups
from pi.planning.splits import COUNTS
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.planning.unsized import unsized_plan
from pi.pods.types import NAME
from pi.text import count
from pi.vllm.venvs import VENV
from pi.vllm.versions import too_old


def plan(request: Request, facts: PodFacts, catalog: Catalog) -> LaunchPlan:
    """Plan a request on a pod, with the user's changes and earlier starts' figures over pi's choices.

    Raises InputError if the pod can never do it, with the sum and the nearest choice that fits; BusyError if it could
    do it after something stops; AbsentError if the model's path does not exist on the pod.
    """
    facts = served_cards.checked(facts)
    _check(request, facts)
    if facts.model_at == "absent":
        raise AbsentError("no-such-path", f"the pod has no directory {request.model}")
    request, entry = overrides.with_adapter_args(request, facts), catalog.find(request.model)
    made = _plan(request, facts, catalog, entry)
    made = overrides.laid_over(made, request, facts, entry[0] if entry else None)
    chats = made.api == "completions" and "--chat-template" in request.set_args
    return as_measured(replace(made, api="chat") if chats else made, request, facts)


def _plan(request: Request, facts: PodFacts, catalog: Catalog, entry: tuple[ModelSpec, Variant] | None) -> LaunchPlan:
    """Return pi's own plan, or that of the user's raw arguments."""
    if request.vllm_args is not None:
        return with_catalog_venv(raw_plan(request, facts, request.vllm_args), facts, entry)
    if entry is not None:
        return _catalog_plan(request, facts, *entry)
    return _outside_plan(request, facts, catalog)


def checkpoints(request: Request, catalog: Catalog) -> tuple[str, ...]:
    """Return the ids of the catalog's checkpoints that may serve a request; the plan needs their sizes."""
    entry = catalog.find(request.model)
    return () if entry is None or request.vllm_args is not None else tuple(v.id for v in _asked(request, *entry))


def needs_files(request: Request, catalog: Catalog) -> bool:
    """Return whether a plan needs the model's config.json: the catalog does not know the model, or not its layers."""
    entry = catalog.find(request.model)
    return entry is None or not entry[0].layers


def _read(spec: ModelSpec, facts: PodFacts) -> ModelSpec:
    """Return a model with the layers of its config.json, if the catalog has none."""
    network = None if spec.layers or facts.config is None else read_network(facts.config)
    if network is None:
        return spec
    return replace(
        spec,
        layers=network.groups,
        routed=network.experts,
        heads=spec.heads or network.heads,
        hidden=network.hidden,
        vocabulary=network.vocabulary,
    )


def _widened(request: Request, facts: PodFacts, heads: int | None) -> Request:
    """Turn `for_throughput` into the most idle GPUs that divide the heads of a model of unknown size."""
    if not request.for_throughput:
        return request
    idle, heads = max((kind.idle for kind in groups(facts)), default=1), heads or COUNTS[-1]
    return replace(request, gpus=max(size for size in COUNTS if size <= max(idle, 1) and heads % size == 0))


def _check(request: Request, facts: PodFacts) -> None:
    if not re.fullmatch(NAME, request.name):
        raise InputError(
            "name-invalid", f"invalid model name {request.name!r}", "use letters, digits, dot, dash, underscore"
        )
    if any(deployment.name == request.name for deployment in facts.deployments):
        raise BusyError(
            "name-taken", f"{request.name} already runs", f"pi stop {request.name}, or choose another --name"
        )
    if (request.gpus is not None or request.for_throughput) and facts.is_cpu:
        flag = "--gpus" if request.gpus is not None else "--for-throughput"
        raise InputError("no-gpu", "this pod has no GPU", f"remove {flag}")
    if request.gpus is not None and not 1 <= request.gpus <= len(facts.gpus):
        raise InputError("too-many-gpus", f"invalid --gpus {request.gpus}: the pod has {count(len(facts.gpus), 'GPU')}")
    if request.for_throughput and (request.gpus is not None or request.vllm_args is not None):
        other = "--gpus" if request.gpus is not None else "--vllm"
        raise InputError("flags-conflict", f"--for-throughput and {other} exclude each other", "remove one of them")
    choices = [word for word in ("memory", "context", "variant") if getattr(request, word) is not None]
    choices += ["draft"] if request.draft else []
    if request.vllm_args is not None and choices:
        raise InputError(
            "flags-conflict", f"--{choices[0]} and --vllm exclude each other", "with --vllm you set all arguments"
        )


def _outside_plan(request: Request, facts: PodFacts, catalog: Catalog) -> LaunchPlan:
    """Plan a model outside the catalog: by its files if their size is known, else with what its family needs."""
    if facts.config is None and (problem := unserved.unknown_id(request.model, catalog)):
        raise problem
    found = outside.outsider(request, facts, catalog.sizes)
    if problem := unserved.refusal(request, facts, found.manners, catalog):
        raise problem
    if request.draft:
        raise drafting.unknown(request.model)
    if request.variant is not None:
        raise InputError("no-variants", f"{request.model} is not in the catalog, so it has no variants")
    _check_spec(request, facts, found.spec)
    if facts.is_cpu or not found.sized:
        heads, args = found.spec.heads, model_args(found.spec, found.spec.tuning.args)
        wide = _widened(request, facts, heads)
        made = cpu.unknown_plan(request, facts) if facts.is_cpu else unsized_plan(wide, facts, heads)
        made = replace(made, args=args.over(made.args), estimated=found.estimated)
    else:
        spec = outside.modest(outside.spread(found.spec, facts), request, facts)
        fit = choose(spec, spec.variants, request, groups(facts), facts.nodes)
        if fit is None:
            raise refusal(request, facts, spec, spec.variants, outside.smaller(spec, catalog.sizes))
        why = reasons(request, facts, spec, spec.variants, fit)
        made = replace(_gpu_plan(request, facts, spec, fit), why=why, variant=None, estimated=found.estimated)
    made = replace(made, why=(found.why, *made.why), warnings=(*made.warnings, *found.manners.notes))
    return _described(_with_verdict(made, facts), found.spec)


def _with_verdict(made: LaunchPlan, facts: PodFacts) -> LaunchPlan:
    """Set a plan's venv by what the pod's vLLMs say of the model."""
    venv, version = unserved.venv_of(facts) or (VENV, facts.vllm_version)
    if venv == VENV:
        return made
    why = f"vLLM {version} from ~/{venv}: the one in ~/venv does not serve this model"
    return replace(made, venv=venv, vllm_version=version, why=(*made.why, why))


def _sized(spec: ModelSpec, sizes: Mapping[str, int]) -> ModelSpec:
    """Return a model with the weights that its files or the hub report instead of the catalog's."""
    return replace(spec, variants=tuple(_measured(variant, sizes.get(variant.id)) for variant in spec.variants))


def _measured(variant: Variant, size: int | None) -> Variant:
    if size is None:
        return variant
    weights_gb = round(size / 1e9, 2)
    is_computed = variant.minimum_gb == round(variant.weights_gb * RECIPE_FACTOR, 1)
    minimum_gb = round(weights_gb * RECIPE_FACTOR, 1) if is_computed else variant.minimum_gb
    return replace(variant, weights_gb=weights_gb, minimum_gb=minimum_gb, estimated=False)


def _catalog_plan(request: Request, facts: PodFacts, spec: ModelSpec, requested: Variant) -> LaunchPlan:
    _check_spec(request, facts, spec)
    spec = _read(_sized(spec, facts.sizes), facts)
    asked = drafting.candidates(request, _asked(request, spec, requested))
    variants = venvs.served(asked, facts, spec.max_vllm)
    if facts.is_cpu:
        if request.draft:
            raise InputError("no-gpu", "this pod has no GPU", "remove --draft")
        made, variant, tuning = cpu.catalog_plan(request, facts, spec, variants)
        args = made.args + model_args(spec, tuning.args)
        made = replace(made, args=args, env=variables.of_catalog(spec.id, tuning.env) | dict(made.env))
    else:
        fit = choose(spec, variants, request, groups(facts), facts.nodes)
        if fit is None and request.draft is None:
            request = replace(request, draft=False)
            fit = choose(spec, variants, request, groups(facts), facts.nodes)
        if fit is None:
            raise refusal(request, facts, spec, variants)
        variant = fit.variant
        why = (*reasons(request, facts, spec, variants, fit), *passed_over(asked, variants))
        made = replace(_gpu_plan(request, facts, spec, fit), why=why)
        made = drafting.drafted(made, request, variant, fit.labels)
    made = replace(made, estimated=made.model not in facts.sizes)
    return _described(venvs.with_venv(made, facts, variant.min_vllm, spec.max_vllm), spec)


def _check_spec(request: Request, facts: PodFacts, spec: ModelSpec) -> None:
    _, version = venvs.choose(facts, spec.min_vllm, spec.max_vllm)
    if spec.max_vllm and too_old(spec.max_vllm, version):
        needed = venvs.at_most(spec.max_vllm)
        raise InputError("vllm-too-new", f"{spec.title} needs {needed}, but the pod has {version}")
    if request.context is not None and spec.context is not None and request.context > spec.context:
        raise context_too_long(spec.title, spec.context)


def _gpu_plan(request: Request, facts: PodFacts, spec: ModelSpec, fit: Fit) -> LaunchPlan:
    _, version = venvs.choose(facts, fit.variant.min_vllm, spec.max_vllm)
    args = model_args(spec, fit.tuning.args)
    limits = memory_args(fit.share) + context_args(request.context, fit.tuning, fit.memory, version)
    return LaunchPlan(
        model=fit.variant.id,
        name=request.name,
        served_names=served_names(fit.variant.id, request),
        port=facts.free_port,
        gpus=gpu_ids(fit.slots),
        args=sequences_args(fit.memory).over(args.over(split_args(fit.split, facts.nodes) + limits)),
        env=gpu_env(fit.slots) | variables.of_catalog(spec.id, fit.tuning.env),
        warnings=warnings(facts, fit),
        context=fit.memory.context or fit.tuning.context or spec.context,
        memory_share=fit.share,
        memory=fit.memory,
        variant=fit.variant.name,
        split=fit.split,
        nodes=facts.nodes,
        download_gb=fit.variant.weights_gb,
    )


def _asked(request: Request, spec: ModelSpec, requested: Variant) -> tuple[Variant, ...]:
    """Return the checkpoints that may serve a request, the preferred one first."""
    if request.variant is not None:
        chosen = spec.variant(request.variant)
        if chosen is None:
            names = " or ".join(variant.name for variant in spec.variants)
            raise InputError("unknown-variant", f"{spec.title} has no variant {request.variant!r}", f"choose {names}")
        return (chosen,)
    if request.model.lower() == spec.id.lower():
        return spec.variants
    return tuple(variant for variant in spec.variants if variant.id == requested.id)[:1]


def _described(made: LaunchPlan, spec: ModelSpec) -> LaunchPlan:
    """Add the catalog's facts that do not depend on the pod."""
    why, warnings = list(made.why), list(made.warnings)
    if made.estimated and made.download_gb:
        why.append("the size of the weights is estimated: neither files on the pod nor the hub told it")
    if made.memory and not spec.layers:
        why.append("its layers are unknown, so pi counts 1 GB for the KV cache; vLLM finds the context that fits")
    if spec.tools:
        why.append(f"vLLM's {spec.tools} parser reads its tool calls")
    if spec.reasoning:
        why.append(f"vLLM's {spec.reasoning} parser reads its reasoning")
    if spec.notes:
        why.append(spec.notes)
    if spec.chat_template:
        warnings.append(
            f"its recipe uses {spec.chat_template} from vLLM's examples, which no package of vLLM contains:"
            " pi leaves it out; copy it to the pod to use it: --set chat-template=PATH"
        )
    if spec.trust_remote_code:
        warnings.append(f"{made.model} contains Python code that vLLM runs on the pod (--trust-remote-code)")
    return replace(made, api=spec.api, packages=spec.packages, why=tuple(why), warnings=tuple(warnings))
