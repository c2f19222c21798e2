"""Shapes of a deployment's record, which the pod keeps, and of models that have no valid one (see `shapes`)."""

from __future__ import annotations

from typing import List, Literal, Optional, TypedDict

Status = Literal["starting", "running"]
"""What a record says of its deployment."""

ModelState = Literal["running", "starting", "unresponsive", "crashed", "rebooted", "idle"]
"""What a deployment is doing now; "rebooted" if its pod was restarted since, "idle" if it ended for lack of use."""


class _Replica(TypedDict, total=False):
    """`replica_of` is the name of the endpoint in front of a replica; `replicas` are those of an endpoint."""

    replica_of: str
    replicas: List[str]


class _Span(TypedDict, total=False):
    """Of one model over several pods: the place of this pod among them, the head's is 0.

    `members` are the pods' names for the pi that started it, `machines` their ids, `addresses` those at which they
    reach each other. `group` is the same on all of them. If `closed`, the pod's firewall keeps others from their ports.
    """

    rank: int
    members: List[str]
    machines: List[str]
    addresses: List[str]
    group: str
    closed: bool


class Reservation(_Replica, _Span):
    """The part of a record that pi chooses.

    `by` names the pi that started it, `venv` the folder of its vLLM, `adapters` the names of its LoRA adapters.
    `idle_s` is after how long without a request its launcher ends it, `on_idle` what happens to the pod then.
    """

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
    adapters: List[str]
    idle_s: Optional[int]
    on_idle: Optional[str]


class _RecordOptions(_Span, total=False):
    """Keys that come while a start proceeds, and those that records of older versions lack."""

    version: int
    memory_share: Optional[float]
    api: str
    private: bool
    venv: str
    by: str
    created: float
    launched: float
    kills: Optional[int]
    boot_id: str
    owner: int
    owner_started: int
    session: int
    phase: str
    pid: int
    started: int
    side_doors: List[int]
    ready_after_s: float
    context: Optional[int]
    stopping: bool
    adapters: List[str]
    idle_s: Optional[int]
    on_idle: Optional[str]
    restarts: int
    replica_of: str
    replicas: List[str]
    elsewhere: List[str]


class Record(_RecordOptions):
    """`record.json` of a deployment.

    `owner` is the process that starts it, `pid` its server, and `session` the session of its processes.
    `created` is the pod's uptime in seconds; `started` and `owner_started` are start times in ticks.
    `context` is the server's longest context in tokens. `restarts` counts how often its launcher has started it again.
    `replicas` makes it the record of an endpoint: its process is HAProxy, in front of these. Each has `replica_of`.
    `elsewhere` are those on other pods: POD ADDRESS PORT REPLICAS. `rank` and what follows are those of `_Span`.
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


class Unrecorded(TypedDict):
    """A model whose record is missing or invalid.

    `problem` says what is wrong with the record, empty if there is none. `pids` are its living processes. `model`,
    `port` and `gpus` are what is known of it.
    """

    name: str
    problem: str
    pids: List[int]
    model: Optional[str]
    port: Optional[int]
    gpus: List[int]
