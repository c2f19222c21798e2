"""What vLLM measured at a start: printed, kept, and planned with the next time."""

from __future__ import annotations

import json
import re
import stat
from typing import Any

import pytest

from tests.rig.cases import CASES, load
from tests.rig.command import KEY, Pi
from tests.rig.pod import Pod
from tests.ssh.conftest import NewPod
from tests.ssh.test_corrections import SEQUENCES, refuses
from tests.unit.vllm.test_measured import Case

MODEL = "Qwen/Qwen3-8B"

PLANNED = "Qwen/Qwen3-8B-FP8"
"""The checkpoint of MODEL that pi chooses on an H100."""


@pytest.fixture
def gpus(box: Pod) -> Pod:
    box.cards("h100_8")
    return box


def measures(box: Pod, case: str = "gpu_0_33_two_ranks", **vllm: Any) -> None:
    """Have vLLM print the lines of a case before it listens."""
    log = box.home / "measures.log"
    log.write_text(load(Case, CASES / "measured" / f"{case}.toml").log)
    box.fault("vllm", **{"log": str(log), "max_model_len": 46080, **vllm})


def saved(pi: Pi) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((pi.config / "measurements.json").read_text())["measurements"]
    return rows


def test_the_true_context_and_the_requests_that_fit_are_printed(pi: Pi, gpus: Pod) -> None:
    measures(gpus)
    printed = pi.ok("start", MODEL, "--name", "qwen")
    assert "  context: 46080 tokens for one request, about 4 at a time of 16384\n" in printed
    _, line, _ = pi.ok("list").splitlines()
    assert line.split()[5] == "46080"


def test_figures_are_kept_in_a_private_file_without_a_secret(pi: Pi, gpus: Pod) -> None:
    measures(gpus)
    pi.ok("start", MODEL, "--name", "qwen")
    [row] = saved(pi)
    assert (row["checkpoint"], row["vllm"], row["share"]) == (PLANNED, "0.32.0", 0.92)
    assert row["card"] == "H100 80GB HBM3, 80 GiB"
    assert row["measured"]["kv_gib"] == 8.22
    path = pi.config / "measurements.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KEY not in path.read_text()


def test_the_next_plan_shows_the_measured_sum_beside_the_predicted_on_any_pod(pi: Pi, new_pod: NewPod) -> None:
    first, second = new_pod("one"), new_pod("two")
    for pod in (first, second):
        pod.cards("h100_8")
    pi.knows(first, second)
    before = pi.ok("plan", MODEL)
    measures(first)
    pi.ok("start", MODEL, "--name", "qwen")
    after = pi.ok("plan", MODEL, "--pod", "two")
    [memory] = re.findall("^memory .*$", after, re.MULTILINE)
    [predicted] = re.findall("^predicted (.*)$", after, re.MULTILINE)
    assert "30.6 weights + 8.2 KV cache for 46080 tokens" not in before
    assert "30.6 weights" in memory and "for 46080 tokens" in memory and ", measured on 20" in memory
    assert predicted in before
    assert "context   46080 tokens" in after


def test_a_corrected_value_is_planned_from_the_start_the_next_time(pi: Pi, gpus: Pod) -> None:
    refuses(gpus, "too_many_sequences", SEQUENCES)
    assert "starting once more" in pi("start", MODEL, "--name", "qwen").err
    pi.ok("stop", "qwen")
    assert "starting once more" not in pi("start", MODEL, "--name", "qwen").err
    argv = gpus.received("qwen")["argv"]
    assert argv[argv.index("--max-num-seqs") + 1] == "38"


def test_a_damaged_file_gives_one_warning_and_no_failure(pi: Pi, gpus: Pod) -> None:
    measures(gpus)
    (pi.config / "measurements.json").write_text("{")
    done = pi("start", MODEL, "--name", "qwen")
    assert done.code == 0, done
    assert done.err.count("warning: ignoring ") == 1
    assert len(saved(pi)) == 1


def test_a_vllm_that_measures_nothing_leaves_no_figures(pi: Pi, gpus: Pod) -> None:
    printed = pi.ok("start", MODEL, "--name", "qwen")
    assert "  context: 8192 tokens\n" in printed
    assert not (pi.config / "measurements.json").exists()
