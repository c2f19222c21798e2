"""What a starting vLLM does, by its own lines in the forms of several versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from pi.vllm.phases import phase_of, plain
from tests.rig.cases import CASES, load


@dataclass(frozen=True)
class Case:
    """The keys of a case file (tests/cases/measured/README.md)."""

    about: str
    source: str
    log: str
    measured: dict[str, Any]


ENGINE = "(EngineCore_DP0 pid=95) INFO 11-23 14:29:12 [core.py:1510] "

# a line, what vLLM does by it, the line without its prefix
LINES = [
    ("INFO 11-23 14:29:01 [api_server.py:1839] vLLM API server version 0.33.0", "starting its engine", None),
    (ENGINE + "Starting to load model Qwen/Qwen3-8B...", "loading weights", "Starting to load model Qwen/Qwen3-8B..."),
    (
        "(Worker_TP0 pid=301) \rLoading safetensors checkpoint shards:  50% Completed | 1/2 [00:03<00:03,  3.1s/it]",
        "loading weights",
        "Loading safetensors checkpoint shards: 50% Completed | 1/2 [00:03<00:03, 3.1s/it]",
    ),
    (ENGINE + "Loading weights took 3.61 seconds", "loading weights", None),
    (ENGINE + "Model loading took 15.27 GiB memory and 4.402196 seconds", "loading weights", None),
    (ENGINE + "Dynamo bytecode transform time: 6.51 s", "compiling", "Dynamo bytecode transform time: 6.51 s"),
    (ENGINE + "Compiling a graph for compile range (1, 2048) takes 18.86 s", "compiling", None),
    (ENGINE + "torch.compile took 28.40 s in total", "compiling", None),
    ("Capturing CUDA graphs (decode, FULL):  40%|####      | 14/35", "capturing CUDA graphs", None),
    (ENGINE + "Graph capturing finished in 7 secs, took 0.56 GiB", "capturing CUDA graphs", None),
    (ENGINE + "GPU KV cache size: 35,792 tokens", "measuring memory", None),
    (ENGINE + "Warming up attention kernels", "warming up", None),
    (ENGINE + "init engine (profile, create kv cache, warmup model) took 41.3 seconds", "warming up", None),
    ("(APIServer pid=12) INFO 11-23 14:31:00 [launcher.py:38] Starting vLLM server on http://0.0.0.0:8001", "opening its port", None),
    ("INFO:     Started server process [12]", "opening its port", None),
    ("INFO:     Application startup complete.", "opening its port", "Application startup complete."),
    ("[rank0]: W1123 NCCL version 2.30.7", None, "W1123 NCCL version 2.30.7"),
    ("", None, ""),
    ("(" * 5000, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "phase", "text"), LINES)
def test_a_line_tells_its_phase(line: str, phase: str | None, text: str | None) -> None:
    assert phase_of(line) == phase
    assert text is None or plain(line) == text


@pytest.mark.parametrize("name", ["cpu_0_32", "gpu_0_33"])
def test_a_whole_log_goes_through_its_phases_in_order(name: str) -> None:
    log = load(Case, CASES / "measured" / f"{name}.toml").log
    phases = list(dict.fromkeys(phase for line in log.splitlines() if (phase := phase_of(line))))
    usual = [
        "starting its engine",
        "loading weights",
        "compiling",
        "measuring memory",
        "capturing CUDA graphs",
        "warming up",
        "opening its port",
    ]
    assert phases == [phase for phase in usual if phase in phases] and len(phases) > 2
