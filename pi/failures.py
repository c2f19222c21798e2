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
    return Failure("\n".join(cause), _hint("\n".join([*cause, *account.details]), venv))


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


def _hint(told: str, venv: str) -> str | None:
    for pattern, hint in HINTS:
        if found := re.search(pattern, told):
            return hint.format(*found.groups(), venv=venv)
    return None


_SETUP = 'pi pods setup NAME "ssh ..."'
_THE_TOKEN = "HF_TOKEN (the pod has that of its setup; pi pods setup NAME brings another)"  # noqa: S105 - its name

HINTS = (
    # The command line and files it names
    (
        r"^vllm[ \w]*: error: ",
        "check the words after --vllm, or, if you gave none, what pi plan shows; "
        "on the pod, vllm serve --help=all explains them",
    ),
    (r"invalid (?:tool call|reasoning) parser", "after --vllm, name a parser that this vLLM has"),
    (r"requires --tool-call-parser", "add --tool-call-parser NAME after --vllm"),
    (r"appears path-like, but doesn't exist", "give the path of a template that is on the pod"),
    (r"[Aa]ddress already in use", "another process took the port meanwhile: start again"),
    # Hugging Face
    (
        r"gated repo[\s\S]{0,300}?https://huggingface\.co/([\w.-]+/[\w-]+(?:\.[\w-]+)*)",
        f"accept the licence at https://huggingface.co/{{0}} and check {_THE_TOKEN}",
    ),
    (
        r"Access denied\. Model '([\w.-]+/[\w.-]+)' requires approval",
        f"accept the licence at https://huggingface.co/{{0}} and check {_THE_TOKEN}",
    ),
    (r"gated repo", f"accept the licence on the model's page at Hugging Face and check {_THE_TOKEN}"),
    (
        r"Invalid (?:credentials in Authorization header|user token|username or password)",
        f"Hugging Face refuses HF_TOKEN: set a valid one and run {_SETUP} again",
    ),
    (
        r"429 Too Many Requests|429 Client Error",
        f"too many requests: try again in a few minutes, with {_THE_TOKEN}",
    ),
    (
        r"is not a valid model identifier|Repository Not Found|^Error: Model .{1,200} not found",
        f"no such model at Hugging Face, or it is private: check the id and {_THE_TOKEN}",
    ),
    (
        r"outgoing traffic has been disabled|offline mode is enabled",
        "HF_HUB_OFFLINE on the pod forbids to fetch the model: unset it, or give a path on the pod",
    ),
    (
        r"couldn't connect to 'http|LocalEntryNotFoundError|Local entry not found",
        "the pod does not reach Hugging Face: check its network and proxy, or give a path on the pod",
    ),
    (r"Repo id must be in the form", "there is no such directory on the pod: check the path"),
    (r"a file named config\.json", "vLLM can read no model there: config.json is missing"),
    # Disks and shared memory
    (
        r"'/psm_|/dev/shm|shared memory segment|Bus error",
        "the pod's /dev/shm is too small: run its container with --shm-size=16g or --ipc=host",
    ),
    (
        r"No space left on device|Not enough free disk space|Disk quota exceeded",
        f"the pod's disk is full: free space, or keep models on another: {_SETUP} --models-path PATH",
    ),
    (
        r"Read-only file system",
        f"the pod cannot write where its models are kept: mount it for writing, or {_SETUP} --models-path PATH",
    ),
    # Context and GPU memory
    (
        r"estimated maximum model length is (\d{1,12})",
        "pi start ... --context {0}, or more memory for it: --memory 90% or --gpus 2",
    ),
    (
        r"derived max_model_len \([a-z_]+=(\d{1,12})",
        "the model reads no more than that: pi start ... --context {0}",
    ),
    (
        r"No available memory for the cache blocks|Cannot auto-fit max_model_len|available KV cache memory",
        "no memory is left beside the weights: pi start ... --memory 90%, or --gpus 2",
    ),
    (
        r"is less than desired (?:GPU|CPU) memory utilization|on kv cache allocation",
        "other work holds that memory: pi stop it, or ask for less: pi start ... --memory 50%",
    ),
    (
        r"CUDA out of memory|CUDA error: out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        "the GPU is full: give it more GPUs (--gpus 2), a shorter --context, or pi stop what else runs there",
    ),
    # GPUs, drivers, and how they talk
    (r"number of available GPUs \((\d{1,4})\)", "pi start ... --gpus {0}, or a pod with more GPUs"),
    (r"attention heads \((\d{1,6})\) must be divisible", "pi start ... --gpus N, where N divides {0}"),
    (
        r"NVIDIA driver on your system is too old",
        "the pod's NVIDIA driver is older than this vLLM needs: choose an image with a newer driver",
    ),
    (
        r"Error 802|system not yet initialized",
        "the GPUs' fabric is down: start nvidia-fabricmanager on the pod, or reboot it",
    ),
    (
        r"Error 80[34]|Driver/library version mismatch",
        "the pod's NVIDIA driver and libraries differ: reboot it, or choose another image",
    ),
    (
        r"No CUDA GPUs are available|no CUDA-capable device|infer device type|cudaGetDeviceCount|libcuda\.so",
        f"vLLM sees no GPU: look at nvidia-smi on the pod, then run {_SETUP} again",
    ),
    (r"--dtype[= ]half", "pi start ... --vllm --dtype half"),
    (
        r"no kernel image is available",
        f"this vLLM is not built for the pod's GPU: {_SETUP} --vllm nightly, or another GPU",
    ),
    (
        r"not supported for the current GPU|compute capability",
        "the pod's GPU cannot run this format: choose another variant of the model, or a newer GPU",
    ),
    (
        r"NCCL error|nccl\w+Error",
        "the GPUs cannot talk to each other: try --gpus 1; in a container, /dev/shm may be too small",
    ),
    # The model
    (
        r"not found in your environment: .{1,200}? Run `pip install ([\w. -]{1,100})`",
        "the model's own code needs more packages: on the pod, uv pip install -p ~/{venv} {0}",
    ),
    (
        r"trust_remote_code",
        "the model brings Python code of its own; if you trust it: pi start ... --vllm --trust-remote-code",
    ),
    (
        r"does not recognize this architecture|Model architectures .{1,300} are not supported",
        f"this vLLM does not know the model: {_SETUP} --vllm nightly",
    ),
    (
        r"Unknown quantization method|Cannot find the config file for \w+",
        "the model is not in that format: leave --quantization out after --vllm",
    ),
    (r"\.gguf' is not a valid JSON", "vLLM reads no GGUF files: choose the model in safetensors format"),
    (
        r"SafetensorError|Error while deserializing header|parse_safetensors_file_metadata",
        "a weights file is damaged or incomplete: remove the model from the pod's cache and start again",
    ),
    (
        r"Cannot find any model weights",
        "there are no *.safetensors files there: check the path or the repository",
    ),
    # vLLM itself and its machine
    (
        r"No module named|PackageNotFoundError|undefined symbol|cannot open shared object|torchvision::nms",
        f"vLLM on the pod is incomplete: run {_SETUP} again",
    ),
    (
        r"Cannot allocate memory|^MemoryError|DefaultCPUAllocator",
        "the pod's main memory is full: choose a smaller model, or a pod with more memory",
    ),
    (r"SIGILL|Illegal instruction", "this vLLM needs a newer processor than the pod has: choose another pod"),
    (
        r"^killed from outside|unexpectedly$|exit code: -9\)",
        "on the pod, dmesg tells what the kernel killed; a smaller model or --context needs less memory",
    ),
)
"""What helps, by what was said; the first that matches counts. In a hint, {0} is the pattern's group and {venv}
the folder that vLLM ran from."""
