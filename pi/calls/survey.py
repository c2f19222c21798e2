"""What a pod has and what is in use, as the planner reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pi.calls.call import call
from pi.calls.gpus import read_gpus
from pi.calls.records import deployment
from pi.errors import InputError
from pi.on_pod import container, shapes
from pi.on_pod import survey as on_pod
from pi.on_pod.archs import serves
from pi.on_pod.gpus import AMD, NOT_FOUND
from pi.on_pod.shapes import ModelFacts, NamedGpuUse, NvidiaSmi, Survey, SurveyRequest
from pi.on_pod.wire import PodError
from pi.planning import hardware
from pi.planning.adapters import AdapterFacts
from pi.planning.model_card import ModelCard, Verdict, card_of, ids_in
from pi.planning.types import Device, GpuProcess, PodFacts
from pi.pods import gpus
from pi.pods.gpus import Gpu
from pi.pods.types import Provider
from pi.vllm.venvs import VENV, extra_venvs

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def look(
    connection: Connection,
    model: str | None = None,
    *,
    ask_hub: bool = False,
    checkpoints: Sequence[str] = (),
    adapters: Sequence[str] = (),
) -> PodFacts:
    """Return the pod's facts, with those of a model and of adapters on it or on the hub. Changes nothing."""
    return facts(call(connection, "survey", "look", survey_request(model, ask_hub, checkpoints, adapters), Survey))


def survey_request(
    model: str | None, ask_hub: bool, checkpoints: Sequence[str], adapters: Sequence[str]
) -> SurveyRequest:
    return {
        "model": model,
        "ask_hub": ask_hub,
        "checkpoints": list(checkpoints),
        "gpu_query": gpus.QUERY,
        "adapters": list(adapters),
    }


def facts(survey: Survey) -> PodFacts:
    """Return a pod's survey as the planner reads it."""
    cards, unread = read_gpus(survey["gpus"])
    model = survey["model"]
    living = [record for record in survey["records"] if record["state"] in ("running", "starting")]
    return PodFacts(
        gpus=tuple(cards),
        taken_ports=frozenset(survey["ports"]) | {record["port"] for record in living},
        deployments=tuple(map(deployment, living)),
        processes=_gpu_processes(survey["gpu_processes"], cards),
        unread_gpus=unread,
        vllm_version=survey["vllm_version"],
        extra_venvs=extra_venvs(survey["extra_venvs"]),
        memory_mib=survey["memory_mib"],
        cpus=survey["cpus"],
        disk_free_gib=survey["disk_free_bytes"] / 2**30,
        config=model.get("config") if model else None,
        weights_bytes=model.get("weights_bytes") if model else None,
        model_at=model["where"] if model else None,
        model_card=_model_card(model) if model else ModelCard(),
        sizes=survey["sizes"],
        device=device_of(survey["gpus"], cards),
        without_code=_without_code(cards, survey),
        adapters={
            source: AdapterFacts(adapter["rank"], adapter["base"], adapter["where"] == "absent")
            for source, adapter in survey.get("adapters", {}).items()
        },
        provider=provider_of(survey.get("provider")),
    )


def provider_of(found: shapes.Provider | None) -> Provider | None:
    """Return the provider that a pod can ask to stop it; None for one that pi does not know."""
    is_known = found and found["name"] in container.POD_IDS and container.POD_ID.fullmatch(found["id"])
    return Provider(found["name"], found["id"]) if found and is_known else None


def with_model_here(facts: PodFacts, folder: str) -> PodFacts:
    """Add the facts of a model in a folder of this machine, read as a pod reads its own. Raises InputError."""
    try:
        model = on_pod.model_facts(folder)
    except PodError as error:
        raise InputError("model-unreadable", str(error), "replace that file, then try again") from None
    return replace(
        facts,
        config=model.get("config"),
        weights_bytes=model.get("weights_bytes"),
        model_at=model["where"],
        model_card=_model_card(model),
    )


def _model_card(model: ModelFacts) -> ModelCard:
    """Return what the repository of a model says, as the planner reads it."""
    found = replace(
        card_of(model.get("config") or {}),
        absent=model.get("absent", False),
        verdicts={venv: Verdict(**verdict) for venv, verdict in model.get("verdicts", {}).items()},
    )
    page = model.get("card")
    if page is None:
        return found
    return replace(
        found,
        base_models=(*ids_in(page["base_models"]), *found.base_models),
        template=None if page["template"] is None else frozenset(page["template"]),
        consolidated=page["consolidated"],
        pooling=page["pooling"],
        adapter=page["adapter"],
        gguf=tuple(page["gguf"]),
    )


def device_of(answer: NvidiaSmi, cards: list[Gpu]) -> Device:
    """Return what a pod computes on; "unknown" if it has NVIDIA's driver, but no GPU that pi can read."""
    if cards:
        return "cuda"
    return {AMD: "amd", NOT_FOUND: "cpu"}.get(answer["error"] or "", "unknown")  # type: ignore[return-value]


def _without_code(cards: list[Gpu], survey: Survey) -> frozenset[int]:
    """Return the GPUs that no PyTorch of the pod has code for; none unless setup has tested all venvs."""
    built = survey.get("architectures", {})
    if not {VENV, *survey["extra_venvs"]} <= set(built):
        return frozenset()
    every = [arch for archs in built.values() for arch in archs]
    return frozenset(card.id for card in cards if not serves(every, hardware.capability(card)))


def _gpu_processes(uses: list[NamedGpuUse], cards: list[Gpu]) -> tuple[GpuProcess, ...]:
    ids = {card.uuid: card.id for card in cards}
    return tuple(
        GpuProcess(use["pid"], ids[use["uuid"]], use["mib"], use["name"]) for use in uses if use["uuid"] in ids
    )
