"""The JSON that verbs print with `--json`. docs/json.md has their schemas, which `inv docs` makes of these types.

New keys may come; existing ones keep their meaning.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from pi.planning.offers import Offer
from pi.planning.plan_json import PlanJson


class ErrorJson(TypedDict):
    """Why a pod did not answer. `id` names the kind of error, `hint` what to do next."""

    id: str
    message: str
    hint: str | None
    exit_code: int


class GpuJson(TypedDict):
    """A GPU of a pod; memory in MiB."""

    index: int
    name: str
    memory_mib: int
    used_mib: int | None


class ModelJson(TypedDict):
    """A model on a pod. `sentence` explains the state. `context` is in tokens, as the server reports it.

    `url` is None unless the model runs and listens to the network; `exit_code` and `cause` are those of a crash.
    `up_seconds` is the time since its server was launched, `idle_seconds` that since its last request, to the minute.
    `ready_after_seconds` is how long its start took, with the download.
    `gpu_memory_mib` is what its processes hold by nvidia-smi; with the source "gpus" all that is in use on its GPUs:
    in some containers nvidia-smi hides processes.
    `restarts` counts how often `--restart` started it again; `stop_after_idle_s` is the time of `--stop-after-idle`,
    `door_stops_after_s` that of `pi door --ttl`: the shorter one counts.
    `hung_seconds` is for how long its server gives no sign of life; None if it does not hang.
    `on_idle` is how the pod ends after it ("runpod", "vast", "command"), `pod_stop` a sentence on what became of that.
    `replicas` are those of a model with `--replicas`, by name, with HAProxy's states such as UP or DOWN. Each of them
    is a model, too, and its `replica_of` names the one that requests use. Another pod with more of them is there by its
    name.
    `pods` are those of a model with `--across`, the head first, and `rank` is the place of this part among them.
    """

    name: str
    model: str
    state: Literal["running", "starting", "unresponsive", "crashed", "stopped", "unrecorded", "gone"]
    sentence: str
    gpus: list[int]
    gpu_memory_mib: int | None
    gpu_memory_source: Literal["processes", "gpus"] | None
    port: int
    context: int | None
    url: str | None
    private: bool
    api: str
    adapters: list[str]
    up_seconds: int | None
    idle_seconds: int | None
    pid: int | None
    exit_code: int | None
    cause: str | None
    ready_after_seconds: float | None
    restarts: int
    stop_after_idle_s: int | None
    door_stops_after_s: int | None
    hung_seconds: int | None
    on_idle: str | None
    pod_stop: str | None
    replica_of: str | None
    rank: int | None
    pods: list[str] | None
    replicas: dict[str, str] | None


class PodStatusJson(TypedDict):
    """A pod and its models now. With `error`, the pod did not answer, and the rest is empty.

    `cost` is that since the setup; null if the price per hour is unknown.
    """

    pod: str
    error: ErrorJson | None
    host: str | None
    up_seconds: int | None
    vllm_version: str | None
    price_per_hour: float | None
    cost: float | None
    gpus: list[GpuJson]
    warnings: list[str]
    models: list[ModelJson]


class ListJson(TypedDict):
    """`pi list --json`."""

    pods: list[PodStatusJson]


class PodJson(TypedDict):
    """A pod of pods.json; `models` are the names of its models.

    pi asks the pods only with `--pod` or `--all-pods`: then `up_seconds`, `idle_seconds` (since the last request to any
    of its models) and `used_mib` of its GPUs are known, or `error` says why not.
    """

    name: str
    active: bool
    ssh: str
    gpus: list[GpuJson]
    models: list[str]
    vllm_version: str | None
    extra_venvs: dict[str, str]
    models_path: str | None
    same_machine_as: str | None
    price_per_hour: float | None
    cost: float | None
    error: ErrorJson | None
    up_seconds: int | None
    idle_seconds: int | None


class PodsJson(TypedDict):
    """`pi pods --json`."""

    pods: list[PodJson]


class ChangeJson(TypedDict):
    """One change; `time` is in UTC. A damaged line of the log has only `result`."""

    time: str
    who: str
    command: str
    name: str
    result: str


class PodAuditJson(TypedDict):
    """The latest changes on one pod, the newest last."""

    pod: str
    error: ErrorJson | None
    changes: list[ChangeJson]


class AuditJson(TypedDict):
    """`pi audit --json`."""

    pods: list[PodAuditJson]


class KeyJson(TypedDict):
    """A key; `name` is null for that of the setup. `requests` made a model work, the last one `idle_seconds` ago."""

    name: str | None
    added: str | None
    requests: int
    idle_seconds: int | None


class PodKeysJson(TypedDict):
    """The keys of one pod, without their values."""

    pod: str
    error: ErrorJson | None
    keys: list[KeyJson]


class KeysJson(TypedDict):
    """`pi key list --json`."""

    pods: list[PodKeysJson]


class PodPlanJson(TypedDict):
    """The plan for one of several pods; with `error`, the model does not fit there, or the pod did not answer."""

    pod: str
    error: ErrorJson | None
    plan: PlanJson | None


class PlansJson(TypedDict):
    """`pi plan --json` for several pods."""

    pods: list[PodPlanJson]


class PodOffersJson(TypedDict):
    """The models that one of several pods can serve."""

    pod: str
    error: ErrorJson | None
    models: list[Offer]


class OffersJson(TypedDict):
    """`pi models --json` for several pods."""

    pods: list[PodOffersJson]


class SessionJson(TypedDict):
    """A saved conversation."""

    started: str
    model: str
    directory: str
    first: str


class SessionsJson(TypedDict):
    """`pi prompt --sessions --json`."""

    sessions: list[SessionJson]


class _OfPodJson(TypedDict, total=False):
    """The pod of a line, if there are several pods."""

    pod: str


class LogLineJson(_OfPodJson):
    """A line of `pi logs --json`: a line of the log, without its newline."""

    line: str


class LogEndJson(_OfPodJson):
    """The last line of `pi logs --json`: how the server ended; None if only the log ended."""

    ended: Literal["exited", "stopped"] | None
    exit_code: int | None


class WaitJson(TypedDict):
    """`pi wait --json`: the model when it is ready."""

    pod: str
    model: ModelJson
    waited_seconds: float


class PodWaitJson(TypedDict):
    """A model on one of several pods; with `error`, it is not ready there."""

    pod: str
    error: ErrorJson | None
    ready: WaitJson | None


class WaitsJson(TypedDict):
    """`pi wait --json` for several pods."""

    pods: list[PodWaitJson]


class EnvJson(TypedDict):
    """`pi env --json`: variables and their values; a key is only among them with `--show-key`."""

    variables: dict[str, str]


class TunnelJson(TypedDict):
    """A tunnel: a local port that connects to a model."""

    model: str
    pod: str
    url: str
    port: int
    pid: int
    is_up: bool


class DoorModelJson(TypedDict):
    """A model at the door: its requests that run now; `note` says what the door does with it, and why."""

    id: str
    pod: str
    state: Literal["running", "starting", "stopping", "stopped", "leaving"]
    requests: int
    note: str


class DoorReport(TypedDict):
    """What an open door says of itself; `problem` is why it cannot use all of its file of models."""

    models: list[DoorModelJson]
    problem: str


class DoorJson(DoorReport):
    """`pi door status --json`; without an open door, `url` and `pid` are null."""

    url: str | None
    pid: int | None
    key_file: str


class TunnelsJson(TypedDict):
    """`pi tunnel --list --json`."""

    tunnels: list[TunnelJson]


class ExplainJson(TypedDict):
    """`pi explain --json`. `line` is the line of the log that says the cause, from 1."""

    cause: str
    hint: str | None
    line: int | None


class PodExplainJson(TypedDict):
    """The cause on one of several pods; with `error`, the pod did not answer, or has no such log."""

    pod: str
    error: ErrorJson | None
    explained: ExplainJson | None


class ExplainsJson(TypedDict):
    """`pi explain --json` for several pods."""

    pods: list[PodExplainJson]


class TopModelJson(TypedDict):
    """The load of a model. Rates are per second, latencies in seconds, shares from 0 to 1.

    Percentiles are of the requests between the two samples, or of all since the server's start if there were none.
    """

    name: str
    state: str
    requests_running: int | None
    requests_waiting: int | None
    prompt_tokens_per_s: float | None
    generation_tokens_per_s: float | None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    itl_p50_s: float | None
    itl_p95_s: float | None
    kv_share: float | None
    prefix_share: float | None


class TopGpuJson(TypedDict):
    """A GPU now; None for what its driver does not tell."""

    index: int
    use_percent: float | None
    used_mib: float | None
    memory_mib: float | None
    celsius: float | None
    watts: float | None


class TopKeyJson(TypedDict):
    """Requests of a key that made a model of the pod work, in all and per second; `name` is null for the setup's key.

    `idle_seconds` is the time since its last request. The guards count at most once a second.
    """

    name: str | None
    requests: int
    requests_per_s: float | None
    idle_seconds: int | None


class TopPodJson(TypedDict):
    """A pod now. With `error`, the pod did not answer; `problem` says what is missing on it."""

    pod: str
    error: ErrorJson | None
    problem: str | None
    models: list[TopModelJson]
    gpus: list[TopGpuJson]
    keys: list[TopKeyJson]


class TopJson(TypedDict):
    """`pi top --once --json`."""

    pods: list[TopPodJson]
