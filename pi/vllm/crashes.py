"""Crashes of native code: the banners of C, C++, CUDA and Python's fault handler, and exit codes."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import NamedTuple

from pi.vllm.log_lines import Line

KILLED = "killed from outside (out of memory?)"

OUT_OF_MEMORY = "killed: the pod's main memory was full"

FRAMES_READ = 40
"""Lines below a banner in which its functions stand."""

FUNCTIONS_SHOWN = 3


class Crash(NamedTuple):
    """The line of a crash, its cause, and the lines around it that hints are matched against."""

    line: Line
    cause: list[str]
    details: list[str]
    by_signal: bool = False


_BANNERS = re.compile(
    r"""
      Fatal\ Python\ error:\ .+
    | !{3,}\ *Segfault\ encountered
    | \*\*\*\ (?:SIG[A-Z]+\ received|Aborted\ at|(?:stack\ smashing|buffer\ overflow)\ detected)\b.*
    | (?:double\ free\ or\ corruption|corrupted\ (?:size\ vs|double-linked|unsorted))\b.*
    | malloc_consolidate\(\).*
    | (?:free|malloc|realloc|calloc|munmap_chunk)\(\):\ .+
    | terminate\ called\b.*
    | (?:Bus\ error|Segmentation\ fault|Illegal\ instruction|Floating\ point\ exception)\b.*
    | Aborted\ \(core\ dumped\)
    | Watchdog\ caught\ collective\ operation\ timeout\b.*
    | LLVM\ ERROR:\ .+
    | Assertion\ .+\ failed\b.*
    | (?:libgomp|OMP|OpenBLAS\ blas_thread_init|libnuma):\ .*(?:fail|[Ee]rror|unavailable).*
    | symbol\ lookup\ error:\ .+
    | error\ while\ loading\ shared\ libraries:\ .+
    """,
    re.VERBOSE,
)

_AT_THE_START = re.compile(r"CUDA (?:driver )?error\b.*|NCCL WARN .+|\[?FATAL\]?\b.+|(?:\[ *\d+\.\d+\] )?NVRM: Xid.*")
"""Messages of native code that end a process, if its line begins with them."""

_WHAT = re.compile(r"\s*what\(\): +(.+)")

_WATCHDOG = re.compile(r"watchdog thread terminated with exception: (.+)")

_FRAMES = re.compile(
    r'  File "[^"]*", line \d+,? in (?P<python>\S+)'
    r"|PC: @ +0x[0-9a-f]+ +(?:\(unknown\) +)?(?P<counter>\S.*)"
    r"|(?:#\d+|@) +0x[0-9a-f]+ (?:in )?(?P<native>[A-Za-z_][\w:]*)"
    r"|frame #\d+: (?P<torch>[A-Za-z_][\w:]*)"
)

_DULL = re.compile(
    r"0x[0-9a-f]+|_?_?libc_\w+|__\w+|_start|raise|abort|<unknown>|\(unknown\)|gsignal|clone3?|c10::.*"
    r"|_?Py\w+|(?:cfunction|builtin|method|slot|object|type)_\w+|main"
)
"""Functions of every crash, which explain none."""


def crashes(lines: list[Line]) -> Iterator[Crash]:
    """Yield the banners of crashes in these lines, each with what it says of its reason."""
    for index, line in enumerate(lines):
        if not line.may_fail:
            continue
        if watchdog := _WATCHDOG.search(line.text):
            yield Crash(line, [watchdog[1]], _functions(lines, index))
        elif match := _BANNERS.search(line.text) or _AT_THE_START.match(line.text):
            yield Crash(line, _cause(match[0], lines, index), _functions(lines, index))


def _cause(banner: str, lines: list[Line], index: int) -> list[str]:
    """Return a banner with its reason: of a C++ exception the words, else the function that crashed."""
    banner = banner.strip("! ")
    for line in lines[index + 1 : index + 4]:
        if what := _WHAT.match(line.text):
            watchdog = _WATCHDOG.search(what[1])
            return [watchdog[1] if watchdog else what[1], banner]
    functions = _functions(lines, index)
    names = ", ".join(name.removeprefix("in ") for name in functions[:FUNCTIONS_SHOWN])
    return [f"{banner} in {names}"] if names else [banner]


def _functions(lines: list[Line], index: int) -> list[str]:
    """Return the functions below a banner, the innermost first, without those of every crash."""
    below = takewhile(_is_native, lines[index + 1 : index + FRAMES_READ])
    found = (next(filter(None, frame.groups())) for line in below if (frame := _FRAMES.search(line.text)))
    return [f"in {name}" for name in islice((name for name in found if not _DULL.fullmatch(name)), 8)]


def _is_native(line: Line) -> bool:
    return not line.level and not line.text.startswith("Traceback (")


_FAILED_CORES = re.compile(r"Failed core proc\(s\): \{(.*?)\}")

_CODE = re.compile(r"'([\w-]+)': (-?\d{1,4}|None)")

_DIED = re.compile(
    r"(?:Worker proc \S+|RayWorkerProc \S+|Engine core (?:process|proc) \S+|engine core) (?:died|exited) unexpectedly"
    r"(?: \(exit code: (-?\d+|None)\))?"
)

SILENT = "{} ended and wrote no reason"


def deaths(lines: list[Line]) -> Iterator[Crash]:
    """Yield what vLLM says of processes that ended: first those that a signal ended."""
    found = []
    for line in lines:
        if died := _DIED.search(line.text):
            found.append(Crash(line, [died[0]], [], (died[1] or "").startswith("-")))
        if cores := _FAILED_CORES.search(line.text):
            for name, code in _CODE.findall(cores[1]) or [("the engine core", "None")]:
                found.append(Crash(line, [_ending(name, code)], [], code.startswith("-")))
    yield from sorted(found, key=lambda crash: not crash.by_signal)


def core_signals(lines: list[Line]) -> set[int]:
    """Return the signals that ended engine cores, by their exit codes."""
    cores = (cores[1] for line in lines if (cores := _FAILED_CORES.search(line.text)))
    return {-int(code) for text in cores for _, code in _CODE.findall(text) if code.startswith("-")}


CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
"""Signals by which a process ends itself; others come from outside."""


def _ending(name: str, code: str) -> str:
    if not code.startswith("-"):
        return SILENT.format(name) + ("" if code == "None" else f" (exit code {code})")
    if -int(code) == signal.SIGKILL:
        return f"{name}: {KILLED}"
    verb = "crashed" if -int(code) in CRASHES else "was stopped"
    return f"{name} {verb}: {signal_name(-int(code)) or f'signal {code[1:]}'}"


def signal_of(exit_code: int | None) -> int | None:
    """Return the signal that ended a process, from its exit code; None for other exit codes."""
    if exit_code is None or 0 <= exit_code <= 128:
        return None
    number = -exit_code if exit_code < 0 else exit_code - 128
    return number if signal_name(number) else None


def signal_name(number: int) -> str | None:
    return next((one.name for one in signal.Signals if one == number), None)
