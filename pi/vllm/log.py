"""Why vLLM stopped: the root cause in its log, in its own words, and what to do about it.

vLLM is a family of processes: an API server, an engine core below it, workers below that. One fails, and each
above it logs its own traceback, so the last lines of a log are never the reason. The reason is the last
exception of the process that failed first. The log of `hf download` is read by the same rules.
"""

from __future__ import annotations

import re
import signal
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from pi.text import one_line, safe
from pi.vllm.log_hints import hint_for

MAX_LINES = 3

MAX_CHARACTERS = 500
"""Lines of a cause, and characters of each."""

MAX_LINES_READ = 10_000
"""From the end of the log; 256 KiB of what vLLM writes has about 2,500."""

KILLED = "killed from outside (out of memory?)"


@dataclass(frozen=True)
class Failure:
    """`cause`: one to three lines of plain text; `hint`: what to do next, None where only the log tells."""

    cause: str
    hint: str | None


def explain(log: str, exit_code: int | None, venv: str = "venv") -> Failure:
    """Why the vLLM that wrote `log` ended; `venv` is the folder in the pod's home that it ran from.

    `log` may be a tail that begins in mid-line. `exit_code` is the leader's: negative, or above 128, for a
    signal; None when unknown; 0 proves nothing, for a server whose engine was killed exits 0. Not for a model
    that was stopped on purpose: its log ends in tracebacks too.
    """
    account = _account(_lines(log), exit_code)
    cause = [one_line(line, MAX_CHARACTERS) for line in account.cause[:MAX_LINES]]
    return Failure("\n".join(cause), hint_for("\n".join([*cause, *account.details]), venv))


class _Line(NamedTuple):
    """A line of the log, its prefix taken apart: `process` and `level` are empty where vLLM wrote none."""

    number: int
    process: str
    level: str
    text: str


class _Account(NamedTuple):
    """The lines that tell a cause, and the lines around them, where a hint may be found."""

    cause: list[str]
    details: list[str]


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
"""(EngineCore pid=95) ERROR 11-23 14:29:12 [core.py:1510] TEXT, in all its variants since vLLM 0.4."""

_TRACEBACK = "Traceback (most recent call last):"

_FRAME = re.compile(r'  File "[^"]*", line \d+, in (\S+)')

_EXCEPTION = re.compile(
    r"(?:[A-Za-z_]\w*\.)*\w*(?:Error|Exception|Interrupt)(?:\(\w+\))?(?=:|$)|(?:[a-z_]\w*\.)+[A-Z]\w*(?=: )"
)
"""A bare or dotted name as a traceback's last line begins; a dotted one need not end in Error."""

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
    """The first of these that the log or the exit code has: a refused command line, an exception, a crash of
    native code, a process that vanished, a signal, an exception that was survived, a last line."""
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
            if found := pattern.search(line.text):
                return _Account([found[0]], [])
    if len(raised) > len(errors):
        return _Account([KILLED], [])
    if ended := _signal(exit_code):
        return _Account([ended], [])
    if errors and ready < 0:
        return errors[-1].account
    return _Account([_last_words(lines)], [])


def _first_to_fail(errors: list[_Raised]) -> _Raised:
    """The last exception of the process whose exception came first; else the last one that bears no tag."""
    tagged = [error for error in errors if error.line.process]
    if not tagged:
        return errors[-1]
    return [error for error in tagged if error.line.process == tagged[0].line.process][-1]


def _of_server(line: _Line) -> bool:
    return not line.process or line.process.lower().startswith("apiserver")


def _proves_health(line: _Line) -> bool:
    """Whether the API server went on with its work here, so that what it raised before did not end it."""
    if _ACCESS.match(line.text):
        return True
    return line.level == "INFO" and bool(line.process) and _of_server(line) and "[shutdown]" not in line.text


def _raised(lines: list[_Line]) -> Iterator[_Raised]:
    """Every exception in the log, but for mere warnings and what Python reports of its clean-up at exit."""
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
                    yield _Raised(line, _told(line, trace, _continued(stream, position)))
                opened = position + 1


def _continued(stream: list[_Line], position: int) -> list[str]:
    """What is said below an exception's first line, by the same voice: at most ten lines."""
    level = stream[position].level
    said = takewhile(lambda line: line.level == level and line.text != _TRACEBACK, stream[position + 1 : position + 11])
    return [line.text for line in said if line.text]


def _told(line: _Line, trace: list[_Line], below: list[str]) -> _Account:
    """An exception's first line, and what it takes to understand it: the value that was refused, the place of
    an exception without words, the line that a colon announces."""
    text = line.text
    if wrapped := _WRAPPED.search(text):
        return _Account([wrapped[1]], below)
    if re.search(r": \d+ validation errors? for ", text):
        return _Account([text, *_refused_values(below)], below)
    if _EXCEPTION.fullmatch(text.rstrip(":")):
        return _Account(_place(text.rstrip(":"), trace), below)
    cause = [text]
    while below[len(cause) - 1 :] and _ANNOUNCES.search(cause[-1]):
        cause.append(below[len(cause) - 1])
    return _Account(cause, below)


def _refused_values(below: list[str]) -> Iterator[str]:
    """Pydantic's sentences: the indented lines, the last of which ends in " [type=..., input_value=...]"."""
    for text in below:
        sentence, end, _ = text.partition(" [type=")
        yield sentence
        if end:
            return


def _place(name: str, trace: list[_Line]) -> list[str]:
    """Where an exception without words came from: the innermost function, and its line of source."""
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
    return next((f"ended by {known.name}" for known in signal.Signals if known == number), None)


def _last_words(lines: list[_Line]) -> str:
    for line in reversed(lines):
        if line.text.strip() and not line.text.startswith(" ") and "resource_tracker" not in line.text:
            is_news = line.level == "INFO"
            return f"vLLM gave no reason; its log ends with: {line.text}" if is_news else line.text
    return "vLLM wrote nothing to its log"


def _last(numbers: Iterator[int]) -> int:
    return max(numbers, default=-1)
