"""The memory sum beside what vLLM itself says of a model that it has loaded."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi.model_id import ModelId
from pi.planning import catalog, planner, serve
from pi.planning.cache import token_bytes
from pi.planning.config_reader import read_network
from pi.planning.overhead import GIB
from pi.planning.types import PodFacts, Request
from tests.rig.skips import skip

KNOWN = "HuggingFaceTB/SmolLM2-135M-Instruct"
BLOCK_TOKENS = 128
"""vLLM's KV block on a CPU."""


@pytest.fixture(scope="module")
def model(model: str) -> Path:
    if not Path(model).is_dir():
        skip("hub")
    return Path(model)


@pytest.fixture(scope="module")
def log(model: Path, venv: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What vLLM logs until it has made its KV cache, started as pi plans it."""
    config = json.loads((model / "config.json").read_text())
    facts = PodFacts((), memory_mib=24576, cpus=os.cpu_count() or 1, device="cpu", config=config)
    plan = planner.plan(Request(ModelId(model), "sum"), facts, catalog.load())
    home = tmp_path_factory.mktemp("home")
    file = home / "log"
    with file.open("w") as log:
        server = subprocess.Popen(
            serve.command(plan, "127.0.0.1"),
            env={
                **os.environ,
                **serve.environment(plan),
                "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
                "HOME": str(home),
                "VLLM_API_KEY": "sk-e2e-0123456789abcdef",
                "HF_HUB_OFFLINE": "1",
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 240
        while "KV cache size:" not in file.read_text() and server.poll() is None and time.monotonic() < until:
            time.sleep(0.5)
        yield file.read_text()
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_the_kv_cache_takes_exactly_the_bytes_of_the_estimate(log: str, model: Path) -> None:
    found = catalog.load().find(KNOWN)
    assert found is not None
    read = read_network(json.loads((model / "config.json").read_text()))
    assert read is not None and read.groups == found[0].layers
    group = read.groups[0]
    block_bytes = int(group.count * token_bytes(group, 1, 2)) * BLOCK_TOKENS
    tokens = re.search(r"CPU KV cache size: ([\d,]+) tokens", log)
    assert tokens, log[-2000:]
    assert int(tokens[1].replace(",", "")) == GIB // block_bytes * BLOCK_TOKENS


def test_the_weights_are_within_two_percent(log: str, model: Path) -> None:
    found = catalog.load().find(KNOWN)
    assert found is not None
    files = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    assert found[1].weights_gb * 1e9 == pytest.approx(files, rel=0.02)
    loaded = re.search(r"Checkpoint size: ([\d.]+) GiB", log)
    assert loaded, log[-2000:]
    assert files / GIB == pytest.approx(float(loaded[1]), abs=0.005)
