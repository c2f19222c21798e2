"""A plan that is too large for the real vLLM starts at the second try, with the number that vLLM states."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pi.calls.events import Exited
from pi.calls.start import Started, start_model
from pi.model_id import ModelId
from pi.planning import catalog, planner
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.ssh import openssh, target
from pi.ssh.connection import Connection
from pi.steps.reports import StartReport
from pi.vllm.arguments import Arguments
from tests.e2e.conftest import KEY, Pi
from tests.e2e.test_main_job import Pods, living
from tests.rig.sshd import SshdPod

NAME = "large"

SMALL_CACHE = "--kv-cache-memory-bytes 120000000"
"""Room for 4,992 tokens of SmolLM2-135M."""

TOO_LARGE = {
    "context": (f"--max-model-len 8192 {SMALL_CACHE}", "--max-model-len", r"model length is (\d+)"),
    "sequences": (
        f"--max-num-seqs 256 --max-num-batched-tokens 128 {SMALL_CACHE}",
        "--max-num-seqs",
        r"_batched_tokens \((\d+)\)",
    ),
}
"""What is laid over a plan, the option that vLLM's number is for, and where its log says the number."""


def started(pod: SshdPod, model: str, extra: str, folder: Path) -> tuple[Started, list[LaunchPlan]]:
    """Start a plan with other arguments, as `pi start` does. Returns the model and the plan of each try."""
    request = Request(ModelId(model), NAME)
    report = StartReport(request, "one")
    tries: list[LaunchPlan] = []

    def decide(facts: PodFacts) -> LaunchPlan:
        plan = report.planned(planner.plan(request, facts, catalog.load()), facts)
        tries.append(replace(plan, args=Arguments.parse(extra.split()).over(plan.args), env={}))
        return tries[0]

    def correct(plan: LaunchPlan, exited: Exited) -> LaunchPlan | None:
        again = report.corrected(plan, exited)
        if again:
            tries.append(again)
        return again

    with closing(Connection(openssh.way_to(target.parse(pod.ssh), folder))) as connection:
        ready = start_model(
            connection,
            model=model,
            name=NAME,
            key=KEY,
            decide=decide,
            correct=correct,
            listen=report.hear,
            ask_hub=True,
        )
    return ready, tries


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_a_plan_that_is_too_large_starts_with_vllms_own_number(
    kind: str, pi: Pi, pods: Pods, model: str, tmp_path: Path
) -> None:
    extra, option, said = TOO_LARGE[kind]
    ready, tries = started(pods[0], model, extra, tmp_path)
    assert len(tries) == 2
    first_log = (pods[0].home / ".vllm_logs" / f"{NAME}.log.1").read_text()
    number = re.search(said, first_log)
    assert number, first_log[-3000:]
    assert tries[1].args.get(option) == number[1]
    assert ready.context == (int(number[1]) if kind == "context" else tries[1].context)
    record = json.loads((pods[0].home / ".pi" / "run" / NAME / "record.json").read_text())
    assert record["status"] == "running"
    [line] = [line for line in pi.ok("list", "--pod", "one").splitlines() if line.startswith(NAME)]
    assert f" {ready.context} " in line and " running " in line
    pi.ok("stop", NAME, "--pod", "one")
    assert not living(pods[0])


def test_a_start_shows_and_keeps_what_the_real_vllm_measured(pi: Pi, pods: Pods, model: str) -> None:
    printed = pi.ok("start", model, "--name", "kept", "--pod", "one")
    shown = re.search(r"context: (\d+) tokens for one request, about (\d+) at a time of (\d+)", printed)
    assert shown, printed
    rows = json.loads((pi.config / "measurements.json").read_text())["measurements"]
    [measured] = [row["measured"] for row in rows if row["checkpoint"].startswith(model)]
    assert measured["context"] == int(shown[1])
    assert measured["kv_tokens"] // int(shown[3]) >= int(shown[2])
    assert measured["kv_gib"] >= 1
    pi.ok("stop", "kept", "--pod", "one")
