"""Input and output of the planner: a request, the facts of a pod, a launch plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pi.model_id import ModelId
from pi.planning.adapters import Adapter, AdapterFacts
from pi.planning.estimate import MemorySum
from pi.planning.measurements import Measurements, Setting
from pi.planning.model_card import ModelCard
from pi.planning.split import Split
from pi.pods.gpus import Gpu
from pi.pods.types import Deployment, Provider
from pi.vllm.arguments import Arguments
from pi.vllm.venvs import VENV

FIRST_PORT = 8001
"""Port of the first model on a pod."""


Device = Literal["cuda", "cpu", "amd", "unknown"]
"""What a pod computes on. pi rejects AMD GPUs, and GPUs that nvidia-smi does not show ("unknown")."""


@dataclass(frozen=True)
class Request:
    """A user's request. `memory` is a share of each GPU, 0 to 1.

    `vllm_args` replace pi's arguments; `set_args` and `env` are laid over them (see `pi.planning.overrides`).
    `for_throughput` takes all idle GPUs of a kind, to serve many users.
    """

    model: ModelId
    name: str
    gpus: int | None = None
    memory: float | None = None
    context: int | None = None
    variant: str | None = None
    vllm_args: Arguments | None = None
    for_throughput: bool = False
    set_args: Arguments = field(default_factory=Arguments)
    env: Mapping[str, str] = field(default_factory=dict)
    adapters: tuple[Adapter, ...] = ()
    adapter_args: Arguments = field(default_factory=Arguments)
    """Arguments that serve the adapters, once their ranks are known."""
    text_only: bool = False
    tensor: int | None = None
    """Tensor-parallel size, if the user set it; then it is also the number of GPUs."""
    replicas: int = 0
    """How many servers share the work behind one endpoint; 0: one server without it."""
    replica_of: str = ""
    """The name that requests use, if this is one of several replicas with names of their own."""
    draft: bool | None = None
    """Whether to draft tokens (speculative decoding); None leaves it to the catalog."""


@dataclass(frozen=True)
class GpuProcess:
    """A process that uses a GPU. `deployment` is None if pi did not start it."""

    pid: int
    gpu: int
    mib: int
    deployment: str | None = None


@dataclass(frozen=True)
class PodFacts:
    """The state of a pod: its GPUs with their memory in use, its deployments.

    `config` and `weights_bytes` describe the requested model, if its files could be read.
    With several equal pods (`nodes`), GPUs and deployments are those of each pod.
    """

    gpus: tuple[Gpu, ...]
    taken_ports: frozenset[int] = frozenset()
    deployments: tuple[Deployment, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    """Processes on the GPUs that nvidia-smi lists."""
    unread_gpus: tuple[str, ...] = ()
    """Lines of nvidia-smi that do not describe a GPU, or its error."""
    vllm_version: str | None = None
    """Version of vLLM in ~/venv."""
    extra_venvs: Mapping[str, str] = field(default_factory=dict)
    """Version of vLLM in each extra venv, by folder."""
    memory_mib: int = 0
    cpus: int = 1
    disk_free_gib: float | None = None
    config: Mapping[str, Any] | None = None
    weights_bytes: int | None = None
    model_at: str | None = None
    """Where the requested model's files are: "path" or "absent" for a path, "cached" or "missing" for a hub id."""
    model_card: ModelCard = field(default_factory=ModelCard)
    """What the requested model's repository says."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the weights of the catalog's checkpoints, by id, as their files or the hub tell them."""
    adapters: Mapping[str, AdapterFacts] = field(default_factory=dict)
    """Facts of the requested adapters, by repository or path."""
    device: Device = "cuda"
    without_code: frozenset[int] = frozenset()
    """Ids of the GPUs that no PyTorch of the pod has code for, by setup's tests."""
    nodes: int = 1
    prices: Mapping[str, float] = field(default_factory=dict)
    """What the user pays for a GPU hour, by kind."""
    measurements: Measurements = field(default_factory=dict)
    """What vLLM measured at earlier starts, on any pod."""
    provider: Provider | None = None
    """The provider that the pod can ask to stop it."""

    @property
    def is_cpu(self) -> bool:
        return self.device == "cpu"

    @property
    def free_port(self) -> int:
        """The lowest free port from 8001 on."""
        taken = self.taken_ports | {deployment.port for deployment in self.deployments}
        return next(port for port in range(FIRST_PORT, 65536) if port not in taken)


@dataclass(frozen=True)
class LaunchPlan:
    """Everything that a start needs. `args` follow `vllm serve MODEL`, without names, host and port.

    `model` is what vLLM loads; it may be another checkpoint than the requested one. `context` is in tokens
    (None: the model's own); with `--max-model-len auto` it is an estimate. `why` has one sentence per decision.
    """

    model: ModelId
    name: str
    served_names: tuple[str, ...]
    port: int
    gpus: tuple[int, ...]
    args: Arguments
    env: Mapping[str, str]
    context: int | None = None
    memory_share: float | None = None
    api: str = "chat"
    """What it answers to (see `pi.pods.apis`)."""
    packages: tuple[str, ...] = ()
    min_vllm: str | None = None
    venv: str = VENV
    """Folder of the venv whose vLLM serves the model."""
    vllm_version: str | None = None
    """Version of vLLM in that venv, or None if unknown."""
    memory: MemorySum | None = None
    why: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    variant: str | None = None
    split: Split = field(default_factory=Split)
    nodes: int = 1
    download_gb: float | None = None
    """Size of the weights' files in 10^9 bytes, or None if unknown."""
    estimated: bool = False
    """Whether that size is an estimate, because neither the files nor the hub told it."""
    fixed: frozenset[str] = frozenset()
    """Options of vLLM whose values the user set, such as "--max-num-seqs"; pi never changes them."""
    reads_words: bool = False
    """Whether the pod's vLLM must read the arguments before the download, because a user wrote some."""
    adapters: tuple[str, ...] = ()
    """Names of the LoRA adapters that requests may use."""
    corrections: Mapping[str, str] = field(default_factory=dict)
    """Values that an earlier start or try required, by option."""
    setting: Setting | None = None
    """Under which vLLM's own figures of a start are kept; None if its vLLM or its files are unknown."""
    predicted: MemorySum | None = None
    """The sum without figures of an earlier start, if `memory` has some."""
    measured_on: str = ""
    """The day of these figures."""
