"""`pi start --replicas` with the real vLLM: requests while a replica is killed and another one leaves.

PI_E2E_REQUESTS=2000 makes it the whole proof; the ordinary run has fewer.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest
import requests

from tests.e2e.conftest import KEY, Pi
from tests.rig import traffic
from tests.rig.pod import listens, until
from tests.rig.sshd import SshdPod

pytestmark = pytest.mark.slow

REQUESTS = int(os.environ.get("PI_E2E_REQUESTS", "240"))

ROUTES = (
    *("/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"),
    *("/metrics", "/tokenize", "/detokenize", "/invocations", "/ping", "/version", "/load", "/v1/load_lora_adapter"),
    *("/docs", "/openapi.json", "/server_info", "/reset_prefix_cache", "/sleep", "/v1/realtime", "/no-such-route"),
)
"""Routes of vLLM 0.32, open and guarded, and some that it has with options only."""


@pytest.fixture(scope="module")
def endpoint(pi: Pi, pods: tuple[SshdPod, SshdPod], model: str) -> Iterator[str]:
    """The address of three replicas on pod `one`."""
    pi.ok("pods", "active", "one")
    pi.ok("start", model, "--name", "rep", "--replicas", "3", timeout_s=1400)
    record = json.loads((pods[0].home / ".pi/run/rep/record.json").read_text())
    yield f"http://127.0.0.1:{record['port']}"
    assert "rep is stopped" in pi.ok("stop", "rep")
    assert json.loads(pi.ok("list", "--json"))["pods"][0]["models"] == []


def test_without_a_key_nobody_reaches_a_replica(endpoint: str, pods: tuple[SshdPod, SshdPod]) -> None:
    for headers in ({}, {"Authorization": "Bearer sk-wrong"}, {"x-api-key": "sk-wrong"}, {"Authorization": KEY}):
        for route in ROUTES:
            for method in ("GET", "POST"):
                done = requests.request(method, f"{endpoint}{route}?without-key", headers=headers, json={}, timeout=30)
                assert (done.status_code, done.headers.get("x-replica")) == (401, None), (method, route, headers)
    logs = [path.read_text() for path in (pods[0].home / ".vllm_logs").glob("rep.*.log")]
    assert len(logs) == 3 and not any("without-key" in log for log in logs)


def test_a_large_body_arrives_whole(endpoint: str) -> None:
    words = {"prompt": "hello " * 40_000, "model": "rep"}  # 240 kB; Claude Code sends 76 kB
    done = requests.post(f"{endpoint}/tokenize", json=words, headers={"x-api-key": KEY}, timeout=60)
    assert done.status_code == 200 and done.json()["count"] > 40_000


def test_only_requests_in_flight_on_a_killed_replica_are_lost(
    pi: Pi, endpoint: str, pods: tuple[SshdPod, SshdPod]
) -> None:
    moments: list[float] = []

    def kill() -> None:
        record = json.loads((pods[0].home / ".pi/run/rep.2/record.json").read_text())
        moments.append(time.monotonic())
        os.killpg(record["session"], signal.SIGKILL)
        assert until(lambda: not listens(record["port"]))
        moments.append(time.monotonic())
        traffic.wait_for(pods[0].home / ".vllm_logs/rep.log", "replicas/rep.2 is DOWN")
        moments.append(time.monotonic())

    def drain() -> None:
        said = pi.ok("scale", "rep", "1")
        assert "rep.2 had ended and was removed" in said and "rep.3 has answered its requests" in said

    done = traffic.run(endpoint, KEY, "rep", REQUESTS, kill, drain)
    traffic.check(done, moments, "rep")
    assert len(done) == REQUESTS and moments[2] - moments[1] < 2


def test_replicas_on_two_pods_answer_at_one_address(pi: Pi, pods: tuple[SshdPod, SshdPod], model: str) -> None:
    here = ("--address", "one=127.0.0.1", "--address", "two=127.0.0.1")  # both pods are this machine
    said = pi.ok("start", model, "--name", "duo", "--replicas", "2", "--across", "one,two", *here, timeout_s=1400)
    assert "two: 1 replica; one passes requests on to 127.0.0.1 (" in said
    try:
        record = json.loads((pods[0].home / ".pi/run/duo/record.json").read_text())
        url = f"http://127.0.0.1:{record['port']}"
        found = [traffic.ask(url, KEY, "duo", number, number) for number in range(24)]
        assert all(each.is_whole for each in found)
        assert {each.replica for each in found} == {"duo.1", "two/duo.1"}
        assert not traffic.ask(url, "sk-wrong", "duo", 1, 1).is_whole
    finally:
        pi("stop", "duo", "--pod", "two")
        pi("stop", "duo", "--pod", "one")
