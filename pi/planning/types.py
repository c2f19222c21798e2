"""What goes into the planner and what comes out: a request, a pod as it is, a launch plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pi.planning.estimate import MemorySum, Split
from pi.pods.gpus import Gpu
from pi.pods.types import Deployment

VENV = "venv"
"""The folder in a pod's home that holds its Python and vLLM; others may lie beside it (see `pi.planning.venvs`)."""


@dataclass(frozen=True)
class Request:
    """What a user asks for. `memory` is a share of each GPU, 0 to 1; `vllm_args` replace pi's own arguments."""

    model: str
    name: str
    gpus: int | None = None
    memory: float | None = None
    context: int | None = None
    variant: str | None = None
    vllm_args: tuple[str, ...] | None = None


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU, and the deployment that it belongs to; None for one that is not pi's."""

    pid: int
    gpu: int
    mib: int
    deployment: str | None = None


@dataclass(frozen=True)
class PodFacts:
    """What is true of a pod now: its GPUs with `used_mib` as just read, and what runs or starts there.

    `config` and `weights_bytes` describe the requested model where it is not in the catalog and its files
    could be read. With `nodes` pods alike, the GPUs and deployments are those of each.
    """

    gpus: tuple[Gpu, ...]
    taken_ports: frozenset[int] = frozenset()
    deployments: tuple[Deployment, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    """Who computes on the GPUs, as far as nvidia-smi tells."""
    unread_gpus: tuple[str, ...] = ()
    """Lines of nvidia-smi that describe no GPU, or why it has no answer."""
    vllm_version: str | None = None
    """Of the vLLM in ~/venv."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Versions of the vLLMs in venvs beside ~/venv, by the name of their folder."""
    memory_mib: int = 0
    cpus: int = 1
    disk_free_gib: float | None = None
    config: Mapping[str, Any] | None = None
    weights_bytes: int | None = None
    model_at: str | None = None
    """Where the requested model's files are: "path" or "absent" (a path), "cached" or "missing" (a hub id)."""
    device: str = "cuda"
    nodes: int = 1


@dataclass(frozen=True)
class LaunchPlan:
    """Everything that a start needs to know; `args` follow `vllm serve MODEL`, without names, host and port.

    `model` is what vLLM loads, which may be another checkpoint than the user named. `context` is in tokens
    (None: the model's own), an estimate where `--max-model-len auto` is among the arguments. `why` holds one
    sentence for each decision, `warnings` what the user should be told.
    """

    model: str
    name: str
    served_names: tuple[str, ...]
    port: int
    gpus: tuple[int, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    context: int | None = None
    memory_share: float | None = None
    api: str = "chat"
    packages: tuple[str, ...] = ()
    vllm_floor: str | None = None
    venv: str = VENV
    """The folder in the pod's home whose vLLM serves the model."""
    vllm_version: str | None = None
    """Of the vLLM in that folder, where it is known."""
    memory: MemorySum | None = None
    why: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    variant: str | None = None
    split: Split = field(default_factory=Split)
    nodes: int = 1
    download_gb: float | None = None
    """Size of the weights' files in 10^9 bytes, where it is known."""


def served_names(model: str, request: Request) -> tuple[str, ...]:
    """What the server answers to: the id that it loads, the one that was asked for, the local name."""
    return tuple(dict.fromkeys((model, request.model, request.name)))


def share_text(share: float) -> str:
    """A share as vLLM's argument spells it."""
    return f"{share:g}"
