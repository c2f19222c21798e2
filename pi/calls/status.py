"""`status` on the pod: every deployment, its GPUs and storage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pi import screen
from pi.calls.call import call
from pi.calls.gpus import read_gpus
from pi.calls.records import deployment
from pi.on_pod import record_shapes as shapes
from pi.on_pod.record_shapes import ModelState
from pi.on_pod.shapes import NamedGpuUse, StatusAnswer, StatusRequest
from pi.on_pod.status_shapes import DeploymentStatus
from pi.pods import gpus
from pi.pods.gpus import Gpu
from pi.pods.types import Deployment
from pi.text import one_line
from pi.vllm.log import explain
from pi.vllm.start_facts import StartFacts
from pi.vllm.venvs import extra_venvs

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class GpuMemory:
    """GPU memory of a deployment. Without `of_processes`, nvidia-smi hides them: all memory in use on its GPUs."""

    mib: int
    of_processes: bool


@dataclass(frozen=True)
class Found:
    """One deployment as the pod sees it now."""

    deployment: Deployment
    state: ModelState
    exit_code: int | None
    ended_s_ago: float | None
    """By the pod's uptime, because its time of day may be wrong or change."""
    cause: str | None
    """Why it crashed, from its log, or why pi does not accept a server that answers."""
    last_lines: tuple[str, ...]
    """The last lines of the log of a crashed one."""
    left: tuple[int, ...]
    """Its processes that outlived its server."""
    held_mib: int
    """GPU memory of these processes, if nvidia-smi reports it."""
    other_processes: tuple[str, ...]
    """Other processes that listen on its port, such as "pid 77 (python3)"."""
    phase: str | None = None
    """What a starting one does: downloading or loading."""
    asked_s_ago: float | None = None
    """Age of the last request that its guard admitted; None if there was none."""
    context: int | None = None
    """Its longest context in tokens, as its server reported it when it was ready."""
    launched: float | None = None
    """The pod's uptime when its server was launched."""
    ready_after_s: float | None = None
    """How long its start took, with the download."""
    idle_s: int | None = None
    """After how long without a request it ends; None if it does not."""
    gpu_memory: GpuMemory | None = None
    restarts: int = 0
    """How often its launcher has started it again after a failure."""
    hung_s: float | None = None
    """For how long its server hangs, by its watchdog; None if it does not."""
    on_idle: str | None = None
    """How the pod ends with it, "runpod", "vast" or "command"; None if it stays."""
    pod_stop: str = ""
    """What became of that."""
    unguarded: bool = False
    """Whether the rules of the firewall between its pods are gone."""
    servers: Mapping[str, str] | None = None
    """The replicas of an endpoint that runs, with HAProxy's states; None for other deployments."""


@dataclass(frozen=True)
class Unrecorded:
    """A model whose record on the pod is missing or damaged; `problem` is empty if it is missing."""

    name: str
    problem: str
    pids: tuple[int, ...]
    """Its living processes."""
    model: str | None
    port: int | None
    gpus: tuple[int, ...]


@dataclass(frozen=True)
class Status:
    """All deployments of a pod, and the pod itself."""

    found: tuple[Found, ...]
    unrecorded: tuple[Unrecorded, ...]
    gpus: tuple[Gpu, ...]
    unread_gpus: tuple[str, ...]
    """Lines of nvidia-smi that do not describe a GPU, or why it does not answer."""
    storage: str | None
    """Why the pod's models are out of reach; None if they are not."""
    full: str | None
    """A folder on the pod whose disk is full; None if there is none."""
    vllm_version: str | None
    extra_venvs: dict[str, str]
    """Versions of vLLM in the extra venvs, by folder."""
    public: dict[str, str]
    boot_id: str
    boot: str
    """The machine and its boot: pods that share it are one machine."""
    machine: str
    """The machine, whatever its boot and address; empty if no setup gave it an id."""
    up_s: float
    """Seconds since the pod was started."""

    @property
    def names(self) -> set[str]:
        """Return the names of all models that the pod knows."""
        return {found.deployment.name for found in self.found} | {model.name for model in self.unrecorded}

    def named(self, name: str) -> Found | None:
        """Return the deployment of this name, or None."""
        return next((found for found in self.found if found.deployment.name == name), None)


