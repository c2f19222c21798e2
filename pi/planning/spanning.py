"""Plan one model over several pods, and decide whether they and their network suit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pi.errors import BusyError, InputError, PiError
from pi.planning import planner
from pi.planning.catalog import Catalog
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods.gpus import Gpu
from pi.pods.types import Pod
from pi.text import count

FAST_GBIT_PER_S = 10.0
"""Below this, tensor parallelism over pods is useless: each layer of each token waits for the network twice."""

WIDTH = 8192
"""Numbers of an activation of one token, for a model whose width is unknown; 2 bytes each."""

PROMPT = 8000
"""Tokens of the prompt in a sentence about a slow network."""

FIRST_MEETING_PORT = 29501
"""Above the ports of models; 29500 is PyTorch's own default (torch.distributed)."""


@dataclass(frozen=True)
class Parts:
    """What a pod has that must be equal on all pods of a model: see `pi.on_pod.span`."""

    versions: Mapping[str, str]
    environment: Mapping[str, str]
    weights: str | None
    interface: str = ""
    machine: str = ""
    storage: str = ""
    """Network storage of its models, which another pod may have too; empty for a disk of its own."""


def share_storage(parts: Mapping[str, Parts]) -> bool:
    """Return whether pods have their models on the same storage: then one after the other downloads."""
    named = [each.storage for each in parts.values() if each.storage]
    return len(set(named)) < len(named)


def require_equal_gpus(facts: Mapping[str, PodFacts]) -> None:
    """Raise InputError if the pods differ in their GPUs."""
    described = {pod: _described(each.gpus) for pod, each in facts.items()}
    if len(set(described.values())) > 1:
        listed = ", ".join(f"{pod} has {what}" for pod, what in described.items())
        raise InputError("span-gpus", f"the pods have different GPUs: {listed}", "name pods with equal GPUs")


def _described(gpus: tuple[Gpu, ...]) -> str:
    names = sorted({f"{gpu.name}" for gpu in gpus})
    return f"{len(gpus)}x {' and '.join(names)}" if gpus else "no GPU"


def plans(request: Request, facts: Mapping[str, PodFacts], catalog: Catalog) -> dict[str, LaunchPlan]:
    """Return the plan of each pod, equal but for the GPUs and ports that it uses. Raises PiError."""
    made = _plans(request, facts, catalog)
    shares = {plan.memory_share for plan in made.values()}
    if len(shares) > 1 and None not in shares:  # something else runs on one of them
        least = min(share for share in shares if share is not None)
        made = _plans(replace(request, memory=least), facts, catalog)
    head = next(iter(made))
    if made[head].split.data > 1:
        raise InputError(
            "span-data",
            f"the recipe of {request.model} needs data parallelism over pods, which pi does not start",
            f"serve it on each pod by itself: pi start {request.model} --name NAME --pod {head}",
        )
    for pod, plan in made.items():
        if not is_same(plan, made[head]):
            raise InputError(
                "span-plans",
                f"{head} and {pod} would serve {request.model} in different ways",
                f"compare: pi plan {request.model} --pod {head},{pod}",
            )
    return made


def _plans(request: Request, facts: Mapping[str, PodFacts], catalog: Catalog) -> dict[str, LaunchPlan]:
    found = {}
    for pod, each in facts.items():
        try:
            found[pod] = planner.plan(request, replace(each, nodes=len(facts)), catalog)
        except PiError as error:
            error.message = f"on {count(len(facts), 'pod')}, {pod} among them: {error.message}"
            raise
    return found


def is_same(plan: LaunchPlan, other: LaunchPlan) -> bool:
    """Return whether two pods would load the same model with the same arguments, perhaps on other GPUs."""
    mine, yours = (
        {name: value for name, value in each.env.items() if name != "CUDA_VISIBLE_DEVICES"} for each in (plan, other)
    )
    kept = (plan.model, plan.args.words, plan.venv, len(plan.gpus), mine)
    return kept == (other.model, other.args.words, other.venv, len(other.gpus), yours)


