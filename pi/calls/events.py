"""Events that a pod sends, as typed values read from the marked lines of a noisy stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pi.calls.validation import WrongAnswerError, checked
from pi.errors import RemoteError
from pi.on_pod import events as sent
from pi.on_pod.check_shapes import CheckAnswer
from pi.on_pod.events import FailureKind, StepVerb
from pi.on_pod.shapes import Survey
from pi.on_pod.top_shapes import Sample
from pi.vllm.hangs import Process

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one event; the longest real one is a log tail of 256 KiB, escaped."""

MAX_NOISE = 16 * 1024 * 1024
"""Bytes of noise in one call; a login banner has a few hundred."""


@dataclass(frozen=True)
class Log:
    """A piece of a log, which may begin and end anywhere in a line."""

    text: str


@dataclass(frozen=True)
class _LogAhead:
    """The next bytes are a piece of a log."""

    size: int


@dataclass(frozen=True)
class Progress:
    """What the pod waits for."""

    text: str


@dataclass(frozen=True)
class Note:
    """A remark of the pod for the user."""

    text: str


@dataclass(frozen=True)
class Download:
    """Bytes of a model that are on the pod, of how many (None if unknown), and how fast they come."""

    done: int
    total: int | None
    per_second: int


@dataclass(frozen=True)
class Step:
    """What a step of the setup does or did."""

    verb: StepVerb
    step: str
    text: str


@dataclass(frozen=True)
class Launched:
    """vLLM runs, but is not ready yet."""

    pid: int
    port: int


@dataclass(frozen=True)
class Listening:
    """The pod waits for another one at this port."""

    port: int


@dataclass(frozen=True)
class Surveyed:
    """The pod's facts; the pod waits for a plan."""

    facts: Survey


@dataclass(frozen=True)
class Exited:
    """The first try of a start failed; the pod waits for a correction. `log` is the end of vLLM's log."""

    log: str
    exit_code: int | None


@dataclass(frozen=True)
class Checked:
    """What a machine has before its setup; the pod waits for pi's decision."""

    facts: CheckAnswer


@dataclass(frozen=True)
class Still:
    """The log of a start has not moved for some seconds; `log` is its end."""

    seconds: float
    log: str
    processes: tuple[Process, ...]


@dataclass(frozen=True)
class Sampled:
    """The figures of a pod at one moment."""

    sample: Sample


Question = Surveyed | Exited | Checked
"""Events that pi answers."""


@dataclass(frozen=True)
class Alive:
    """A heartbeat."""


@dataclass(frozen=True)
class Reconnecting:
    """The connection was lost, and pi connects again."""

    attempt: int
    of: int


@dataclass(frozen=True)
class Reconnected:
    """The connection is there again."""


@dataclass(frozen=True)
class Done:
    """The call ended; `result` is not validated yet."""

    result: Any


@dataclass(frozen=True)
class Failed:
    """The call failed; `detail` is not validated yet (see `pi.calls.failures`)."""

    kind: FailureKind
    message: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class Cancelled:
    """The call ended because pi cancelled it."""


@dataclass(frozen=True)
class Cancelling:
    """The pod got the cancel and stops the work."""


Ending = Done | Failed | Cancelled
"""The last event of a call."""

Event = (
    Log
    | Progress
    | Note
    | Download
    | Step
    | Launched
    | Listening
    | Question
    | Still
    | Sampled
    | Alive
    | Cancelling
    | Reconnecting
    | Reconnected
    | Ending
)


