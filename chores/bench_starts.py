"""`inv bench --starts`: a first start with torch.compile, a second one, and one on another pod with the same storage.

Whole processes of one model in one run, in this order, `rounds` times from nothing. CPU seconds are those of vLLM's
processes from their launch to ready: on a busy machine they say more than the clock.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.rig.sshd import SshdPod

PI = Path(sys.executable).parent / "pi"

COMPILED = ("--vllm", "--max-model-len", "2048", "--max-num-seqs", "4")
"""Arguments without `--enforce-eager`, which pi's own plan for a CPU has."""

TARGET = 0.6

NAME = "start"

KEY = "sk-bench-0123456789abcdef"


@dataclass(frozen=True)
class Start:
    """A model that became ready: how long it took, and the files of compiled code then."""

    wall_s: float
    cpu_s: float
    folder: Path
    files: frozenset[Path]
    size_bytes: int


def report(demo: Path, rounds: int) -> None:
    """Print the figures, from the pod and the model of `make demo`."""
    model, venv = demo / "models" / "smollm2", demo / "pod" / "home" / "venv"
    if not model.exists() or not venv.exists():
        print("the starts need the pod of `make demo`; run it once")
        return
    taken: list[tuple[Start, Start, Start]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, two_pods(Path(folder), venv) as (one, two):
            taken.append((started(one, model), started(one, model), started(two, model)))
    for number, name in enumerate(("first", "second", "another pod")):
        starts = [each[number] for each in taken]
        cpu, clock = (statistics.median(ratios(taken, number, field)) for field in ("cpu_s", "wall_s"))
        cpu_s, wall_s = (statistics.median(getattr(each, field) for each in starts) for field in ("cpu_s", "wall_s"))
        print(f"{name:12} {cpu_s:6.1f} CPU s, {wall_s:6.1f} s; of the first: {cpu:.2f}, {clock:.2f} by the clock")
    print(f"(target: at most {TARGET}); {taken[-1][-1].size_bytes >> 20} MiB of compiled code")


def ratios(taken: Sequence[tuple[Start, ...]], number: int, field: str) -> list[float]:
    """Return how long a start took next to the first one of its round."""
    return [float(getattr(each[number], field) / getattr(each[0], field)) for each in taken]


class Client:
    """A pi with a config folder of its own, and the pod that it knows."""

    def __init__(self, pod: SshdPod, config: Path) -> None:
        self.pod = pod
        self._environment = {**os.environ, "PI_CONFIG_DIR": str(config), "PI_API_KEY": KEY, "HF_TOKEN": "none"}

    def run(self, *words: str | Path) -> str:
        done = subprocess.run([PI, *words], env=self._environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pi {words[0]} exited with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr


@contextmanager
def two_pods(folder: Path, venv: Path) -> Iterator[tuple[Client, Client]]:
    """Set up two pods with one venv, homes of their own, and the same storage for models."""
    storage = folder / "storage"
    storage.mkdir()
    with running(folder / "one", venv, storage) as one, running(folder / "two", venv, storage) as two:
        yield one, two


@contextmanager
def running(folder: Path, venv: Path, storage: Path) -> Iterator[Client]:
    pod = SshdPod(folder).up()
    (pod.home / "venv").symlink_to(venv)
    (pod.home / ".local").symlink_to(venv.parent / ".local")  # uv
    client = Client(pod, folder / "config")
    try:
        client.run("pods", "setup", "pod", pod.ssh, "--models-path", storage)
        yield client
    finally:
        if (logs := pod.home / ".vllm_logs").exists():
            shutil.copytree(logs, folder.parent / f"logs-{folder.name}", dirs_exist_ok=True)
            client.run("stop", "-y")
        pod.down()


def started(client: Client, model: str | Path, words: Sequence[str] = COMPILED) -> Start:
    """Start a model, and stop it when it is ready."""
    began = time.monotonic()
    client.run("start", model, "--name", NAME, *words)
    wall_s = time.monotonic() - began
    run = client.pod.home / ".pi" / "run" / NAME
    session = json.loads((run / "record.json").read_text())["session"]
    cpu_s = session_s(session)
    storage = (client.pod.home / ".pi" / "models").resolve()
    folder = storage / f"pi-compiled-{os.geteuid()}" / (run / "compiled").read_text().strip()
    files = frozenset(path for path in folder.rglob("*") if path.is_file())
    client.run("stop", NAME)
    return Start(wall_s, cpu_s, folder, files, sum(path.stat().st_size for path in files))


def session_s(session: int) -> float:
    """Return the CPU seconds of a session's processes and of their children that ended (proc(5): /proc/PID/stat)."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += sum(map(int, fields[11:15])) if int(fields[3]) == session else 0
    return ticks / os.sysconf("SC_CLK_TCK")
