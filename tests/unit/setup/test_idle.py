"""When a server that nobody uses ends (`pi_idle.py`)."""

from __future__ import annotations

import pytest

from pi.setup.templates import pi_idle

METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="qwen"} 2.0
vllm:num_requests_running{engine="1",model_name="qwen"} 0.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
vllm:num_requests_waiting{engine="0",model_name="qwen"} 1.0
vllm:num_requests_waiting{engine="1",model_name="qwen"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="qwen",reason="capacity"} 1.0
"""


@pytest.mark.parametrize(
    ("metrics", "requests"),
    [(METRICS, 3.0), ("", None), ("vllm:num_requests_running 0.0\n", None), ("<html>", None)],
)
def test_the_requests_in_the_metrics_of_all_engines(metrics: str, requests: float | None) -> None:
    assert pi_idle.requests_in(metrics) == requests


class Server:
    """A server with a clock; `asked` is the time of the guard's file, `requests` what /metrics says."""

    def __init__(self) -> None:
        self.now, self.asked, self.requests = 0.0, None, 0.0  # type: float, float | None, float | None
        self.idle = pi_idle.Idle(600, lambda: self.now)

    def ends_at(self, now: float) -> bool:
        self.now = now
        return self.idle.is_due(self.asked, lambda: self.requests)


def test_a_server_ends_after_the_time_without_a_request() -> None:
    server = Server()
    assert not server.ends_at(599) and server.ends_at(600)


def test_a_request_begins_the_time_again_also_if_the_pods_clock_is_wrong() -> None:
    server = Server()
    server.asked = 5e9
    assert not server.ends_at(500)
    server.asked = 7.0
    assert not server.ends_at(900) and not server.ends_at(1499) and server.ends_at(1500)


def test_it_never_ends_under_load() -> None:
    server = Server()
    server.requests = 1
    assert not any(server.ends_at(now) for now in range(600, 100_000, 100))
    server.requests = 0
    assert not server.ends_at(100_199) and server.ends_at(100_200), "600 s after it was last seen busy, at 99,600"


def test_it_never_ends_if_the_metrics_do_not_tell() -> None:
    server = Server()
    server.requests = None
    assert not server.ends_at(10_000)
    server.requests = 0
    assert server.ends_at(10_001)
