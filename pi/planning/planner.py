"""A request, a pod and the catalog as a launch plan: which GPUs, arguments and environment, and why."""

from __future__ import annotations

import re
from dataclasses import replace

from pi.errors import BusyError, InputError, RemoteError
from pi.planning import cpu, venvs
from pi.planning.catalog import Catalog, ModelSpec, Variant
from pi.planning.placement import choose
from pi.planning.raw import on_raw_vllm, raw_plan
from pi.planning.reasons import passed_over, reasons
from pi.planning.refusals import refusal
from pi.planning.room import groups
from pi.planning.serving import gpu_env, gpu_ids, length_args, model_args, on_cpu, on_vllm, port_for, split_args
from pi.planning.types import LaunchPlan, PodFacts, Request, served_names, share_text
from pi.planning.unknown import unknown_plan
from pi.pods.types import NAME
from pi.text import count
from pi.vllm.arguments import laid_over
from pi.vllm.versions import too_old


def plan(request: Request, facts: PodFacts, catalog: Catalog) -> LaunchPlan:
    """The plan for a request on a pod.

    Raises InputError for what this pod can never do, with the sum and the nearest thing that fits,
    BusyError for what it could do if something stopped, and RemoteError for a path that the pod has not.
    """
    _check(request, facts)
    if facts.model_at == "absent":
        raise RemoteError("no-such-path", f"there is no directory {request.model} on the pod")
    known = catalog.find(request.model)
    if request.vllm_args is not None:
        return on_raw_vllm(raw_plan(request, facts, request.vllm_args), facts, known)
    if known is not None:
        return _known_plan(request, facts, *known)
    if near := catalog.named(request.model):
        raise InputError("model-id-incomplete", f"{request.model!r} is no model's whole id", f"did you mean {near}?")
    if request.variant is not None:
        raise InputError("no-variants", f"{request.model} is not in the catalog, so it has no variants")
    return cpu.unknown(request, facts, port_for(facts)) if on_cpu(facts) else unknown_plan(request, facts)


def _check(request: Request, facts: PodFacts) -> None:
    if not re.fullmatch(NAME, request.name):
        raise InputError(
            "name-invalid", f"{request.name!r} is no name for a model", "use letters, digits, dot, dash, underscore"
        )
    if not request.model.strip() or request.model.startswith("-") or not request.model.isprintable():
        raise InputError(
            "model-invalid", f"{request.model!r} is no model", "give a Hugging Face id or a path on the pod"
        )
    if any(deployment.name == request.name for deployment in facts.deployments):
        raise BusyError(
            "name-taken", f"{request.name} already runs", f"pi stop {request.name}, or choose another --name"
        )
    if request.gpus is not None and on_cpu(facts):
        raise InputError("no-gpu", "this pod has no GPU", "leave out --gpus")
    if request.gpus is not None and not 1 <= request.gpus <= len(facts.gpus):
        raise InputError("too-many-gpus", f"--gpus {request.gpus}: the pod has {count(len(facts.gpus), 'GPU')}")
    bent = [word for word in ("memory", "context", "variant") if getattr(request, word) is not None]
    if request.vllm_args is not None and bent:
        raise InputError(
            "flags-conflict", f"--{bent[0]} and --vllm exclude each other", "with --vllm all arguments are your own"
        )


def _known_plan(request: Request, facts: PodFacts, spec: ModelSpec, named: Variant) -> LaunchPlan:
    _, version = venvs.choose(facts, spec.floor, spec.ceiling)
    if too_old(spec.ceiling, version):
        raise InputError("vllm-too-new", f"{spec.title} needs vLLM {spec.ceiling} or older, the pod has {version}")
    if request.context is not None and spec.context is not None and request.context > spec.context:
        raise InputError(
            "context-too-long", f"{spec.title} has a context of {spec.context} tokens", f"say --context {spec.context}"
        )
    asked = _asked(request, spec, named)
    variants = venvs.served(asked, facts, spec.ceiling)
    if on_cpu(facts):
        made, variant, tuning = cpu.known(request, facts, spec, variants, port_for(facts))
        args = (*made.args, *model_args(spec, tuning.args))
        made = replace(made, args=args, env=dict(tuning.env) | dict(made.env))
        return _described(on_vllm(made, facts, variant.floor, spec.ceiling), spec)
    fit = choose(spec, variants, request, groups(facts), facts.nodes)
    if fit is None:
        raise refusal(request, facts, spec, variants)
    _, version = venvs.choose(facts, fit.variant.floor, spec.ceiling)
    made = LaunchPlan(
        model=fit.variant.id,
        name=request.name,
        served_names=served_names(fit.variant.id, request),
        port=port_for(facts),
        gpus=gpu_ids(fit.slots),
        args=laid_over(
            (
                *split_args(fit.split, facts.nodes),
                *("--gpu-memory-utilization", share_text(fit.share)),
                *length_args(request.context, fit.tuning, fit.memory, version),
            ),
            model_args(spec, fit.tuning.args),
        ),
        env=gpu_env(fit.slots) | dict(fit.tuning.env),
        context=fit.memory.context or fit.tuning.context or spec.context,
        memory_share=fit.share,
        memory=fit.memory,
        why=(*reasons(request, facts, spec, variants, fit), *passed_over(asked, variants)),
        variant=fit.variant.name,
        split=fit.split,
        nodes=facts.nodes,
        download_gb=fit.variant.weights_gb,
    )
    return _described(on_vllm(made, facts, fit.variant.floor, spec.ceiling), spec)


def _asked(request: Request, spec: ModelSpec, named: Variant) -> tuple[Variant, ...]:
    """Checkpoints that may serve a request, the wanted one first: one alone where the user names it."""
    if request.variant is not None:
        chosen = spec.variant(request.variant)
        if chosen is None:
            names = ", ".join(variant.name for variant in spec.variants)
            raise InputError("unknown-variant", f"{spec.title} has no variant {request.variant}", f"it has {names}")
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
