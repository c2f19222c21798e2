"""Where a start stands whose log does not move: by the stacks of its processes, then by the end of its log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pi.text import one_line
from pi.vllm import log_lines
from pi.vllm.hint import Hint
from pi.vllm.hints_gpus import NO_P2P
from pi.vllm.hints_start import SETUP
from pi.vllm.start_facts import StartFacts

FRAMES_SHOWN = 3

LAST_LINES = 12
"""Lines at the end of a log that tell where vLLM stands."""

STILL_S = 60.0
"""A log that has not moved for so long stands still; waiting longer is then no hint."""


@dataclass(frozen=True)
class Process:
    """A process of a start: its state as in /proc/PID/stat, and the stacks of its threads, if pi could read them."""

    pid: int
    name: str
    state: str
    stack: str


@dataclass(frozen=True)
class Place:
    """Where a start stands: an id, what vLLM does there, and a hint."""

    id: str
    doing: str
    hint: str | None


@dataclass(frozen=True)
class _Kind:
    """A place by patterns for frames, names of processes and lines of the log; `doing` completes "vLLM ..."."""

    doing: str
    hint: Hint
    frames: str
    programs: str
    lines: str

    def is_in(self, frames: str, programs: str) -> bool:
        return bool(re.search(self.frames, frames) or re.search(self.programs, programs, re.MULTILINE))


NEVER = r"(?!)"

FETCHER = "hf"
"""The program that downloads a model before its start."""

KINDS = (
    _Kind(
        "compiles kernels",
        Hint(
            "stands-compiling",
            "",
            "the first start of a model compiles for minutes, later ones do not: wait, or do without",
            ("--set enforce-eager", "--set attention-backend=FLASH_ATTN --env VLLM_USE_FLASHINFER_SAMPLER=0"),
        ),
        r"_inductor|_dynamo|cpp_extension|triton/compiler|run_ninja|build_and_load|compile_fx|autotun|deep_gemm_warmup",
        r"nvcc|cicc|ptxas|ninja|cc1plus|cudafe",
        r"torch\.compile|[Dd]ynamo|[Cc]ompiling|Inductor|DeepGEMM|[Aa]utotun|ninja|nvcc",
    ),
    _Kind(
        "waits for Hugging Face",
        Hint(
            "stands-fetching",
            "",
            "check the pod's network and proxy; after three minutes pi tries again without xet by itself",
        ),
        NEVER,
        rf"^{FETCHER}$",
        NEVER,
    ),
    _Kind(
        "waits for Hugging Face",
        Hint(
            "stands-downloading",
            "",
            "check the pod's network and proxy; the download continues at the next start",
            ("--env HF_HUB_DISABLE_XET=1",),
        ),
        r"huggingface_hub|hf_xet|snapshot_download|hf_hub_download",
        NEVER,
        r"Downloading|Fetching \d+ files|huggingface\.co|Xet",
    ),
    _Kind(
        "captures CUDA graphs",
        Hint(
            "stands-capturing",
            "",
            "capture fewer graphs, or none",
            ("--set max-num-seqs={fewer_sequences}", "--set enforce-eager"),
        ),
        r"capture_model|_capture_cudagraphs|capture_graph|cudagraph_utils",
        NEVER,
        r"Capturing CUDA graph",
    ),
    _Kind(
        "loads the weights",
        Hint(
            "stands-loading",
            "",
            "the disk of the models is slow or does not answer: look at it on the pod, or use a local one",
            (f"{SETUP} --models-path PATH",),
        ),
        r"weight_utils|load_weights|safetensors|default_loader|runai",
        NEVER,
        r"[Ll]oading \S* ?checkpoint shards|Starting to load model|Loading weights|Filesystem type",
    ),
    _Kind(
        "connects the GPUs (NCCL)",
        Hint(
            "stands-at-nccl",
            "",
            "the GPUs cannot reach each other's memory",
            (NO_P2P, "--gpus 1", "--env NCCL_DEBUG=INFO shows where"),
        ),
        r"pynccl|ncclCommInit|init_process_group|_new_process_group|custom_all_reduce|symm_mem|rendezvous"
        r"|init_worker_distributed|all_reduce|all_gather|distributed_c10d",
        NEVER,
        r"nccl==|NCCL|pynccl|custom_all_reduce|world_size=|distributed_init_method",
    ),
    _Kind(
        "waits for a worker that does not answer (shared-memory broadcast)",
        Hint(
            "stands-at-broadcast",
            "",
            "a worker hangs, mostly because the GPUs cannot reach each other's memory",
            (NO_P2P, "--gpus 1", "--set enforce-eager"),
        ),
        NEVER,
        NEVER,
        r"No available shared memory broadcast block",
    ),
    _Kind(
        "measures the GPU's memory",
        Hint("stands-profiling", "", "the first pass through the model hangs", ("--set enforce-eager",)),
        r"profile_run|determine_available_memory",
        NEVER,
        r"[Mm]emory profiling|profile_run",
    ),
)
"""The first match counts; what a worker does decides before what waits for it."""

SERVING_KINDS = (
    _Kind(
        "waits for other GPUs (NCCL)",
        Hint("hangs-at-nccl", "", "the GPUs do not reach each other any more", (NO_P2P, "--gpus 1")),
        r"pynccl|custom_all_reduce|symm_mem|all_reduce|all_gather|reduce_scatter|distributed_c10d",
        NEVER,
        NEVER,
    ),
    _Kind(
        "compiles a grammar for structured output",
        Hint("hangs-at-grammar", "", "a schema or a regular expression of a request is too hard: simplify it"),
        r"xgrammar|outlines|llguidance|lm_format_enforcer|structured_output/\S*backend|interegular",
        NEVER,
        NEVER,
    ),
    _Kind(
        "waits for the GPU",
        Hint("hangs-at-gpu", "", "look at the GPU on the pod: nvidia-smi, and dmesg for lines with Xid"),
        r"^synchronize \(|\(\S*torch/cuda/streams\.py|_to_list|get_output \(\S*gpu_model_runner",
        NEVER,
        NEVER,
    ),
)
"""Where a server stands that was ready: what its stacks tell."""

STOPPED = "is stopped by a signal"


def hung_at(processes: Iterable[Process], facts: StartFacts) -> Place | None:
    """Return where a server hangs that was ready, or None if its stacks do not tell."""
    processes = tuple(processes)
    if stopped := _stopped(processes):
        return stopped
    if waiting := [each for each in processes if each.state == "D"]:
        who = f"{waiting[0].name} (pid {waiting[0].pid})"
        return Place("hangs-in-kernel", f"{who} waits for a device or a disk", "if it stays, only a reboot ends it")
    frames = "\n".join(frame for each in processes for frame in frames_of(each.stack))
    found = next((kind for kind in SERVING_KINDS if re.search(kind.frames, frames, re.MULTILINE)), None)
    return Place(found.hint.id, f"vLLM {found.doing}", _hint(found, facts)) if found else None


def _stopped(processes: Iterable[Process]) -> Place | None:
    stopped = [each for each in processes if each.state in "Tt"]
    if not stopped:
        return None
    pids = " ".join(str(each.pid) for each in stopped)
    who = f"{stopped[0].name} (pid {stopped[0].pid})"
    return Place("stands-stopped", f"{who} {STOPPED}", f"on the pod: kill -CONT {pids}")


def place_of(log: str, processes: Iterable[Process], facts: StartFacts) -> Place | None:
    """Return where a start stands, or None if neither stacks nor log tell."""
    processes = tuple(processes)
    if stopped := _stopped(processes):
        return stopped
    lines = log_lines.read(log)[-LAST_LINES:]
    frames = "\n".join(frame for each in processes for frame in frames_of(each.stack))
    programs = "\n".join(each.name for each in processes)
    found = next((kind for kind in KINDS if kind.is_in(frames, programs)), None)
    for line in reversed(lines):
        found = found or next((kind for kind in KINDS if re.search(kind.lines, line.text)), None)
    if found is None:
        return None
    if slow := [each for each in processes if each.state == "D" and found.hint.id == "stands-loading"]:
        return Place(found.hint.id, f"{found.doing}, and {slow[0].name} waits for its disk", _hint(found, facts))
    who = FETCHER if any(each.name == FETCHER for each in processes) else "vLLM"
    return Place(found.hint.id, f"{who} {found.doing}", _hint(found, facts))


def _hint(kind: _Kind, facts: StartFacts) -> str:
    [match] = list(re.finditer("", ""))
    return kind.hint.text(match, facts)


_FRAME = re.compile(
    r'^ +File "(?P<path>[^"]*)", line (?P<line>\d+) in (?P<name>\S+)'  # faulthandler
    r"|^ {4}(?P<spied>\S.*) \((?P<place>[^()]*:\d+)\)$",  # py-spy
    re.MULTILINE,
)

_WAITS = re.compile(
    r"\((?:\S*/)?(?:selectors|threading|queue|poll|connection|popen_\w+|asyncio/\S+|uvloop\S*|runners|base_events)\.py"
)
"""Innermost frames of threads that wait for others."""


def frames_of(stack: str) -> list[str]:
    """Return the frames in stacks of `faulthandler` or of `py-spy` as "function (file:line)", as they stand there."""
    return [
        f"{found['name'] or found['spied']} ({found['place'] or found['path'] + ':' + found['line']})"
        for found in _FRAME.finditer(stack)
    ]


def shown(processes: Iterable[Process]) -> Iterator[str]:
    """Yield one line for each process that does not only wait: the innermost functions of its main thread."""
    for each in processes:
        main = _main_thread(each)
        if main and not _WAITS.search(main[0]):
            short = ", ".join(re.sub(r"\(\S*/([^/]+:\d+)\)", r"(\1)", frame) for frame in main[:FRAMES_SHOWN])
            yield one_line(f"{each.name} (pid {each.pid}): {short}", 300)


def _main_thread(process: Process) -> list[str]:
    """Return the frames of a main thread, the innermost first: `py-spy` names it, `faulthandler` writes it last."""
    threads = re.split(r"^(?=(?:Current )?[Tt]hread )", process.stack, flags=re.MULTILINE)
    named = [thread for thread in threads if re.match(rf'Thread {process.pid} |.*"MainThread"', thread)]
    return next((frames for thread in named or reversed(threads) if (frames := frames_of(thread))), [])