class Reader:
    """Turns the bytes of a stream into events; drops lines without the call's mark as noise.

    Raises RemoteError if there is too much noise or an event is wrong.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode() + b" "
        self._pending = bytearray()
        self._log_bytes: int | None = None
        """How many bytes of a log come next, if any do."""
        self.noise = b""
        """The last bytes of noise, for the message if no event ever comes (a login banner, an error)."""
        self._noise_left = MAX_NOISE

    def feed(self, chunk: bytes) -> Iterator[Event]:
        self._pending += chunk
        while True:
            if (size := self._log_bytes) is not None:
                if len(self._pending) < size:
                    return
                self._log_bytes = None  # first: after Ctrl+C, the rest is noise up to the next event
                yield Log(self._taken(size).decode("utf-8", "replace"))
            if (end := self._pending.find(b"\n")) < 0:
                break
            line = self._taken(end + 1)[:-1]
            if line.startswith(self._mark):
                event = _event(line[len(self._mark) :])
                if isinstance(event, _LogAhead):
                    self._log_bytes = event.size
                else:
                    yield event
            elif line.strip():
                self.noise = (self.noise + line[-2000:] + b"\n")[-2000:]
                self._noise_left -= len(line)
        if len(self._pending) > MAX_LINE or self._noise_left < 0:
            raise RemoteError(
                "too-much-noise", "the pod sent more than 16 MiB of other output", "check what its login shell prints"
            )

    def _taken(self, size: int) -> bytes:
        """Remove the first bytes and return them."""
        taken = bytes(self._pending[:size])
        del self._pending[:size]
        return taken


def _event(line: bytes) -> Event | _LogAhead:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        raise WrongAnswerError("a line that is not JSON") from None
    kind = data.get("event") if isinstance(data, dict) else None
    read = READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise WrongAnswerError("an event that pi does not know")
    return read(data)


def _log_ahead(data: object) -> _LogAhead:
    size = checked(sent.LogEvent, data)["bytes"]
    if not 0 <= size <= MAX_LINE:
        raise WrongAnswerError(f"a log of {size} bytes at once")
    return _LogAhead(size)


def _download(data: object) -> Download:
    event = checked(sent.DownloadEvent, data)
    return Download(event["bytes"], event["total"], event["bytes_per_s"])


def _step(data: object) -> Step:
    event = checked(sent.StepEvent, data)
    return Step(event["verb"], event["step"], event["text"])


def _launched(data: object) -> Launched:
    event = checked(sent.LaunchedEvent, data)
    return Launched(event["pid"], event["port"])


def _exited(data: object) -> Exited:
    event = checked(sent.ExitedEvent, data)
    return Exited(event["log"], event["exit"])


def _still(data: object) -> Still:
    event = checked(sent.StillEvent, data)
    return Still(event["seconds"], event["log"], processes_of(event["processes"]))


def processes_of(sent_ones: list[sent.ProcessDetail]) -> tuple[Process, ...]:
    """Return a pod's processes as `pi.vllm.hangs` reads them."""
    return tuple(Process(each["pid"], each["program"], each["state"], each["stack"]) for each in sent_ones)


def _failed(data: object) -> Failed:
    event = checked(sent.FailedEvent, data)
    return Failed(event["kind"], event["message"], event["detail"])


READERS: dict[str, Callable[[object], Event | _LogAhead]] = {
    "log": _log_ahead,
    "progress": lambda data: Progress(checked(sent.ProgressEvent, data)["text"]),
    "note": lambda data: Note(checked(sent.NoteEvent, data)["text"]),
    "download": _download,
    "step": _step,
    "launched": _launched,
    "listening": lambda data: Listening(checked(sent.ListeningEvent, data)["port"]),
    "survey": lambda data: Surveyed(checked(sent.SurveyEvent, data)["facts"]),
    "checked": lambda data: Checked(checked(sent.CheckedEvent, data)["facts"]),
    "exited": _exited,
    "still": _still,
    "sample": lambda data: Sampled(checked(sent.SampleEvent, data)["sample"]),
    "alive": lambda data: Alive(),
    "done": lambda data: Done(checked(sent.DoneEvent, data)["result"]),
    "failed": _failed,
    "cancelling": lambda data: Cancelling(),
    "cancelled": lambda data: Cancelled(),
}
"""How each kind of event of a pod is read."""
