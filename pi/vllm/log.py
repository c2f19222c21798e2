"""Find the root cause in vLLM's log, and a hint.

vLLM has several processes: an API server, an engine core below it, workers below that. If one fails, each process
above it logs its own traceback, so the last lines of a log are not the cause. The cause is the last exception of the
process that failed first. The same rules apply to the log of `hf download`.
"""

from __future__ import annotations

import re
import signal
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from pi.text import one_line, safe
from pi.vllm.log_hints import advice_for

MAX_LINES = 3

MAX_CHARACTERS = 500
"""Limits of a cause: lines, and characters per line."""

MAX_LINES_READ = 10_000
"""Counted from the end of the log; 256 KiB of a vLLM log have about 2,500 lines."""

KILLED = "killed from outside (out of memory?)"


@dataclass(frozen=True)
class Failure:
    """A cause of one to three lines, and the id and hint of its kind if pi knows it."""

    cause: str
    id: str | None
    hint: str | None
    calls: tuple[str, ...] = field(default=(), compare=False)
    """Functions in the traceback of the cause, the outermost first, as far as the log has them."""


def explain(log: str, exit_code: int | None, venv: str = "venv") -> Failure:
    """Return why the vLLM that wrote `log` stopped.

    `venv` is the folder of its venv in the pod's home.
    `log` may be a tail that begins inside a line. `exit_code` belongs to the first process: negative or above 128 for
    a signal, None if unknown. 0 proves nothing, because a server exits with 0 after its engine was killed. Do not use
    this for a model that was stopped on purpose; its log also ends in tracebacks.
    """
    account = _account(_lines(log), exit_code)
    cause = [one_line(line, MAX_CHARACTERS) for line in account.cause[:MAX_LINES]]
    advice = advice_for("\n".join([*cause, *account.details]), venv)
    return Failure("\n".join(cause), advice and advice.id, advice and advice.hint, account.calls)


class _Line(NamedTuple):
    """A line of the log with its prefix parsed; `process` and `level` are empty if vLLM wrote none."""

    number: int
    process: str
    level: str
    text: str


class _Account(NamedTuple):
    """The lines of a cause, the lines around it that hints are matched against, and the functions of its traceback."""

    cause: list[str]
    details: list[str]
    calls: tuple[str, ...] = ()


class _Raised(NamedTuple):
    """An exception at the end of its traceback."""

    line: _Line
    account: _Account


_LINE = re.compile(
    r"""
    \A
    (?: \( ( [A-Za-z_][\w-]* (?:\ rank=\d+)? \ pid=\d+ ) [^)]{0,100} \) \ ? )?
    (?: \[rank\d+\]: \ ? )?
    (?: ( DEBUG|INFO|WARNING|ERROR|CRITICAL ) \ \d\d-\d\d\ \d\d:\d\d:\d\d (?: \ \[? [^\]\s]+ :\d+\] )? \ ? )?
    ( .* )
    """,
    re.VERBOSE,
)
"""(EngineCore pid=95) ERROR 11-23 14:29:12 [core.py:1510] TEXT, in all variants since vLLM 0.4."""

_TRACEBACK = "Traceback (most recent call last):"

_FRAME = re.compile(r'  File "[^"]*", line \d+, in (\S+)')

_EXCEPTION = re.compile(
    r"(?:[A-Za-z_]\w*\.)*\w*(?:Error|Exception|Interrupt)(?:\(\w+\))?(?=:|$)|(?:[a-z_]\w*\.)+[A-Z]\w*(?=: )"
)
"""Start of a traceback's last line. A dotted name does not have to end in Error."""

_USAGE = re.compile(r"vllm[ \w]{0,40}: error: \S")

_WRAPPER = re.compile(
    r"Engine core initialization failed|Frontend process failed during|WorkerProc initialization failed"
    r"|Engine process failed to start|Executor failed|EngineDeadError|EngineCore encountered"
    r"|Engine core process \S+ died|Process \S+ \(PID: \d+\) died"
)

_WRAPPED = re.compile(r"Worker failed with error '(.+)', please check the stack trace above")

_DIED = re.compile(
    r"(?:Worker proc \S+|RayWorkerProc \S+|Engine core process \S+|engine core) (?:died|exited) unexpectedly"
    r"(?: \(exit code: -?\d+\))?"
)

_CRASHED = re.compile(
    r"(?:Fatal Python error|terminate called|what\(\)|Bus error|Segmentation fault|Illegal instruction)\b.*"
)

_ANNOUNCES = re.compile(r":$|\b(?:Client|Server) Error\b")

_NOISE = re.compile(r'Exception ignored |  File ".*/multiprocessing/resource_tracker\.py"')

_READY = "Application startup complete."

_ACCESS = re.compile(r'INFO: +\S+ - "[A-Z]+ \S+ HTTP/')


def _lines(log: str) -> list[_Line]:
    written = [line for line in safe(log).split("\n") if line and not line.isspace()]
    return [_line(number, line) for number, line in enumerate(written[-MAX_LINES_READ:])]


def _line(number: int, line: str) -> _Line:
    [(process, level, text)] = _LINE.findall(line[: 4 * MAX_CHARACTERS])
    return _Line(number, process, level, text.rstrip())


