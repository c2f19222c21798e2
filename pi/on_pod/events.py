"""Shapes of the events that a pod sends to pi, and of the details of its failures (see `pi.on_pod.shapes`)."""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional, TypedDict, Union

from pi.on_pod.check_shapes import CheckAnswer
from pi.on_pod.record_shapes import ModelState
from pi.on_pod.shapes import Survey
from pi.on_pod.top_shapes import Sample

StepVerb = Literal["step", "note", "done", "skip", "fail"]
"""What pod_setup.sh reports of a step."""

FailureKind = Literal[
    "bad_arguments",
    "bench_failed",
    "damaged",
    "disk_full",
    "download_failed",
    "exited",
    "key_taken",
    "in_use",
    "killed",
    "launch_failed",
    "locked",
    "lost",
    "name_taken",
    "no_endpoint",
    "no_haproxy",
    "no_log",
    "no_model",
    "not_cached",
    "not_closed",
    "not_free",
    "not_ours",
    "not_private",
    "not_running",
    "setup_failed",
    "stalled",
    "stopped",
    "storage",
    "timeout",
    "undeletable",
    "unexpected",
    "unkillable",
    "unknown_key",
    "unreadable",
]


class LogEvent(TypedDict):
    """A piece of a log: so many bytes of UTF-8 follow this line, and a newline (`Wire.log`)."""

    event: Literal["log"]
    bytes: int


class ProgressEvent(TypedDict):
    event: Literal["progress"]
    text: str


class NoteEvent(TypedDict):
    event: Literal["note"]
    text: str


class DownloadEvent(TypedDict):
    event: Literal["download"]
    bytes: int
    bytes_per_s: int
    total: Optional[int]


class StepEvent(TypedDict):
    event: Literal["step"]
    verb: StepVerb
    step: str
    text: str


class LaunchedEvent(TypedDict):
    event: Literal["launched"]
    pid: int
    port: int


class ListeningEvent(TypedDict):
    """The pod waits for another one at this port."""

    event: Literal["listening"]
    port: int


class SurveyEvent(TypedDict):
    event: Literal["survey"]
    facts: Survey


class CheckedEvent(TypedDict):
    """The facts of a machine before its setup. pi answers whether to set it up."""

    event: Literal["checked"]
    facts: CheckAnswer


class ExitedEvent(TypedDict):
    """The first try of a start failed: the end of vLLM's log, and its exit code. pi answers with a `Retry`."""

    event: Literal["exited"]
    log: str
    exit: Optional[int]


class ProcessDetail(TypedDict):
    """A process of a deployment: its state as in /proc/PID/stat, and the stacks of its threads if it wrote them."""

    pid: int
    program: str
    state: str
    stack: str


class StillEvent(TypedDict):
    """The log of a start has not moved for some seconds."""

    event: Literal["still"]
    seconds: float
    log: str
    processes: List[ProcessDetail]


class SampleEvent(TypedDict):
    """The figures of a pod at one moment."""

    event: Literal["sample"]
    sample: Sample


class AliveEvent(TypedDict):
    event: Literal["alive"]


class DoneEvent(TypedDict):
    event: Literal["done"]
    result: Any


class FailedEvent(TypedDict):
    event: Literal["failed"]
    kind: FailureKind
    message: str
    detail: Dict[str, Any]


class CancellingEvent(TypedDict):
    """The cancel has arrived. Like a heartbeat, it is not counted and not in the journal."""

    event: Literal["cancelling"]


class CancelledEvent(TypedDict):
    event: Literal["cancelled"]


Event = Union[
    LogEvent,
    ProgressEvent,
    NoteEvent,
    DownloadEvent,
    StepEvent,
    LaunchedEvent,
    ListeningEvent,
    SurveyEvent,
    CheckedEvent,
    ExitedEvent,
    StillEvent,
    SampleEvent,
    AliveEvent,
    CancellingEvent,
    DoneEvent,
    FailedEvent,
    CancelledEvent,
]


class NoDetail(TypedDict):
    """Of kinds whose message says all."""


class NameDetail(TypedDict):
    name: str


class _ServerOptions(TypedDict, total=False):
    venv: str
    exit: Optional[int]
    kernel: List[str]
    lines_before: Optional[int]
    head: str
    still_s: float
    hung_s: float
    processes: List[ProcessDetail]
    state: ModelState


class ServerDetail(_ServerOptions):
    """How a server ended: its deployment, and its log.

    Of a long log, `log` is the end, `lines_before` the number of lines before it (None if pi did not count them), and
    `head` the beginning.
    `kernel` are lines of the kernel's log and of the container's counters about it. Of a start that took too long,
    `still_s` are the seconds since its log moved, and `processes` what they did; of a server that hangs, `hung_s` are
    those since its last sign of life. `state` is there if it has not ended.
    """

    name: str
    log: str


class DownloadDetail(TypedDict):
    log: str


class BenchDetail(TypedDict):
    """The end of the output of `vllm bench serve`."""

    log: str


class SetupDetail(TypedDict):
    """The step that failed, and its last lines of output."""

    step: str
    tail: List[str]


class FaultDetail(TypedDict):
    """Where in pi's own program the error was raised."""

    at: str
