"""Find the root cause in vLLM's log, and a hint.

vLLM has several processes: an API server, an engine core below it, workers below that. If one fails, each process
above it logs its own traceback, so the last lines of a log are not the cause. The cause is the last exception of the
process that failed first, or the crash of native code before it. The same rules apply to the log of `hf download`.
"""

from __future__ import annotations

import re
import signal
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from pi.text import one_line
from pi.vllm import log_lines
from pi.vllm.crashes import KILLED, OUT_OF_MEMORY, SILENT, Crash, core_signals, crashes, deaths, signal_name, signal_of
from pi.vllm.deciding import deciding_line
from pi.vllm.log_hints import advice_for
from pi.vllm.log_lines import MAX_CHARACTERS, Line
from pi.vllm.start_facts import StartFacts, read_facts

MAX_LINES = 3
"""Lines of a cause; each has at most MAX_CHARACTERS."""


@dataclass(frozen=True)
class Failure:
    """A cause of one to three lines, and the id and hint of its kind if pi knows it."""

    cause: str
    id: str | None
    hint: str | None
    calls: tuple[str, ...] = field(default=(), compare=False)
    """Functions in the traceback of the cause, the outermost first, as far as the log has them."""
    line: int | None = field(default=None, compare=False)
    """Where the log says it, from 1."""


def explain(log: str, exit_code: int | None, facts: StartFacts | None = None) -> Failure:
    """Return why the vLLM that wrote `log` stopped.

    `facts` tell what the start was given; without them, pi reads what the log says of it.
    `log` may be a tail that begins inside a line. `exit_code` belongs to the first process: negative or above 128 for
    a signal, None if unknown. 0 proves nothing, because a server exits with 0 after its engine was killed. Do not use
    this for a model that was stopped on purpose; its log also ends in tracebacks.
    """
    lines = log_lines.read(log)
    facts = read_facts(log) if facts is None else facts
    kernel = (*facts.kernel, *(line.text for line in lines if line.may_fail and _KILLED_FOR_MEMORY.search(line.text)))
    account = _account(lines, exit_code, kernel)
    cause = [one_line(line, MAX_CHARACTERS) for line in account.cause[:MAX_LINES]]
    details = (*account.details, *(f"in {name}" for name in account.calls), *kernel)
    advice = advice_for("\n".join([*cause, *details]), facts)
    line = account.line.number if account.line else None
    return Failure("\n".join(cause), advice and advice.id, advice and advice.hint, account.calls, line)


class _Account(NamedTuple):
    """The lines of a cause, the lines around it that hints are matched against, and the functions of its traceback."""

    cause: list[str]
    details: list[str]
    calls: tuple[str, ...] = ()
    line: Line | None = None


class _Raised(NamedTuple):
    """An exception at the end of its traceback."""

    line: Line
    account: _Account


_TRACEBACK = "Traceback (most recent call last):"

_FRAME = re.compile(r'\s*File "[^"]*", line \d+, in (\S+)')

_EXCEPTION = re.compile(
    r"(?:[A-Za-z_]\w*\.)*\w*(?:Error|Exception|Interrupt)(?:\(\w+\))?(?=:|$)|(?:[a-z_]\w*\.)+[A-Z]\w*(?=: )"
)
"""Start of a traceback's last line. A dotted name does not have to end in Error."""

_USAGE = re.compile(r"(?:vllm|api_server\.py)[ \w]{0,40}: error: \S")

_WRAPPER = re.compile(
    r"Engine core initialization failed|Frontend process failed during|WorkerProc initialization failed"
    r"|Engine process failed to start|Executor failed|EngineDeadError|EngineCore encountered"
    r"|Engine core process \S+ died|Process \S+ \(PID: \d+\) died|Error raised in subprocess:"
    r"|vllm\.model_executor\.models\.registry'\]' returned non-zero"
)
"""Exceptions of a process that lost another one."""

_POINTS_ELSEWHERE = re.compile(
    r"(?:[Ss]ee|[Cc]heck|[Ll]ook at|[Rr]efer to)\b.{0,40}\b(?:above|logs?\b|stack trace|traceback|root cause)"
    r"|due to a previous error"
)
"""Exceptions that name a symptom and leave the cause to another one in the log."""

_CONSEQUENCE = re.compile(
    r"ncclRemoteError|remote process exited|Connection closed by (?:remote )?peer|Connection reset by peer"
    r"|BrokenPipeError|EOFError$"
    r"|RuntimeError: cancelled|RPC call to \S+ timed out|KeyboardInterrupt|CancelledError|SystemExit"
    r"|remote process has terminated|ConnectionRefusedError"
)
"""Exceptions of a process whose neighbour ended first."""

