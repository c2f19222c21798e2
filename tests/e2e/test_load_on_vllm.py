"""`pi top` and `pi bench` with the real vLLM: what they show agrees with its own /metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import KEY, Pi
from tests.rig.sshd import SshdPod


@pytest.fixture(scope="module")
def port(pi: Pi, pods: tuple[SshdPod, SshdPod], model: str) -> Iterator[int]:
    """The port of a model on pod `one` that has answered once."""
    pi.ok("pods", "active", "one")
    pi.ok("start", model, "--name", "load")
    pi.ok("prompt", "load", "--no-tools", "--quiet", "Say hello.")
    yield json.loads((pods[0].home / ".pi/run/load/record.json").read_text())["port"]
    pi.ok("stop", "load")


def figures(port: int) -> dict[str, float]:
    """Return the sums of vLLM's samples, read from its /metrics directly."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {KEY}"}, timeout=10).text
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def top(pi: Pi) -> dict[str, Any]:
    [found] = json.loads(pi.ok("top", "--once", "--json"))["pods"]
    assert found["problem"] is None and found["error"] is None
    model: dict[str, Any] = next(model for model in found["models"] if model["name"] == "load")
    return model


def test_top_agrees_with_metrics(pi: Pi, port: int) -> None:
    shown, counted = top(pi), figures(port)
    assert shown["state"] == "running" and shown["requests_running"] == counted["vllm:num_requests_running"] == 0
    assert shown["kv_share"] == pytest.approx(counted["vllm:kv_cache_usage_perc"])
    assert shown["generation_tokens_per_s"] == 0 and counted["vllm:generation_tokens_total"] > 0
    mean = counted["vllm:time_to_first_token_seconds_sum"] / counted["vllm:time_to_first_token_seconds_count"]
    assert 0.3 * mean < shown["ttft_p50_s"] < 3 * mean
    assert 0 < shown["itl_p50_s"] <= shown["itl_p95_s"]


def test_bench_measures_with_vllms_own_program(pi: Pi, port: int) -> None:
    before = figures(port)["vllm:generation_tokens_total"]
    words = ("bench", "load", "--concurrency", "1,2", "--input", "32", "--output", "8", "--save")
    table = pi.ok(*words)
    assert [line.split()[0] for line in table.splitlines()[1:3]] == ["1", "2"]
    [saved] = (pi.config / "bench").iterdir()
    levels = [level["found"] for level in json.loads(saved.read_text())["levels"]]
    assert [level["completed"] for level in levels] == [8, 8] and all(level["failed"] == 0 for level in levels)
    assert all(0 < level["ttft"]["p50"] <= level["ttft"]["p99"] for level in levels)
    assert figures(port)["vllm:generation_tokens_total"] - before >= 2 * 8 * 8
