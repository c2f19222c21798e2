"""What a vLLM that starts is doing, read from its own log lines: the forms of vLLM 0.20 to 0.33, GPU and CPU."""

from __future__ import annotations

import re

from pi.text import one_line

PREFIX = re.compile(
    r"\A(?:\([A-Za-z_][\w-]*[^)]{0,120}\) ?)?(?:\[rank\d+\]: ?)?"
    r"(?:(?:DEBUG|INFO|WARNING|ERROR) \d\d-\d\d \d\d:\d\d:\d\d (?:\[?[^\]\s]+:\d+\])? ?)?"
    r"(?:(?:INFO|WARNING|ERROR): +)?"
)
"""The prefix of a line, such as "(EngineCore pid=95) INFO 11-23 14:29:12 [core.py:1510] "."""

LONGEST_LINE = 4096

PHASES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("warming up", re.compile(r"(?i)warming up|warmup model|init engine|autotuning")),
    ("capturing CUDA graphs", re.compile(r"(?i)captur\w+ (?:CUDA|cudagraph|graph)|graph captur")),
    ("compiling", re.compile(r"torch\.compile (?:took|takes|cache)|Dynamo bytecode|Compiling a graph|Inductor")),
    (
        "loading weights",
        re.compile(
            r"(?i)loading (?:model|weights|\w+ checkpoint)|starting to load|checkpoint shards|model loading took"
        ),
    ),
    ("measuring memory", re.compile(r"KV cache (?:memory|size)|(?i:profiling)")),
    (
        "opening its port",
        re.compile(r"Starting vLLM (?:API )?server|Started server process|Waiting for application|startup complete"),
    ),
    (
        "starting its engine",
        re.compile(r"Initializing a V\d LLM engine|non-default args|world_size=|vLLM API server version"),
    ),
)
"""What a line says that vLLM does; the first match counts."""


def phase_of(line: str) -> str | None:
    """Return what vLLM does by a line of its log, such as "loading weights"; None if the line does not tell."""
    text = plain(line)
    return next((phase for phase, pattern in PHASES if pattern.search(text)), None)


def plain(line: str) -> str:
    """Return a line of a log without the prefix of process, level, time and file."""
    return one_line(PREFIX.sub("", line[:LONGEST_LINE], count=1), 300)