_WRAPPED = re.compile(r"Worker failed with error '(.+)', please check the stack trace above")

_ANNOUNCES = re.compile(r":$|\b(?:Client|Server) Error\b")

_NOISE = re.compile(r'Exception ignored |\s*File ".*/multiprocessing/resource_tracker\.py"')

_READY = "Application startup complete."

_HANGS = "pi: the server hangs: "
"""Of `pi_watch.py`, which then kills the server."""

_AGAIN = "pi: the server ended with "
"""Of the launcher, before it starts the server again."""

_ACCESS = re.compile(r'INFO:\s+\S+ - "[A-Z]+ \S+ HTTP/')

_ERRORISH = re.compile(r"(?:\S+: )?(?:fatal|error|FATAL|ERROR|Error|Fatal)\b[ :].+")


def _account(lines: list[Line], exit_code: int | None, kernel: Iterable[str]) -> _Account:
    """Return the first cause that the log, the exit code or the kernel's log contains.

    In this order: a command line error, a hang that pi's watchdog ended, an exception or a crash of native code, a
    process that disappeared, a signal, an exception that only points elsewhere or that vLLM survived, the last line.
    """
    ready = _last(line.at for line in lines if line.text.endswith(_READY))
    survived = max(ready, _last(line.at for line in lines if _proves_health(line)))
    raised = sorted(_raised(lines), key=lambda error: error.line.at)
    errors = [error for error in raised if not _WRAPPER.search(error.line.text)]
    since = [error for error in errors if error.line.at > (survived if _of_server(error.line) else ready)]
    if core_signals(lines):
        since = [error for error in since if not _outlived(error.line, lines)]
    own = [error for error in since if not _is_secondary(error)]

    if usage := [line for line in lines if _USAGE.match(line.text)]:
        return _Account([usage[-1].text], [], line=usage[-1])
    begun = max(ready, _last(line.at for line in lines if line.text.startswith(_AGAIN)))
    hung = [line for line in lines[begun + 1 :] if line.text.startswith(_HANGS)]
    if hung and signal_of(exit_code) == signal.SIGKILL:
        return _Account([hung[-1].text.removeprefix("pi: ")], [], line=hung[-1])
    crash = next(iter(crashes(lines[ready + 1 :])), None)
    if own and not (crash and crash.line.at < min(error.line.at for error in own)):
        return _with_later_calls(_first_to_fail(own), raised)
    if crash:
        return _of_crash(crash)
    memory = [line for line in kernel if _OUT_OF_MEMORY.search(line)]
    died = list(deaths(lines[ready + 1 :]))
    if memory and (died or len(raised) > len(errors) or signal_of(exit_code) or not since):
        return _Account([OUT_OF_MEMORY, memory[0]], [])
    if signal_of(exit_code) == signal.SIGKILL:
        return _Account([KILLED], [])
    if died and (died[0].by_signal or not since):
        return _of_crash(died[0])
    if signalled := signal_of(exit_code):
        return _Account([f"stopped by {signal_name(signalled)}"], [])
    if since:
        return _first_to_fail(since).account
    if len(raised) > len(errors):
        return _silent(lines, raised)
    if errors and ready < 0:
        return errors[-1].account
    return _last_line(lines)


_OUT_OF_MEMORY = re.compile(r"[Oo]ut of memory|oom_kill|Killed process")


_KILLED_FOR_MEMORY = re.compile(r"oom_kill event|OOM.?Killed|^(?:Memory cgroup o|O)ut of memory: Killed process")
"""What Slurm, Kubernetes and a console with the kernel's log write among vLLM's lines."""


def _of_crash(crash: Crash) -> _Account:
    return _Account(crash.cause, crash.details, line=crash.line)


def _silent(lines: list[Line], raised: list[_Raised]) -> _Account:
    """Return the last line before the wrappers that looks like an error of native code, else that there is none."""
    first = raised[0].line.at
    said = [line for line in lines[:first] if not line.level and _ERRORISH.match(line.text)]
    if said:
        return _Account([said[-1].text], [], line=said[-1])
    engine = any("EngineCore" in error.line.text or "Engine core" in error.line.text for error in raised)
    return _Account([SILENT.format("the engine core" if engine else "a process of vLLM")], [], line=raised[0].line)


def _with_later_calls(first: _Raised, raised: list[_Raised]) -> _Account:
    """Return an account with the functions of later exceptions of its process, which were raised because of it."""
    later = [error for error in raised if error.line.process == first.line.process and error.line.at > first.line.at]
    return first.account._replace(
        calls=(*first.account.calls, *(call for error in later for call in error.account.calls))
    )


def _is_secondary(error: _Raised) -> bool:
    text = "\n".join(error.account.cause)
    return bool(_POINTS_ELSEWHERE.search(text) or _CONSEQUENCE.search(text))


