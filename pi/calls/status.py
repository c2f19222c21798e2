"""`status` on the pod: every deployment, its GPUs and storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi.calls.call import call
from pi.calls.records import deployment
from pi.calls.survey import read_gpus
from pi.planning.venvs import extra_venvs
from pi.pods import gpus
from pi.pods.gpus import Gpu
from pi.pods.types import Deployment
from pi.ssh.link import Link
from pi.vllm.log import explain


@dataclass(frozen=True)
class Found:
    """One deployment as the pod sees it now. `state` is running, starting, unresponsive, crashed or rebooted."""

    deployment: Deployment
    state: str
    exit_code: int | None
    ended_s_ago: float | None
    """By the pod's uptime: its time of day may be wrong, or be set meanwhile."""
    cause: str | None
    """Why it crashed, from its log, or why a server that answers is not taken for this deployment."""
    last_lines: tuple[str, ...]
    """How the log of a crashed one ends."""
    left: tuple[int, ...]
    """Processes of it that still live though its server does not."""
    held_mib: int
    """GPU memory that they hold, as far as nvidia-smi tells."""
    strangers: tuple[str, ...]
    """Who else listens on its port, such as "pid 77 (python3)"."""
    phase: str | None = None
    """What a starting one is at: downloading or loading."""


@dataclass(frozen=True)
class Status:
    found: tuple[Found, ...]
    gpus: tuple[Gpu, ...]
    unread_gpus: tuple[str, ...]
    """Lines of nvidia-smi that describe no GPU, or why it has no answer."""
    storage: str | None
    """What keeps the pod's models from being reached."""
    vllm_version: str | None
    beside: dict[str, str]
    public: dict[str, str]
    boot_id: str
    boot: str
    """The machine and its boot: pods that share it are one machine."""
    up_s: float
    """Seconds since the pod was started."""


def read_status(link: Link) -> Status:
    """What every deployment of the pod is doing, and its GPUs, in one call."""
    result = call(link, "status", "status", {"gpu_query": gpus.QUERY})
    cards, unread = read_gpus(result["gpus"])
    return Status(
        tuple(_found(record) for record in result["deployments"]),
        tuple(cards),
        unread,
        result["storage"],
        result["vllm_version"],
        extra_venvs(result["beside"]),
        result["public"],
        result["boot_id"],
        str(result["boot"]),
        result["up_s"],
    )


LAST_LINES = 3


def _found(record: dict[str, Any]) -> Found:
    log = record.get("log", "") if record["state"] == "crashed" else ""
    return Found(
        deployment=deployment(record),
        state=str(record["state"]),
        exit_code=record["exit"],
        ended_s_ago=record["ended_s_ago"],
        cause=explain(log, record["exit"]).cause if log else record.get("objection"),
        last_lines=tuple(line for line in log.splitlines() if line.strip())[-LAST_LINES:],
        left=tuple(record.get("left", ())),
        held_mib=sum(record.get("held_mib", {}).values()),
        strangers=tuple(record.get("strangers", ())),
        phase=record.get("phase"),
    )
