"""`pi start --replicas` with the real vLLM: requests while a replica is killed and another one leaves.

PI_E2E_REQUESTS=2000 makes it the whole proof; the ordinary run has fewer.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.e2e.conftest import KEY, Pi
from tests.rig.sshd import SshdPod

REQUESTS = int(os.environ.get("PI_E2E_REQUESTS", "240"))
AT_ONCE = 16
SESSIONS = 48

ROUTES = (
    *("/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"),
    *("/metrics", "/tokenize", "/detokenize", "/invocations", "/ping", "/version", "/load", "/v1/load_lora_adapter"),
    *("/docs", "/openapi.json", "/server_info", "/reset_prefix_cache", "/sleep", "/v1/realtime", "/no-such-route"),
)
"""Routes of vLLM 0.32, open and guarded, and some that it has with options only."""


@dataclass(frozen=True)
class Asked:
    """A request: its session, the replica that answered, when it began and ended, and whether its answer is whole."""

    session: int
    replica: str
    began: float
    ended: float
    is_whole: bool


@pytest.fixture(scope="module")
def endpoint(pi: Pi, pods: tuple[SshdPod, SshdPod], model: str) -> Iterator[str]:
    """The address of three replicas on pod `one`."""
    pi.ok("pods", "active", "one")
    pi.ok("start", model, "--name", "rep", "--replicas", "3", timeout_s=1400)
    record = json.loads((pods[0].home / ".pi/run/rep/record.json").read_text())
    yield f"http://127.0.0.1:{record['port']}"
    assert "rep is stopped" in pi.ok("stop", "rep")
    assert json.loads(pi.ok("list", "--json"))["pods"][0]["models"] == []


def ask(url: str, session: int, number: int) -> Asked:
    """Stream a short answer, in a conversation with a long beginning."""
    began, replica, is_whole = time.monotonic(), "", False
    body = {
        "model": "rep",
        "stream": True,
        "max_tokens": 4,
        "messages": [{"role": "user", "content": f"Session {session}, request {number}. Say one word."}],
    }
    headers = {"x-api-key": KEY, "X-Session-ID": f"session-{session}"}
    try:
        with requests.post(
            f"{url}/v1/chat/completions", json=body, headers=headers, stream=True, timeout=300
        ) as answer:
            replica = answer.headers.get("x-replica", "")
            is_whole = answer.status_code == 200 and b"data: [DONE]" in b"".join(answer.iter_content(None))
    except requests.RequestException:
        pass
    return Asked(session, replica, began, time.monotonic(), is_whole)


def test_a_stranger_reaches_no_replica(endpoint: str, pods: tuple[SshdPod, SshdPod]) -> None:
    for headers in ({}, {"Authorization": "Bearer sk-wrong"}, {"x-api-key": "sk-wrong"}, {"Authorization": KEY}):
        for route in ROUTES:
            for method in ("GET", "POST"):
                done = requests.request(method, f"{endpoint}{route}?stranger", headers=headers, json={}, timeout=30)
                assert (done.status_code, done.headers.get("x-replica")) == (401, None), (method, route, headers)
    logs = [path.read_text() for path in (pods[0].home / ".vllm_logs").glob("rep.*.log")]
    assert len(logs) == 3 and not any("stranger" in log for log in logs)


def test_a_large_body_arrives_whole(endpoint: str) -> None:
    words = {"prompt": "hello " * 40_000, "model": "rep"}  # 240 kB; Claude Code sends 76 kB
    done = requests.post(f"{endpoint}/tokenize", json=words, headers={"x-api-key": KEY}, timeout=60)
    assert done.status_code == 200 and done.json()["count"] > 40_000


def test_only_requests_in_flight_on_a_killed_replica_are_lost(
    pi: Pi, endpoint: str, pods: tuple[SshdPod, SshdPod]
) -> None:
    done: list[Asked] = []
    down_after = [0.0, 0.0]

    def work(number: int) -> None:
        done.append(ask(endpoint, number % SESSIONS, number))

    def kill_one() -> None:
        log, run = pods[0].home / ".vllm_logs/rep.log", pods[0].home / ".pi/run/rep.2"
        down_after[0] = time.monotonic()
        os.killpg(json.loads((run / "record.json").read_text())["session"], signal.SIGKILL)
        wait_for(log, "replicas/rep.2 is DOWN")
        down_after[1] = time.monotonic()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        first = [pool.submit(work, number) for number in range(REQUESTS // 2)]
        while len(done) < REQUESTS // 4:
            time.sleep(0.01)
        kill_one()
        rest = [pool.submit(work, number) for number in range(REQUESTS // 2, REQUESTS)]
        for future in first:
            future.result()
        drained = pi.ok("scale", "rep", "1")
        for future in rest:
            future.result()

    assert "rep.2 had ended and was removed" in drained and "rep.3 has answered its requests" in drained
    killed, down = down_after
    lost = [each for each in done if not each.is_whole]
    print(f"{len(done)} requests, {len(lost)} lost; rep.2 was out after {down - killed:.2f} s")
    assert len(done) == REQUESTS and down - killed < 2
    homes = {each.session: each.replica for each in done if each.is_whole and each.ended < killed}
    assert set(homes.values()) == {"rep.1", "rep.2", "rep.3"}
    assert 0 < len(lost) <= AT_ONCE
    for each in lost:
        assert each.began <= killed <= each.ended and homes.get(each.session, "rep.2") == "rep.2", each
    stays = Counter(each.replica == "rep.1" for each in done if homes.get(each.session) == "rep.1")
    assert stays[True] >= 0.95 * stays.total()
    before = Counter(each.replica == homes[each.session] for each in done if each.is_whole and each.ended < killed)
    assert before[False] == 0
    after = {each.replica for each in sorted(done, key=lambda each: each.ended)[-AT_ONCE:]}
    assert after <= {"rep.1", "rep.3"}


def wait_for(log: Path, words: str) -> None:
    deadline = time.monotonic() + 30
    while words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