def again(request: Request, plan: LaunchPlan, facts: PodFacts, catalog: Catalog, pod: str) -> LaunchPlan:
    """Return a pod's plan by its present facts. Raises BusyError if it is not the one that all pods agreed on."""
    for memory in dict.fromkeys((request.memory, plan.memory_share)):
        made = planner.plan(replace(request, memory=memory), replace(facts, nodes=plan.nodes), catalog)
        if is_same(made, plan):
            return made
    raise BusyError("span-changed", f"{pod} has changed since the pods agreed", "repeat the command")


def require_equal(parts: Mapping[str, Parts]) -> None:
    """Raise InputError if the pods differ in packages or in vLLM's variables."""
    head, first = next(iter(parts.items()))
    for pod, other in list(parts.items())[1:]:
        for package, version in first.versions.items():
            if other.versions.get(package) != version:
                raise InputError(
                    "span-versions",
                    f"the pods have different packages: {head} has {package} {_short(version)},"
                    f" {pod} has {_short(other.versions.get(package, 'none'))}",
                    f"upgrade both: pi pods setup {head} --upgrade; pi pods setup {pod} --upgrade",
                )
        names = {*first.environment, *other.environment}
        odd = sorted(name for name in names if first.environment.get(name) != other.environment.get(name))
        if odd:
            raise InputError(
                "span-environment",
                f"{', '.join(odd)} differ on {head} and {pod}",
                "set them alike: --env NAME=VALUE, or in ~/.pi/env.sh of the pods",
            )


def _short(version: str) -> str:
    return version.partition("-")[2] or version


def require_same_weights(parts: Mapping[str, Parts], model: str) -> None:
    """Raise InputError if the pods have other files of the model."""
    head, first = next(iter(parts.items()))
    for pod, other in parts.items():
        if other.weights != first.weights:
            shown = [f"{name} has {each.weights or 'none'}" for name, each in ((head, first), (pod, other))]
            raise InputError(
                "span-weights",
                f"the pods have different files of {model}: {', '.join(shown)}",
                "name one revision: --set revision=COMMIT; or copy the folder from one pod to the other",
            )


def is_tensor_over(plan: LaunchPlan) -> bool:
    """Return whether tensor parallelism of a plan reaches over pods."""
    return plan.split.tensor > max(1, len(plan.gpus))


def network_notes(plan: LaunchPlan, pods: str, gbit_per_s: float, round_trip_ms: float, width: int | None) -> list[str]:
    """Return what the network between pods costs, in words. Raises InputError if it is too slow for tensor parallel."""
    figures = f"{gbit_per_s:.3g} Gbit/s and {round_trip_ms:.2g} ms between {pods}"
    if is_tensor_over(plan):
        if gbit_per_s < FAST_GBIT_PER_S:
            raise InputError(
                "network-slow",
                f"the network is too slow for tensor parallelism over pods: {figures},"
                f" it needs {FAST_GBIT_PER_S:.0f} Gbit/s",
                "use pods with a faster network, or accept it: --slow-network",
            )
        return [f"network: {figures}"]
    if gbit_per_s >= FAST_GBIT_PER_S:
        return [f"network: {figures}"]
    prompt_s = PROMPT * (width or WIDTH) * 2 * 8 / (max(gbit_per_s, 1e-3) * 1e9)
    return [
        f"network: {figures}; each token waits {round_trip_ms:.2g} ms for it, and a prompt of {PROMPT} tokens"
        f" {prompt_s:.2g} s, once for each pod after the first"
    ]


def meeting_port(facts: PodFacts) -> int:
    """Return a free port of the head, where its ranks meet."""
    taken = facts.taken_ports | {deployment.port for deployment in facts.deployments}
    return next(port for port in range(FIRST_MEETING_PORT, 65536) if port not in taken)


def proposal(request: Request, here: str, facts: PodFacts, pods: Mapping[str, Pod], catalog: Catalog) -> str | None:
    """Return the pods that could take a model together, such as "a,b", if this one is too small alone; else None.

    The others are known pods whose GPUs at their setup were equal. They may be in use now: a start looks again.
    """
    if not facts.gpus or facts.nodes > 1 or request.vllm_args is not None or request.replicas:
        return None
    equal = [name for name, pod in pods.items() if name != here and _described(pod.gpus) == _described(facts.gpus)]
    for number in range(2, len(equal) + 2):
        try:
            planner.plan(request, replace(facts, nodes=number), catalog)
        except PiError:
            continue
        return ",".join([here, *equal[: number - 1]])
    return None