def read_status(connection: Connection, meanwhile: Callable[[], object] = lambda: None) -> Status:
    """Return the state of every deployment and of the pod, in one call; `meanwhile` is called while the pod works."""
    request: StatusRequest = {"gpu_query": gpus.QUERY}
    result = call(connection, "status", "status", request, StatusAnswer, meanwhile=meanwhile)
    cards, unread = read_gpus(result["gpus"])
    return Status(
        found=tuple(with_memory(found_of(each), cards, result["gpu_processes"]) for each in result["deployments"]),
        unrecorded=tuple(map(_unrecorded, result["unrecorded"])),
        gpus=tuple(cards),
        unread_gpus=unread,
        storage=result["storage"],
        full=result["full"],
        vllm_version=result["vllm_version"],
        extra_venvs=extra_venvs(result["extra_venvs"]),
        public=result["public"],
        boot_id=result["boot_id"],
        boot=result["boot"],
        machine=result.get("machine", ""),
        up_s=result["up_s"],
    )


def with_memory(found: Found, cards: list[Gpu], uses: list[NamedGpuUse]) -> Found:
    """Return a deployment with its GPU memory: that of its processes on its own GPUs, else all in use there."""
    own = {card.id: card for card in cards if card.id in found.deployment.gpus}
    if not own or set(own) != set(found.deployment.gpus) or not (found.left or found.state in LIVING):
        return found
    uuids = {card.uuid for card in own.values()}
    held = [use["mib"] for use in uses if use["name"] == found.deployment.name and use["uuid"] in uuids]
    if held:
        return replace(found, gpu_memory=GpuMemory(sum(held), True))
    return replace(found, gpu_memory=GpuMemory(sum(card.used_mib for card in own.values()), False))


def _unrecorded(model: shapes.Unrecorded) -> Unrecorded:
    return Unrecorded(
        name=model["name"],
        problem=model["problem"],
        pids=tuple(model["pids"]),
        model=model["model"],
        port=model["port"],
        gpus=tuple(model["gpus"]),
    )


LAST_LINES = 3

NO_SIGN = "without an answer or progress; pi explain says where"
LIVING: tuple[ModelState, ...] = ("running", "starting", "unresponsive")

LONGEST_OPTIONS = 8192
"""Characters of a model's options, which go into pods.json."""


def _cause(log: str, record: DeploymentStatus) -> str:
    return explain(log, record["exit"], StartFacts(kernel=tuple(record.get("kernel", ())))).cause


def found_of(record: DeploymentStatus) -> Found:
    """Return a deployment as the pod reports it, with the cause of a crash."""
    log = record.get("log", "") if record["state"] == "crashed" else ""
    options = record.get("options", {})
    fits = len(json.dumps(options)) <= LONGEST_OPTIONS
    hung_s = record.get("hung_s")
    silence = None if hung_s is None else f"hung since {screen.clock(time.time() - hung_s)}, {NO_SIGN}"
    return Found(
        deployment=replace(deployment(record), options=options if fits else {}),
        state=record["state"],
        exit_code=record["exit"],
        ended_s_ago=record["ended_s_ago"],
        cause=record.get("link") or (_cause(log, record) if log else record.get("objection", silence)),
        last_lines=tuple(line for line in log.splitlines() if line.strip())[-LAST_LINES:],
        left=tuple(record.get("left", ())),
        held_mib=sum(record.get("held_mib", {}).values()),
        other_processes=tuple(record.get("other_processes", ())),
        phase=record.get("phase"),
        asked_s_ago=record.get("asked_s_ago"),
        context=record.get("context"),
        launched=record.get("launched"),
        ready_after_s=record.get("ready_after_s"),
        idle_s=record.get("idle_s"),
        restarts=record.get("restarts", 0),
        hung_s=hung_s,
        on_idle=record.get("on_idle"),
        pod_stop=one_line(record.get("pod_stop", ""), 400),
        unguarded=record.get("unguarded", False),
        servers=record.get("servers", {}) if "replicas" in record else None,
    )
