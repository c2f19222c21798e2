"""Shapes of requests and answers between pi and a pod, and of a deployment's record; `events` has the events.

Both ends use them: mypy checks the code against them, and `pi.calls.validation` checks what arrives.
`record_shapes` has the shapes of records. They need Python 3.8: optional keys stand in a `total=False` base class,
and types that Python evaluates at run time come from `typing`.
"""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional, TypedDict

from pi.on_pod.record_shapes import LiveRecord, Record, Reservation, Unrecorded
from pi.on_pod.status_shapes import DeploymentStatus

ModelPlace = Literal["path", "absent", "cached", "missing"]
"""Where a model's files are: "path" or "absent" for a path on the pod, "cached" or "missing" for a hub id."""

StopFound = Literal["running", "starting", "leftovers", "unrecorded", "nothing"]
"""What a stop found of a deployment; "starting" if its server was not launched yet, "unrecorded" if it ran without a
valid record."""

LogChoice = Literal["log", "previous", "setup"]

LogEnding = Literal["exited", "stopped"]


# --- facts of a pod


class NvidiaSmi(TypedDict):
    """The raw answer of nvidia-smi, and why it failed."""

    text: str
    error: Optional[str]


class GpuUse(TypedDict):
    """The memory of one process on one GPU."""

    pid: int
    uuid: str
    mib: int


class NamedGpuUse(GpuUse):
    """`name` is the deployment of the process; None for a process that is not pi's."""

    name: Optional[str]


VerdictKind = Literal["served", "removed", "plugin", "unknown", "format"]
"""What a vLLM says of a model: "removed" in a later release, only with a "plugin", "unknown" to it, or a number
"format" that it does not load."""


class Verdict(TypedDict):
    """`what` is the architecture or number format, `detail` the last release or the plugin's address."""

    verdict: VerdictKind
    what: str
    detail: str


class ModelCard(TypedDict):
    """What a repository says about its model.

    `base_models` are the models that it was made from. `template` has the marks in the chat template (None: unknown).
    `consolidated` means weights in Mistral's format, `pooling` a Sentence Transformers model, `adapter` LoRA weights
    only. `gguf` are file names.
    """

    base_models: List[str]
    template: Optional[List[str]]
    consolidated: bool
    pooling: bool
    adapter: bool
    gguf: List[str]


class _ModelOptions(TypedDict, total=False):
    config: Optional[Dict[str, Any]]
    weights_bytes: Optional[int]
    card: ModelCard
    absent: bool
    verdicts: Dict[str, Verdict]


class ModelFacts(_ModelOptions):
    """The requested model on this pod or on the hub.

    `config` is its config.json, `weights_bytes` the size of the weights that vLLM loads; None or missing if unknown.
    `absent` means that the hub has no such repository, or none for the pod's token. `verdicts` are those of the
    pod's vLLMs, by the folder of the venv.
    """

    where: ModelPlace


class AdapterFacts(TypedDict):
    """What adapter_config.json says of a LoRA adapter: its highest rank, its base model. None if unknown."""

    where: ModelPlace
    rank: Optional[int]
    base: Optional[str]


class Provider(TypedDict):
    """A provider that a pod can ask to stop it, "runpod" or "vast", and the provider's id of the pod."""

    name: str
    id: str


class _SurveyOptions(TypedDict, total=False):
    provider: Optional[Provider]
    adapters: Dict[str, AdapterFacts]
    architectures: Dict[str, List[str]]


class Survey(_SurveyOptions):
    """What a pod has and what is in use.

    `extra_venvs` are vLLM versions by folder; `public` maps ports; `adapters` are the requested ones, if any. `sizes`
    are the bytes of the requested checkpoints' weights, as far as their files or the hub tell them. `architectures` are
    those that PyTorch was built for, by the folder of its venv. `provider` can stop the pod.
    """

    gpus: NvidiaSmi
    gpu_processes: List[NamedGpuUse]
    ports: List[int]
    records: List[LiveRecord]
    vllm_version: Optional[str]
    extra_venvs: Dict[str, str]
    memory_mib: int
    cpus: int
    disk_free_bytes: int
    public: Dict[str, str]
    model: Optional[ModelFacts]
    sizes: Dict[str, int]


# --- requests


class SurveyRequest(TypedDict):
    """With `ask_hub`, the hub describes a model that is not on the pod.

    `checkpoints` are ids to be sized; `adapters` are repositories or paths.
    """

    model: Optional[str]
    ask_hub: bool
    checkpoints: List[str]
    gpu_query: str
    adapters: List[str]


class StartRequest(SurveyRequest):
    name: str


class Repository(TypedDict):
    """A repository of the hub that vLLM reads. Without `weights`, only its small files.

    `load_format` is vLLM's `--load-format`, which decides the weights to fetch.
    """

    id: str
    revision: Optional[str]
    weights: bool
    load_format: str


