"""What a pod has and what is in use, as the planner reads it."""

from __future__ import annotations

from typing import Any

from pi.calls.call import call
from pi.calls.records import deployment
from pi.planning.types import GpuProcess, PodFacts
from pi.planning.venvs import extra_venvs
from pi.pods import gpus
from pi.pods.gpus import Gpu
from pi.ssh.link import Link
from pi.text import one_line


def look(link: Link, model: str | None = None, *, ask_hub: bool = False) -> PodFacts:
    """What the pod has and what is in use; with a model, its files there (or on the hub) too. Nothing is touched."""
    return facts(call(link, "survey", "look", {"model": model, "ask_hub": ask_hub, "gpu_query": gpus.QUERY}))


def facts(survey: dict[str, Any]) -> PodFacts:
    """A pod's survey as the planner wants it."""
    found, unread = read_gpus(survey["gpus"])
    model = survey["model"] or {}
    living = [record for record in survey["records"] if record["state"] in ("running", "starting")]
    return PodFacts(
        gpus=tuple(found),
        taken_ports=frozenset(survey["ports"]) | {record["port"] for record in living},
        deployments=tuple(deployment(record) for record in living),
        processes=_gpu_processes(survey["gpu_processes"], found),
        unread_gpus=unread,
        vllm_version=survey["vllm_version"],
        extra_venvs=extra_venvs(survey["beside"]),
        memory_mib=survey["memory_mib"],
        cpus=survey["cpus"],
        disk_free_gib=survey["disk_free_bytes"] / 2**30,
        config=model.get("config"),
        weights_bytes=model.get("weights_bytes"),
        model_at=model.get("where"),
        device="cuda" if found else "cpu",
    )


def read_gpus(answer: dict[str, Any]) -> tuple[list[gpus.Gpu], tuple[str, ...]]:
    """The GPUs that a pod's nvidia-smi described, and its lines that describe none, or why it has no answer."""
    found, unread = gpus.parse(answer["text"])
    if not answer["text"].strip() and answer["error"]:
        unread = [one_line(answer["error"])]
    return found, tuple(unread)


def _gpu_processes(told: list[dict[str, Any]], cards: list[Gpu]) -> tuple[GpuProcess, ...]:
    ids = {card.uuid: card.id for card in cards}
    return tuple(
        GpuProcess(process["pid"], ids[process["uuid"]], process["mib"], process["name"])
        for process in told
        if process["uuid"] in ids
    )
