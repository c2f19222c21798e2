"""README.md and docs/ show what pi prints on a pod with H100s (stand-ins), and what its setup prints."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from shutil import disk_usage

import pytest

from chores.docs import ROOT, blocks, pages
from tests.rig.command import Pi, login
from tests.rig.pod import Pod, kill, until
from tests.rig.shown import ADDRESS, PORT, Laptop, check
from tests.ssh.conftest import NewPod, set_mirrors

MODEL, BYTES, CONTEXT = "Qwen/Qwen3-Coder-30B-A3B-Instruct", 61 * 10**9, 262144

HELD_MIB = 75034
"""What a vLLM with 92 % of an H100's memory holds there."""

START = f"pi start {MODEL} --name qwen"


def h100s(count: int) -> list[dict[str, object]]:
    """A pod's GPUs in pods.json."""
    gpu = {"name": "H100 80GB HBM3", "memory": "80GB", "memory_mib": 81559, "compute_capability": "9.0"}
    return [{"id": index, **gpu} for index in range(count)]


def pod_is_known(laptop: Laptop, pod: Pod) -> None:
    """Give `dc1` two H100s, as if it had been set up from this laptop, and room for the model and its context.

    On a small disk there is a file without blocks, as if most of the model had been downloaded.
    """
    pod.cards("h100_8", count=2, serving_mib=HELD_MIB)
    pod.fault("vllm", max_model_len=CONTEXT)
    entry = {"ssh": f"ssh {login()}@{ADDRESS} -p {PORT}", "gpus": h100s(2), "models": {}, "vllmVersion": "0.32.0"}
    laptop.pi.write({"version": 1, "pods": {"dc1": entry}, "active": "dc1"})
    laptop("pi list")
    if disk_usage(pod.home).free < BYTES:
        half_fetched = pod.home / ".cache/huggingface/hub" / f"models--{MODEL.replace('/', '--')}" / "blobs"
        half_fetched.mkdir(parents=True)
        with (half_fetched / "weights.incomplete").open("wb") as file:
            file.truncate(BYTES)


def prices_are_kept(laptop: Laptop, pod: Pod) -> None:
    pod_is_known(laptop, pod)
    (laptop.pi.config / "prices.toml").write_text('"RTX 4090" = 0.44\n', encoding="utf-8")


def model_answers(laptop: Laptop, pod: Pod) -> None:
    """Have `qwen` run, call `ls` once, and answer."""
    laptop.file("README.md", "# Shop\n")
    laptop.file("app.py", "print('hello')\n")
    pod_is_known(laptop, pod)
    pod.fault("vllm", call=["ls", {"path": "."}], say=["Read README.md first, then app.py."], max_model_len=CONTEXT)
    laptop(START)


def model_runs(laptop: Laptop, pod: Pod) -> None:
    pod_is_known(laptop, pod)
    laptop(START)


def model_is_killed(laptop: Laptop, pod: Pod) -> None:
    model_runs(laptop, pod)
    kill(pod.received("qwen")["pid"])
    assert until((pod.home / ".pi/run/qwen/exit").exists)


def fabfile_is_here(laptop: Laptop, pod: Pod) -> None:
    """Write the example of the page as the laptop's fabfile.py."""
    example = re.search(r"```python\n(.*?)```", (ROOT / "docs/fabfiles.md").read_text(), re.DOTALL)
    assert example
    laptop.file("fabfile.py", example[1])
    model_runs(laptop, pod)


SCENES: dict[str, Callable[[Laptop, Pod], None]] = {
    "README.md": pod_is_known,
    "docs/models.md": prices_are_kept,
    "docs/prompt.md": model_answers,
    "docs/pods-and-state.md": model_runs,
    "docs/fabfiles.md": fabfile_is_here,
    "docs/json.md": model_runs,
    "docs/declare.md": model_runs,
    "docs/reach.md": model_runs,
    "docs/door.md": model_runs,
    "docs/decisions/pod-is-the-truth.md": model_is_killed,
}
"""What is done on a fresh pod before the commands of each page run."""

SETUP = "docs/setup.md"


@pytest.mark.every_case
@pytest.mark.parametrize(
    "page", [page if page == "README.md" else pytest.param(page, marks=pytest.mark.long) for page in SCENES]
)
def test_page_shows_what_pi_prints(page: str, pi: Pi, new_pod: NewPod) -> None:
    pod = new_pod("dc1", port=PORT)
    laptop = Laptop(pi, pod)
    SCENES[page](laptop, pod)
    check(ROOT / page, laptop, from_pod=True)


def test_setup_page_shows_what_setup_prints(pi: Pi, new_pod: NewPod, uv: Path, wheels: Path) -> None:
    machine = new_pod("dc1", bare=True, port=PORT).bare_machine(uv)
    machine.cards("h100_8", count=2)
    machine.program("nvcc", "#!/bin/sh\n")
    set_mirrors(pi, wheels)
    check(ROOT / SETUP, Laptop(pi, machine), from_pod=True)


def test_every_block_from_a_pod_is_run() -> None:
    shown = {str(page.relative_to(ROOT)) for page in pages() if blocks(page, from_pod=True)}
    assert shown == {*SCENES, SETUP}
