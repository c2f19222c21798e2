"""Find the line that decides, if an exception only says that a compiler, a linker or NCCL failed."""

from __future__ import annotations

import re
from typing import NamedTuple

from pi.vllm.log_lines import Line

LINES_BELOW = 400

LINES_ABOVE = 300

APART = 40
"""Lines between two messages of one build."""


class _Tool(NamedTuple):
    """A tool that vLLM calls: what its exceptions say, the lines that decide, and lines that only repeat a failure."""

    exception: re.Pattern[str]
    deciding: re.Pattern[str]
    repeated: re.Pattern[str]


_COMPILER = _Tool(
    re.compile(
        r"Ninja build failed|CalledProcessError|returned non-zero exit status|[Ee]rror (?:building|compiling)"
        r"|InductorError|CppCompileError|Compilation ?(?:Error|failed)|NVCC|PTXAS|[Bb]uild failed|PTXASError"
        r"|Failed to compile"
    ),
    re.compile(
        r"fatal error: .+|(?:nvcc|ptxas|nvlink|cicc) +(?:fatal|error)\s*: .+|#error\b.+"
        r"|cannot find -l.+|undefined reference to .+|\b(?:ba)?sh: .*(?:not found|No such file).*"
        r"|\b(?:error|Error|ERROR)\b[: ].+|: command not found|(?:^|[: ])Killed\b.*|No space left on device"
        r"|is not recognized .+|cannot execute .+"
    ),
    re.compile(
        r"ld returned \d+ exit status|command '.*' failed|subcommand failed|make.*: \*\*\*"
        r"|\d+ errors? (?:detected|generated)"
        r"|returned non-zero|raised in subprocess|warning:|for internal stack trace|error_check|Wno-error|-Werror"
        r"|EngineCore failed|WorkerProc (?:hit|failed)|In file included"
    ),
)

_NCCL = _Tool(
    re.compile(r"NCCL error|nccl\w*Error|DistBackendError|NCCL operation"),
    re.compile(r"NCCL WARN (.+)"),
    re.compile(r"NCCL INFO|NET/(?:IB|Plugin|OFI)|Bootstrap :|No plugin found"),
)

_RAISED = re.compile(r"(?:[A-Za-z_]\w*\.)*\w*(?:Error|Exception)\b")

_LAST_ERROR = re.compile(r"Last error:\s*(.*)")


def deciding_line(lines: list[Line], at: int, text: str) -> Line | None:
    """Return the line that decides, for an exception whose text begins at `at`; None if the exception says it.

    Compilers write below the exception, if it quotes them, or before it. NCCL explains itself below "Last error:", and
    with NCCL_DEBUG also before.
    """
    if _NCCL.exception.search(text):
        return _last_error(lines, at) or _above(lines, at, _NCCL)
    if not _COMPILER.exception.search(text):
        return None
    return _below(lines, at, _COMPILER) or _above(lines, at, _COMPILER)


def _last_error(lines: list[Line], at: int) -> Line | None:
    process = lines[at].process
    below = [line for line in lines[at + 1 : at + LINES_BELOW] if line.process == process][:12]
    for index, line in enumerate(below):
        if found := _LAST_ERROR.search(line.text):
            if found[1]:
                return line._replace(text=found[1])
            return next((each for each in below[index + 1 :] if each.text.strip()), None)
    return None


def _decides(line: Line, tool: _Tool) -> Line | None:
    match = tool.deciding.search(line.text)
    if not match or not line.may_fail or tool.repeated.search(line.text):
        return None
    if tool.exception.search(line.text) and _RAISED.match(line.text):  # an exception that quotes its command line
        return None
    return line._replace(text=match[1] if match.groups() and match[1] else line.text.strip())


def _below(lines: list[Line], at: int, tool: _Tool) -> Line | None:
    process = lines[at].process
    for line in lines[at + 1 : at + LINES_BELOW]:
        if line.process != process:
            continue
        if line.text.startswith("Traceback ("):
            return None
        if found := _decides(line, tool):
            return found
    return None


def _above(lines: list[Line], at: int, tool: _Tool) -> Line | None:
    """Return the first message of the last build before the exception."""
    first: Line | None = None
    for line in reversed(lines[max(0, at - LINES_ABOVE) : at]):
        if first is not None and first.at - line.at > APART:
            break
        first = _decides(line, tool) or first
    return first
