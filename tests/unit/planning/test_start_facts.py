"""What hints know of a start: from its plan, the pod before it, and the catalog."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pi.calls.events import Failed
from pi.calls.failures import ServerError, error_of
from pi.model_id import ModelId
from pi.planning import catalog, planner
from pi.planning.start_facts import facts_of_start
from pi.planning.types import Request
from pi.vllm.arguments import Arguments
from pi.vllm.start_facts import StartFacts
from tests.pods import pod

CATALOG = catalog.load()

QWEN = Request(ModelId("Qwen/Qwen3-Coder-30B-A3B-Instruct"), "qwen")


def facts(request: Request, kind: str, count: int) -> StartFacts:
    here = replace(pod(kind, count), vllm_version="0.33.0")
    return facts_of_start(planner.plan(request, here, CATALOG), request, here, CATALOG)


def test_the_facts_are_those_of_the_plan_and_of_the_idle_gpus() -> None:
    told = facts(replace(QWEN, variant="bf16", gpus=2, memory=0.9), "h100", 8)
    assert (told.gpus, told.pod_gpus, told.share, told.variant) == (2, 8, 0.9, "bf16")
    assert (told.version, told.venv, told.smaller, told.raw) == ("0.33.0", "venv", "fp8", False)
    assert told.card and "H100" in told.card
    assert (told.more_gpus, told.fewer_gpus, told.more_memory, told.less_memory) == (4, 1, 95, 85)


def test_no_checkpoint_is_smaller_than_the_smallest() -> None:
    assert facts(replace(QWEN, variant="awq"), "h100", 1).smaller is None


def test_a_start_with_raw_arguments_has_no_other_checkpoint() -> None:
    raw = replace(QWEN, vllm_args=Arguments.parse(["--tensor-parallel-size", "2"]))
    told = facts(raw, "h100", 2)
    assert (told.raw, told.smaller, told.more_gpus, told.tensor) == (True, None, None, 2)


LOG = "ValueError: No available memory for the cache blocks.\n"


@pytest.mark.parametrize(
    ("request_", "gpus", "named", "not_named"),
    [
        (replace(QWEN, variant="bf16", gpus=1), 4, ["--memory 95%", "--gpus 2", "--variant fp8"], ["--gpus 4"]),
        (replace(QWEN, variant="bf16", gpus=1, memory=0.95), 1, ["--variant fp8"], ["--memory", "--gpus"]),
    ],
)
def test_an_error_of_the_pod_gets_the_hint_of_its_start(
    request_: Request, gpus: int, named: list[str], not_named: list[str]
) -> None:
    error = error_of(Failed("exited", "vLLM exited", {"name": "qwen", "log": LOG, "exit": 1, "venv": "venv"}))
    assert isinstance(error, ServerError)
    hint = error.given(facts(request_, "h200", gpus)).hint or ""
    assert all(flag in hint for flag in named) and not any(flag in hint for flag in not_named)
    assert "the whole log: pi logs qwen" in hint


def test_what_the_kernel_said_on_the_pod_counts_with_the_facts_too() -> None:
    detail = {"name": "q", "log": "", "exit": 1, "kernel": ["oom_kill 1: the kernel killed a process for memory"]}
    error = error_of(Failed("exited", "vLLM exited", detail))
    assert isinstance(error, ServerError)
    for each in (error, error.given(StartFacts())):
        assert each.message.startswith("killed: the pod's main memory was full\noom_kill 1")
        assert each.id == "main-memory-full"
