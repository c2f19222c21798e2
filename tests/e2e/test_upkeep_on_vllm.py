"""`--restart`, the watchdog and `--stop-after-idle` on the real vLLM: one model that is killed, hangs, works and rests."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.conftest import KEY, Pi
from tests.e2e.test_main_job import Pods, living
from tests.rig.pod import until
from tests.rig.sshd import SshdPod

pytestmark = pytest.mark.slow

PACE = 0.1
"""Of the model's launcher alone: a probe every 6 s with 4.5 s for its answer, a hang after 29 s, idle after 42 s."""

IDLE_S = (6 * 60 + 60) * PACE


@pytest.fixture(scope="module")
def box(pi: Pi, pods: Pods, model: str) -> Iterator[SshdPod]:
    """Pod `one` with the model `kept`, whose launcher runs at the pace of tests."""
    pi.ok("pods", "active", "one")
    own = pods[0].home / ".pi" / "env.sh"
    before = own.read_text()
    own.write_text(f"{before}export PI_TEST_PACE={PACE}\n")
    try:
        pi.ok("start", model, "--name", "kept", "--restart", "on-failure:2", "--stop-after-idle", "6m")
        yield pods[0]
        pi("stop", "kept")
    finally:
        own.write_text(before)


def listed(pi: Pi) -> dict[str, Any]:
    [found] = json.loads(pi.ok("list", "--json"))["pods"][0]["models"]
    return dict(found)


def log_of(box: SshdPod) -> str:
    return (box.home / ".vllm_logs" / "kept.log").read_text(errors="replace")


def engine(box: SshdPod) -> int:
    [pid] = [pid for pid in living(box) if Path(f"/proc/{pid}/comm").read_text().startswith("VLLM::EngineCor")]
    return pid


def ask(pi: Pi, **body: Any) -> requests.Response:
    url = f"http://127.0.0.1:{listed(pi)['port']}/v1/completions"
    body |= {"model": "kept", "prompt": "Once"}
    return requests.post(url, json=body, headers={"x-api-key": KEY}, stream="stream" in body, timeout=120)


def counted(pi: Pi) -> int:
    """Return the requests with the key of the setup on this pod."""
    keys = json.loads(pi.ok("key", "list", "--json"))["pods"][0]["keys"]
    return int(next(key["requests"] for key in keys if key["name"] is None))


def runs_again(pi: Pi, restarts: int) -> bool:
    now = listed(pi)
    return bool(now["restarts"] == restarts and now["state"] == "running")


def test_a_killed_engine_starts_again(box: SshdPod, pi: Pi) -> None:
    os.kill(engine(box), signal.SIGKILL)
    assert until(lambda: runs_again(pi, 1), 240)


def test_an_engine_that_hangs_leaves_its_stacks_and_starts_again(box: SshdPod, pi: Pi) -> None:
    """/health answers all the time: it does not see that the engine is stopped."""
    held = engine(box)
    assert ask(pi, max_tokens=1).status_code == 200  # the time without a request begins now
    os.kill(held, signal.SIGSTOP)
    assert until(lambda: "pi: ending the server, so that it starts again" in log_of(box), 60)
    stacks = log_of(box).partition("pi: the server hangs: no answer to 4 requests for one token")[2]
    assert f"(pid {held}, state T): " in stacks, "the engine"
    assert "MainThread" in stacks, "the stacks of the API server"
    assert until(lambda: runs_again(pi, 2), 240)
    assert not Path(f"/proc/{held}").exists()


def test_it_does_not_end_while_it_works_and_ends_when_nobody_uses_it(box: SshdPod, pi: Pi) -> None:
    """The probes do not count as use: they keep nothing alive, and leave no line in the log."""
    before, asked = log_of(box), counted(pi)
    assert until((box.home / ".pi/run/kept/probes").exists, 30)
    began = time.monotonic()
    with ask(pi, max_tokens=4000, ignore_eos=True, stream=True) as reply:
        for _ in reply.iter_lines():
            if time.monotonic() - began > IDLE_S + 5:
                break
    assert time.monotonic() - began > IDLE_S + 5, "it answered all the time"
    assert listed(pi)["state"] == "running"
    assert until(lambda: listed(pi)["state"] == "stopped", IDLE_S + 60)
    assert "no request for 6 min; pi restart kept" in listed(pi)["sentence"]
    assert until(lambda: not living(box), 30)
    since = log_of(box)[len(before) :]
    assert since.count("/v1/completions") == 1 and "pi: no request for 6 min" in since
    assert counted(pi) == asked + 1
