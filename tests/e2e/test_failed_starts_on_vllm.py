"""Starts of the real vLLM that fail or hang on purpose: the cause and the hint that `pi start` prints."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi.on_pod import process
from tests.e2e.conftest import Pi
from tests.e2e.test_main_job import Pods, living
from tests.rig.pod import until
from tests.rig.skips import skip


@pytest.fixture(autouse=True)
def _ids(pi: Pi, pods: Pods) -> Iterator[None]:
    """Errors show their ids, and nothing stays on pod `one`."""
    pi.ok("pods", "active", "one")
    pi.environment["PI_DEBUG"] = "1"
    yield
    del pi.environment["PI_DEBUG"]
    pi("stop", "failing")
    assert until(lambda: not living(pods[0]), 30)


def failed(done: subprocess.CompletedProcess[str] | tuple[int, str]) -> str:
    code, text = done if isinstance(done, tuple) else (done.returncode, done.stderr)
    assert code == 6, text
    return text


def engine(pods: Pods) -> int:
    """Return the engine core of the start, as soon as it runs."""

    def found() -> list[int]:
        return [pid for pid in living(pods[0]) if "EngineCor" in process.described(pid)]

    assert until(lambda: bool(found()), 120)
    return found()[0]


def starting(pi: Pi, *words: str) -> subprocess.Popen[str]:
    return pi.spawn("start", *words, "--name", "failing")


def ended(running: subprocess.Popen[str]) -> str:
    _, text = running.communicate(timeout=300)
    return failed((running.returncode, text))


def test_a_context_longer_than_the_models_names_its_own(pi: Pi, model: str) -> None:
    text = failed(pi("start", model, "--name", "failing", "--vllm", "--max-model-len", "99999999"))
    assert "[context-over-model]" in text
    assert re.search(r"pi start \.\.\. --vllm \.\.\. --max-model-len \d+", text)


def test_damaged_weights_are_named(pi: Pi, model: str, tmp_path: Path) -> None:
    if not Path(model).is_dir():
        skip("hub")
    copy = shutil.copytree(Path(model).resolve(), tmp_path / "m")
    for weights in copy.glob("*.safetensors"):
        weights.write_bytes(b"\xff" * 64)
    assert "[damaged-weights]" in failed(pi("start", str(copy), "--name", "failing"))


def test_a_killed_engine_is_not_told_as_a_lack_of_memory_without_proof(pi: Pi, pods: Pods, model: str) -> None:
    running = starting(pi, model)
    os.kill(engine(pods), signal.SIGKILL)
    text = ended(running)
    assert "[killed]" in text or "[ended-silently]" in text
    assert "main memory was full" not in text


def test_a_killed_server_is_told_by_its_own_exit_code(pi: Pi, pods: Pods, model: str) -> None:
    running = starting(pi, model)
    engine(pods)
    record = (pods[0].home / ".pi" / "run" / "failing" / "pid").read_text()
    os.kill(int(record), signal.SIGKILL)
    assert "[killed]" in ended(running)


def test_a_crash_of_native_code_is_told_with_its_signal(pi: Pi, pods: Pods, model: str) -> None:
    running = starting(pi, model)
    os.kill(engine(pods), signal.SIGSEGV)
    text = ended(running)
    assert re.search(r"Segfault encountered|crashed: SIGSEGV|Segmentation fault", text)
    assert "out of memory" not in text


def test_a_stopped_worker_is_found_with_its_state(pi: Pi, pods: Pods, model: str) -> None:
    running = starting(pi, model, "--timeout", "90")
    hung = engine(pods)
    os.kill(hung, signal.SIGSTOP)
    text = ended(running)
    assert "is stopped by a signal" in text and f"kill -CONT {hung}" in text


def test_a_missing_package_is_named_with_its_command(pi: Pi, model: str) -> None:
    text = failed(pi("start", model, "--name", "failing", "--set", "load-format=runai_streamer"))
    assert "[module-missing]" in text
    assert "on the pod, uv pip install -p ~/venv 'vllm[runai]'" in text


def test_a_port_that_another_process_took_meanwhile(pi: Pi, pods: Pods, model: str) -> None:
    running, record = starting(pi, model), pods[0].home / ".pi" / "run" / "failing" / "record.json"
    assert until(record.exists, 60)
    with socket.create_server(("0.0.0.0", json.loads(record.read_text())["port"])):
        text = ended(running)
    assert "[port-taken]" in text and "start again" in text


def test_a_cache_larger_than_the_main_memory_gets_one_that_fits(pi: Pi, model: str) -> None:
    text = failed(pi("start", model, "--name", "failing", "--env", "VLLM_CPU_KVCACHE_SPACE=4000"))
    assert "[cache-over-memory]" in text and re.search(r"--env VLLM_CPU_KVCACHE_SPACE=\d{1,3}\b", text)


def test_an_engine_that_gets_no_more_memory(pi: Pi, pods: Pods, model: str) -> None:
    running = starting(pi, model)
    pid = engine(pods)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (64 << 20)
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    text = ended(running)
    assert "[main-memory-full]" in text