class ArgumentCheck(TypedDict):
    """A program for the venv's Python that reads words as vLLM does, and the names of variables to look up."""

    program: str
    words: List[str]
    variables: List[str]
    environment: Dict[str, str]


class Compiling(TypedDict):
    """What decides which compiled code a start can read: the kind of GPU, and a digest of all its arguments."""

    card: str
    digest: str


class Launch(TypedDict):
    """pi's answer to the survey of a start: what to reserve, and the files of the launch by name.

    `load_format` is vLLM's `--load-format`, which decides the weights to fetch.
    `check` is None if no user wrote arguments. `revision` is the model's; `repositories` are fetched beside it.
    `hub_environment` are variables of the downloads. If `alone`, no pi waits to correct a failed try.
    """

    record: Reservation
    files: Dict[str, str]
    load_format: str
    key: str
    timeout_s: Optional[int]
    check: Optional[ArgumentCheck]
    revision: Optional[str]
    repositories: List[Repository]
    hub_environment: Dict[str, str]
    alone: bool
    compiling: Compiling


class Relaunch(TypedDict):
    """A launch with a corrected argument: the files that change, by name, and the share of each GPU's memory."""

    files: Dict[str, str]
    memory_share: Optional[float]
    compiling: Compiling


class Retry(TypedDict):
    """pi's answer to a failed first try; None if pi has no correction."""

    relaunch: Optional[Relaunch]


class StatusRequest(TypedDict):
    gpu_query: str


class StopRequest(TypedDict):
    """No names mean every deployment."""

    names: List[str]


class LogsRequest(TypedDict):
    """`which` log: a model's present or previous one, or that of the last setup. `grep` is a text, not a pattern."""

    name: str
    which: LogChoice
    lines: int
    since_s: Optional[int]
    grep: Optional[str]
    follow: bool


class ExplainRequest(TypedDict):
    name: Optional[str]


class AuditRequest(TypedDict):
    lines: int


class SetupRequest(TypedDict):
    """`environment` is that of pod_setup.sh; `files` are texts by path under ~/.pi; `check` asks what comes first.

    With `keeps_token`, HF_TOKEN of the env.sh on the pod stays.
    """

    name: str
    check: Any
    keeps_token: bool
    environment: Dict[str, str]
    files: Dict[str, str]


class FollowRequest(TypedDict):
    """Follow the call of this name, from the event after the first `after`."""

    call: str
    after: int


class Call(TypedDict):
    """The line that follows the program: the verb to run, and the mark of its events.

    `journal` names the call if a later call may follow it; `who` is the user and machine for the audit log.
    """

    module: str
    verb: str
    mark: str
    who: str
    request: Any
    journal: Optional[str]


# --- answers


class StartAnswer(TypedDict):
    """`side_doors` are other ports on which its processes listen to the network without a key."""

    record: Record
    side_doors: List[int]


class _MachineOption(TypedDict, total=False):
    """`machine` identifies the machine after a reboot too (`pi.on_pod.machine`); empty if no setup gave it an id."""

    machine: str


class StatusAnswer(_MachineOption):
    """`storage` says why the pod's models are out of reach; `up_s` is the pod's uptime in seconds.

    `full` is the first of pi's folders whose disk is full. `gpu_processes` are none if nvidia-smi hides them, or if no
    deployment has a GPU.
    """

    deployments: List[DeploymentStatus]
    unrecorded: List[Unrecorded]
    storage: Optional[str]
    full: Optional[str]
    boot_id: str
    boot: str
    up_s: float
    gpus: NvidiaSmi
    gpu_processes: List[NamedGpuUse]
    vllm_version: Optional[str]
    extra_venvs: Dict[str, str]
    public: Dict[str, str]


class _StopOptions(TypedDict, total=False):
    rank: int
    members: List[str]
    machines: List[str]
    group: str
    firewall: str
    forced_after_s: Optional[float]
    memory_proven: bool
    other_processes: List[str]


class StopAnswer(_StopOptions):
    """How one deployment was stopped.

    KILL was sent after `forced_after_s` seconds; `memory_proven` is false if nvidia-smi does not answer.
    Of one over several pods, `rank` and what follows are those of its record. `firewall` says why its rules stay.
    """

    name: str
    found: StopFound


class AskedAnswer(TypedDict):
    """The seconds since the pod's last request, to the minute; None if there was none."""

    s_ago: Optional[float]


class LogsAnswer(TypedDict):
    """How the server of a followed log ended; `how` is None if only the log ended."""

    how: Optional[LogEnding]
    exit: Optional[int]


class SetupFacts(TypedDict, total=False):
    """Facts that pod_setup.sh printed, each a list of lines."""

    vllm_version: List[str]
    beside: List[str]
    models_path: List[str]
    python: List[str]


class SetupAnswer(_MachineOption):
    facts: SetupFacts
    boot: str