def _outlived(line: Line, lines: list[Line]) -> bool:
    """Return whether the process that wrote an exception went on with its work."""
    later = (each for each in lines[line.at + 1 :] if each.process == line.process and line.process)
    return any(each.level == "INFO" and not re.search("[Tt]erminat|[Ss]hut", each.text) for each in later)


def _first_to_fail(errors: list[_Raised]) -> _Raised:
    """Return the last exception of the process that raised first, else the last one without a process."""
    tagged = [error for error in errors if error.line.process]
    if not tagged:
        return errors[-1]
    return [error for error in tagged if error.line.process == tagged[0].line.process][-1]


def _of_server(line: Line) -> bool:
    return not line.process or line.process.lower().startswith("apiserver")


def _proves_health(line: Line) -> bool:
    """Return whether the API server still worked here, so that it survived its earlier exceptions."""
    if _ACCESS.match(line.text):
        return True
    return line.level == "INFO" and bool(line.process) and _of_server(line) and "[shutdown]" not in line.text


def _raised(lines: list[Line]) -> Iterator[_Raised]:
    """Yield every exception in the log, except warnings and Python's clean-up at exit."""
    streams: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        streams[line.process].append(line)
    for stream in streams.values():
        opened = 0
        for position, line in enumerate(stream):
            if line.text.startswith(_TRACEBACK):
                opened = position
            elif line.may_fail and _EXCEPTION.match(line.text):
                trace = stream[max(0, opened - 1) : position]
                if not any(_NOISE.match(traced.text) for traced in trace[:3]):
                    account = _account_of(line, trace, _continued(stream, position), lines)
                    yield _Raised(line, account._replace(calls=_calls(trace)))
                opened = position + 1


def _continued(stream: list[Line], position: int) -> list[str]:
    """Return at most ten lines of the same level below an exception's first line."""
    level = stream[position].level
    below = stream[position + 1 : position + 11]
    lines = takewhile(lambda line: line.level == level and not line.text.startswith(_TRACEBACK), below)
    return [line.text for line in lines if line.text]


def _account_of(line: Line, trace: list[Line], below: list[str], lines: list[Line]) -> _Account:
    """Return an exception's first line with the details that explain it.

    Details are a rejected value, the source line of an exception without a message, the line after a colon, or the
    line of a compiler or of NCCL that decides.
    """
    text = line.text
    if wrapped := _WRAPPED.search(text):
        return _Account([wrapped[1]], below, line=line)
    if re.search(r": \d+ validation errors? for ", text):
        return _Account([text, *_rejected_values(below)], below, line=line)
    if _EXCEPTION.fullmatch(text.rstrip(":")) and not (text.endswith(":") and below and below[0].strip()):
        return _Account(_source(text.rstrip(":"), trace), below, line=line)
    if decides := deciding_line(lines, line.at, text):
        return _Account([decides.text], [lines[decides.at].text, text, *below], line=decides)
    cause = [text]
    while below[len(cause) - 1 :] and _ANNOUNCES.search(cause[-1]):
        cause.append(below[len(cause) - 1])
    return _Account(cause, below, line=line)


def _calls(trace: list[Line]) -> tuple[str, ...]:
    return tuple(frame[1] for traced in trace if (frame := _FRAME.match(traced.text)))


def _rejected_values(below: list[str]) -> Iterator[str]:
    """Yield Pydantic's sentences: indented lines up to the one with " [type=..., input_value=...]"."""
    for text in below:
        sentence, end, _ = text.partition(" [type=")
        yield sentence
        if end:
            return


def _source(name: str, trace: list[Line]) -> list[str]:
    """Return the innermost function of an exception without a message, and its source line."""
    for position in reversed(range(len(trace))):
        if frame := _FRAME.match(trace[position].text):
            return [f"{name} in {frame[1]}", *(line.text for line in trace[position + 1 : position + 2])]
    return [name]


_NO_WORDS = re.compile(r"resource_tracker|^```|^</?\w+>$|^(?:\(\S+\) ?)?\S+[@:]\S*[$#] *$")
"""Last lines that say nothing: Python's clean-up, marks of a web page, a prompt of the shell."""


def _last_line(lines: list[Line]) -> _Account:
    for line in reversed(lines):
        if line.text.strip() and not line.text.startswith(" ") and not _NO_WORDS.search(line.text):
            news = "vLLM gave no reason; its log ends with: " if line.level == "INFO" else ""
            return _Account([news + line.text], [], line=line)
    return _Account(["vLLM wrote nothing to its log"], [])


def _last(numbers: Iterator[int]) -> int:
    return max(numbers, default=-1)
