"""`pi start --across` with the real vLLM: one model over pods that have networks of their own (`tests/rig/network.py`).

SmolLM2 has nine heads, so it takes three pods; a model of random weights takes two. PI_E2E_PATIENCE=3 is for a busy
machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chores.model import provide
from tests.e2e.conftest import FOLDER, Pi
from tests.rig.network import Namespace, NetworkPod, networks
from tests.rig.pod import make_venv, until

pytestmark = pytest.mark.slow

TINY = """
import sys, torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=49152, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=64, max_position_embeddings=2048, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    tie_word_embeddings=True, dtype="bfloat16",
)
LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(sys.argv[2])
AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])
"""
"""A model of four heads with random weights."""


class Cluster:
    """Three pods, `a`, `b` and `c`, and a machine on their networks that is not a pod."""

    def __init__(self, pods: list[NetworkPod], other: Namespace) -> None:
        self.pods, self.other = pods, other
        self.a, self.b, self.c = pods

    def living(self) -> dict[str, int]:
        """Return how many processes of models each pod has."""
        return {pod.name: len(pod.processes()) for pod in self.pods if pod.processes()}

    def has_nothing_left(self) -> bool:
        """Return whether no process, record or rule of a model is left on a pod."""
        tables = [pod.space.run("nft", "list", "tables") for pod in self.pods]
        return not (self.living() or any(tables) or any(pod.records() for pod in self.pods))


@pytest.fixture(scope="module")
def smollm2(venv: Path) -> Path:
    """SmolLM2 as a folder: pods with networks of their own reach no hub."""
    made = provide(FOLDER, venv.parent, dict(os.environ))
    return Path(made) if Path(made).is_dir() else downloaded(made, venv)


def downloaded(model: str, venv: Path) -> Path:
    found = subprocess.run([venv / "bin" / "hf", "download", model], check=True, capture_output=True, text=True)
    return Path(found.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def tiny(smollm2: Path, venv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([venv / "bin" / "python", "-c", TINY, smollm2, folder], check=True, capture_output=True)
    return folder


@pytest.fixture
def cluster(tmp_path: Path, venv: Path) -> Iterator[Cluster]:
    with networks() as made:
        spaces = [made.namespace() for _ in range(4)]
        pods = [NetworkPod(tmp_path / name, name, space) for name, space in zip("abc", spaces, strict=False)]
        for pod in pods:
            pod.furnish(venv).up()
        found = Cluster(pods, spaces[3])
        yield found
        for pod in pods:
            pod.down()
            for pid in pod.processes():
                os.kill(pid, signal.SIGKILL)
        for space in spaces:
            space.down()


@pytest.fixture
def laptop(tmp_path: Path, cluster: Cluster) -> Pi:
    found = Pi(tmp_path / "laptop")
    found.config.mkdir()
    pods = {pod.name: {"ssh": pod.ssh, "gpus": [], "models": {}} for pod in cluster.pods}
    (found.config / "pods.json").write_text(json.dumps({"pods": pods, "active": "a"}))
    found.environment["PI_DEBUG"] = "1"
    return found


ONE_THREAD = ("--env", "VLLM_CPU_OMP_THREADS_BIND=nobind", "--env", "OMP_NUM_THREADS=1")
"""The pods share this machine's cores: threads of several ranks that spin on the same ones slow each other down."""


def start(pi: Pi, model: Path | str, pods: str) -> None:
    words = ("--name", "big", "--across", pods, "--slow-network", "-y", "--timeout", "850", *ONE_THREAD)
    said = pi.ok("start", str(model), *words)
    assert "pi sets the firewall of" in said and "big is ready over" in said


def ask(pi: Pi, question: str) -> str:
    return pi.ok("prompt", "big", "--no-tools", "--temperature", "0", "--max-tokens", "16", question)


def check_end(pi: Pi, cluster: Cluster, lost: NetworkPod, within_s: float) -> None:
    """Check that all parts end in time after one was lost, that pi names its pod, and that a stop leaves nothing."""
    began = time.monotonic()
    assert until(lambda: not cluster.living(), 60), cluster.living()
    assert time.monotonic() - began < within_s
    shown = pi.ok("list", "--all-pods")
    assert f"{lost.name} ({lost.space.private})" in shown, shown
    pi.ok("stop", "big")
    assert cluster.has_nothing_left()


def test_three_pods_serve_a_model_until_one_is_cut_off(laptop: Pi, cluster: Cluster, smollm2: Path) -> None:
    start(laptop, smollm2, "a,b,c")
    assert "Paris" in ask(laptop, "What is the capital of France?")
    for pod in cluster.pods:
        reached = [22, 8001] if pod is cluster.a else [22]
        for address in (pod.space.outer, pod.space.private):
            assert cluster.other.scan(address)[0] == reached, (pod.name, address)
    assert len(cluster.b.space.scan(cluster.a.space.private)[0]) > 2, "a pod of the model reaches its ports"
    time.sleep(30)
    assert "Paris" in ask(laptop, "What is the capital of France?"), "idle, they stay"
    cluster.c.space.cut_off()
    check_end(laptop, cluster, cluster.c, 30)


def test_a_killed_rank_ends_the_model_on_both_pods(laptop: Pi, cluster: Cluster, tiny: Path) -> None:
    start(laptop, tiny, "a,b")
    assert ask(laptop, "Hello").strip()
    os.kill(cluster.b.record("big")["pid"], signal.SIGKILL)
    check_end(laptop, cluster, cluster.b, 15)


def refused(pi: Pi, cluster: Cluster, id: str, model: str, *words: str) -> str:
    """Return what pi prints if it refuses a start before anything runs."""
    done = pi("start", model, "--name", "big", "--across", "a,b,c", "-y", *words)
    assert done.returncode and f"[{id}]" in done.stderr, done.stderr
    assert cluster.has_nothing_left()
    return done.stderr


def test_pods_without_the_weights_are_named(laptop: Pi, cluster: Cluster, smollm2: Path) -> None:
    for pod in (cluster.a, cluster.c):
        (pod.home / "smollm2").symlink_to(smollm2)
    said = refused(laptop, cluster, "no-such-path", "~/smollm2", "--slow-network")
    assert "b among them: the pod has no directory ~/smollm2" in said
    (cluster.b.home / "smollm2").mkdir()
    for file in smollm2.iterdir():
        if file.suffix != ".safetensors":
            (cluster.b.home / "smollm2" / file.name).symlink_to(file)
    said = refused(laptop, cluster, "span-weights", "~/smollm2", "--slow-network")
    assert "the pods have different files of ~/smollm2: a has " in said and ", b has " in said


def test_pods_with_another_version_are_named(laptop: Pi, cluster: Cluster, smollm2: Path) -> None:
    (cluster.b.home / "venv").unlink()
    make_venv(cluster.b.home / "venv", "0.31.0")
    said = refused(laptop, cluster, "span-versions", str(smollm2), "--slow-network")
    assert "b has 0.31.0" in said


def test_a_slow_line_is_refused_with_its_figures(laptop: Pi, cluster: Cluster, smollm2: Path) -> None:
    cluster.c.space.slow_down("500mbit")
    said = refused(laptop, cluster, "network-slow", str(smollm2))
    assert "0.4" in said and "c, it needs 10 Gbit/s" in said