def _account(lines: list[_Line], exit_code: int | None) -> _Account:
    """Return the first cause that the log or the exit code contains.

    In this order: a command line error, an exception, a crash of native code, a process that disappeared, a signal,
    an exception that vLLM survived, the last line.
    """
    ready = _last(line.number for line in lines if line.text.endswith(_READY))
    survived = max(ready, _last(line.number for line in lines if _proves_health(line)))
    raised = sorted(_raised(lines), key=lambda error: error.line.number)
    errors = [error for error in raised if not _WRAPPER.search(error.line.text)]
    since = [error for error in errors if error.line.number > (survived if _of_server(error.line) else ready)]

    if usage := [line for line in lines if _USAGE.match(line.text)]:
        return _Account([usage[-1].text], [])
    if since:
        return _first_to_fail(since).account
    for pattern in (_CRASHED, _DIED):
        for line in lines[ready + 1 :]:
            if match := pattern.search(line.text):
                return _Account([match[0]], [])
    if len(raised) > len(errors):
        return _Account([KILLED], [])
    if signalled := _signal(exit_code):
        return _Account([signalled], [])
    if errors and ready < 0:
        return errors[-1].account
    return _Account([_last_line(lines)], [])


def _first_to_fail(errors: list[_Raised]) -> _Raised:
    """Return the last exception of the process that raised first, else the last one without a process."""
    tagged = [error for error in errors if error.line.process]
    if not tagged:
        return errors[-1]
    return [error for error in tagged if error.line.process == tagged[0].line.process][-1]


def _of_server(line: _Line) -> bool:
    return not line.process or line.process.lower().startswith("apiserver")


def _proves_health(line: _Line) -> bool:
    """Return whether the API server still worked here, so that it survived its earlier exceptions."""
    if _ACCESS.match(line.text):
        return True
    return line.level == "INFO" and bool(line.process) and _of_server(line) and "[shutdown]" not in line.text


def _raised(lines: list[_Line]) -> Iterator[_Raised]:
    """Yield every exception in the log, except warnings and Python's clean-up at exit."""
    streams: dict[str, list[_Line]] = defaultdict(list)
    for line in lines:
        streams[line.process].append(line)
    for stream in streams.values():
        opened = 0
        for position, line in enumerate(stream):
            if line.text == _TRACEBACK:
                opened = position
            elif line.level in ("", "ERROR", "CRITICAL") and _EXCEPTION.match(line.text):
                trace = stream[max(0, opened - 1) : position]
                if not any(_NOISE.match(traced.text) for traced in trace[:3]):
                    account = _account_of(line, trace, _continued(stream, position))
                    yield _Raised(line, account._replace(calls=_calls(trace)))
                opened = position + 1


def _continued(stream: list[_Line], position: int) -> list[str]:
    """Return at most ten lines of the same level below an exception's first line."""
    level = stream[position].level
    below = stream[position + 1 : position + 11]
    lines = takewhile(lambda line: line.level == level and line.text != _TRACEBACK, below)
    return [line.text for line in lines if line.text]


def _account_of(line: _Line, trace: list[_Line], below: list[str]) -> _Account:
    """Return an exception's first line with the details that explain it.

    Details are a rejected value, the source line of an exception without a message, or the line after a colon.
    """
    text = line.text
    if wrapped := _WRAPPED.search(text):
        return _Account([wrapped[1]], below)
    if re.search(r": \d+ validation errors? for ", text):
        return _Account([text, *_rejected_values(below)], below)
    if _EXCEPTION.fullmatch(text.rstrip(":")):
        return _Account(_source(text.rstrip(":"), trace), below)
    cause = [text]
    while below[len(cause) - 1 :] and _ANNOUNCES.search(cause[-1]):
        cause.append(below[len(cause) - 1])
    return _Account(cause, below)


def _calls(trace: list[_Line]) -> tuple[str, ...]:
    return tuple(frame[1] for traced in trace if (frame := _FRAME.match(traced.text)))


def _rejected_values(below: list[str]) -> Iterator[str]:
    """Yield Pydantic's sentences: indented lines up to the one with " [type=..., input_value=...]"."""
    for text in below:
        sentence, end, _ = text.partition(" [type=")
        yield sentence
        if end:
            return


def _source(name: str, trace: list[_Line]) -> list[str]:
    """Return the innermost function of an exception without a message, and its source line."""
    for position in reversed(range(len(trace))):
        if frame := _FRAME.match(trace[position].text):
            return [f"{name} in {frame[1]}", *(line.text for line in trace[position + 1 : position + 2])]
    return [name]


def _signal(exit_code: int | None) -> str | None:
    if exit_code is None or 0 <= exit_code <= 128:
        return None
    number = -exit_code if exit_code < 0 else exit_code - 128
    if number == signal.SIGKILL:
        return KILLED
    return next((f"stopped by {one.name}" for one in signal.Signals if one == number), None)


def _last_line(lines: list[_Line]) -> str:
    for line in reversed(lines):
        if line.text.strip() and not line.text.startswith(" ") and "resource_tracker" not in line.text:
            is_news = line.level == "INFO"
            return f"vLLM gave no reason; its log ends with: {line.text}" if is_news else line.text
    return "vLLM wrote nothing to its log"


def _last(numbers: Iterator[int]) -> int:
    return max(numbers, default=-1)
