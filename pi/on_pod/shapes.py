"""Shapes of requests and answers between pi and a pod, and of a deployment's record; `events` has the events.

Both ends use them: mypy checks the code against them, and `pi.calls.validation` checks what arrives.
They need Python 3.8: optional keys stand in a `total=False` base class, and types that Python evaluates at run
time come from `typing`.
"""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional, TypedDict

Status = Literal["starting", "running"]
"""What a record says of its deployment."""

ModelState = Literal["running", "starting", "unresponsive", "crashed", "rebooted"]
"""What a deployment is doing now; "rebooted" if its pod was restarted since."""

ModelPlace = Literal["path", "absent", "cached", "missing"]
"""Where a model's files are: "path" or "absent" for a path on the pod, "cached" or "missing" for a hub id."""

StopFound = Literal["running", "starting", "leftovers", "nothing"]
"""What a stop found of a deployment; "starting" if its server was not launched yet."""

LogEnding = Literal["exited", "stopped"]


# --- a deployment's record


class Reservation(TypedDict):
    """The part of a record that pi chooses. `by` names the pi that started it, `venv` the folder of its vLLM."""

    name: str
    model: str
    port: int
    gpus: List[int]
    memory_share: Optional[float]
    api: str
    private: bool
    venv: str
    instance: str
    by: str


class _RecordOptions(TypedDict, total=False):
    """Keys that come while a start proceeds, and those that records of older versions lack."""

    memory_share: Optional[float]
    api: str
    private: bool
    venv: str
    by: str
    created: float
    boot_id: str
    owner: int
    owner_started: int
    session: int
    phase: str
    pid: int
    started: int
    side_doors: List[int]
    ready_after_s: float
    stopping: bool


class Record(_RecordOptions):
    """`record.json` of a deployment.

    `owner` is the process that starts it, `pid` its server, and `session` the session of its processes.
    `created` is the pod's uptime in seconds; `started` and `owner_started` are start times in ticks.
    """

    name: str
    model: str
    port: int
    gpus: List[int]
    status: Status
    instance: str


class LiveRecord(Record):
    """A record with the deployment's present state. `exit` and `ended_s_ago` tell how and when its server ended."""

    state: ModelState
    exit: Optional[int]
    ended_s_ago: Optional[float]


class _StatusOptions(TypedDict, total=False):
    other_processes: List[str]
    objection: str
    log: str
    left: List[int]
    held_mib: Dict[str, int]


class DeploymentStatus(LiveRecord, _StatusOptions):
    """A deployment as `status` reports it.

    `other_processes` listen on its port too, `objection` says why an answering server is not this deployment,
    `left` are processes that outlived the server, and `held_mib` is the GPU memory of each of them by pid.
    """


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


class ModelSize(TypedDict):
    """A model's config.json, and the size of the weights that vLLM loads; None if unknown."""

    config: Optional[Dict[str, Any]]
    weights_bytes: Optional[int]


class _ModelOptions(TypedDict, total=False):
    config: Optional[Dict[str, Any]]
    weights_bytes: Optional[int]


class ModelFacts(_ModelOptions):
    """The requested model on this pod; without `config` and `weights_bytes` if its files are not there."""

    where: ModelPlace


class Survey(TypedDict):
    """What a pod has and what is in use. `extra_venvs` are vLLM versions by folder; `public` maps ports."""

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


# --- requests


class SurveyRequest(TypedDict):
    """With `ask_hub`, the hub describes a model that is not on the pod."""

    model: Optional[str]
    ask_hub: bool
    gpu_query: str


class StartRequest(SurveyRequest):
    name: str


class Launch(TypedDict):
    """pi's answer to the survey of a start: what to reserve, and the files of the launch by name."""

    record: Reservation
    files: Dict[str, str]
    key: str
    timeout_s: Optional[int]


class StatusRequest(TypedDict):
    gpu_query: str


class StopRequest(TypedDict):
    """No names mean every deployment."""

    names: List[str]


class LogsRequest(TypedDict):
    name: str
    lines: int
    follow: bool


class AuditRequest(TypedDict):
    lines: int


class SetupRequest(TypedDict):
    """`environment` is that of pod_setup.sh; `files` are texts by path under ~/.pi."""

    name: str
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
    """`storage` says why the pod's models are out of reach; `up_s` is the pod's uptime in seconds."""

    deployments: List[DeploymentStatus]
    storage: Optional[str]
    boot_id: str
    boot: str
    up_s: float
    gpus: NvidiaSmi
    vllm_version: Optional[str]
    extra_venvs: Dict[str, str]
    public: Dict[str, str]


class _StopOptions(TypedDict, total=False):
    forced_after_s: Optional[float]
    memory_proven: bool
    other_processes: List[str]


class StopAnswer(_StopOptions):
    """How one deployment was stopped.

    KILL was sent after `forced_after_s` seconds; `memory_proven` is false if nvidia-smi does not answer.
    """

    name: str
    found: StopFound


class LogsAnswer(TypedDict):
    """How the server of a followed log ended; `how` is None if only the log ended."""

    how: Optional[LogEnding]
    exit: Optional[int]


class SetupFacts(TypedDict, total=False):
    """Facts that pod_setup.sh printed, each a list of lines."""

    gpu: List[str]
    vllm_version: List[str]
    beside: List[str]
    models_path: List[str]
    python: List[str]


class SetupAnswer(_MachineOption):
    facts: SetupFacts
    boot: str
