"""When a server hangs (`pi_watch.py`): by its figures, its answers to probes, and what else explains a silence."""

from __future__ import annotations

import contextlib
import json
import runpy
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import pi
from pi.pods.apis import APIS

PROGRAM = Path(pi.__file__).parent / "setup" / "templates" / "pi_watch.py"
WATCH = runpy.run_path(str(PROGRAM))
LOOK_S, PROBE_S, MISSES, HUNG_S = (WATCH[name] for name in ("LOOK_S", "PROBE_S", "MISSES", "HUNG_S"))

NONE, BLIND = None, frozenset[str]()


def figures(number: int) -> frozenset[str]:
    return frozenset({f"vllm:generation_tokens_total {number}.0"})


# Each look: the figures, whether a probe is answered (None: the test fails if one is sent), the seconds it takes.
# Then: at which look the server hangs first, or None.
STILL = (figures(1), False, PROBE_S)
HANGS: dict[str, tuple[list[tuple[Any, bool | None, float]], int | None]] = {
    "answers every probe": ([(figures(1), True, 1)] * 20, None),
    "answers users, so that no probe is sent": (
        [(figures(0), True, 1), *((figures(each), None, 0) for each in range(1, 20))],
        None,
    ),
    "answers nothing and stands still": ([(figures(1), True, 1), *[STILL] * 8], 4),
    "stands still from its first look": ([STILL] * 8, 3),
    "is too busy for a probe, but works": ([(figures(each // 3), False, PROBE_S) for each in range(40)], None),
    "answers a probe now and then": ([STILL, STILL, STILL, (figures(1), True, 30)] * 6, None),
    "gives no figures and no answer: its API server hangs": ([(NONE, False, PROBE_S)] * 8, 3),
    "gives no figures for a while, but works": ([(figures(0), True, 1), *[(NONE, True, 40)] * 9], None),
    "has figures that tell nothing: it may be busy": ([(BLIND, False, PROBE_S)] * 40, None),
    "refuses connections: each look takes no time": ([(NONE, False, 0)] * 8, 3),
}


@pytest.mark.parametrize(("looks", "expected"), HANGS.values(), ids=HANGS)
def test_a_server_hangs_if_it(looks: list[tuple[Any, bool | None, float]], expected: int | None) -> None:
    now, found = [0.0], None
    hang = WATCH["Hang"](1, lambda: now[0])
    for number, (given, answers, seconds) in enumerate(looks):
        now[0] = LOOK_S * (number + 1)

        def probe(answers: bool | None = answers, seconds: float = seconds) -> bool:
            assert answers is not None, "a probe although users were answered"
            now[0] += seconds
            return answers

        if hang.is_hung(lambda given=given: given, probe, lambda: False) and found is None:
            found = number
    assert found == expected


def test_a_hang_is_found_before_vllm_gives_up_a_worker() -> None:
    assert max(HUNG_S, MISSES * LOOK_S) + PROBE_S < 300


def test_a_machine_that_slept_makes_no_server_hang() -> None:
    now = [0.0]
    hang = WATCH["Hang"](1, lambda: now[0])
    for slept_s in (8 * 3600, 8 * 3600, 8 * 3600):
        now[0] += slept_s
        assert not hang.is_hung(lambda: figures(1), lambda: False, lambda: False)


def test_a_compiler_or_a_debugger_explains_a_silence_until_it_ends() -> None:
    now, excused = [0.0], [True]
    hang = WATCH["Hang"](1, lambda: now[0])
    for _ in range(30):
        now[0] += LOOK_S + PROBE_S
        assert not hang.is_hung(lambda: figures(1), lambda: False, lambda: excused[0])
    excused[0] = False
    now[0] += LOOK_S
    assert hang.is_hung(lambda: figures(1), lambda: False, lambda: excused[0])
    assert not hang.is_hung(lambda: figures(2), lambda: False, lambda: False) and hang.misses == 0


def test_what_a_probe_moves_is_not_taken_for_use() -> None:
    """Else every second probe would be left out."""
    tokens, sent = [0], []
    hang = WATCH["Hang"](1, lambda: 0.0)

    def probe() -> bool:
        tokens[0] += 1
        sent.append(tokens[0])
        return True

    for _ in range(5):
        hang.is_hung(lambda: figures(tokens[0]), probe, lambda: False)
    assert sent == [1, 2, 3, 4, 5]


def test_figures_are_those_of_the_engine() -> None:
    metrics = (
        "# TYPE vllm:generation_tokens_total counter\n"
        'vllm:generation_tokens_total{engine="0"} 7.0\n'
        'vllm:admission_rejections_total{reason="x"} 3.0\n'
        "process_cpu_seconds_total 8.1\nhttp_requests_total 9.0\n"
    )
    assert WATCH["figures_in"](metrics) == {'vllm:generation_tokens_total{engine="0"} 7.0'}
    assert WATCH["figures_in"]("python_info 1.0\n") == BLIND and WATCH["figures_in"](None) is None


@pytest.mark.parametrize("api", APIS)
def test_each_api_has_a_small_request_for_one_of_its_routes(api: str) -> None:
    path, kind, body = WATCH["request_of"](api, "qwen")
    if api in ("chat", "responses"):
        assert path == "/v1/completions"
    else:
        assert path in APIS[api].routes
    assert b"qwen" in body and len(body) < 40_000
    if kind == "application/json":
        assert json.loads(body)["model"] == "qwen"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/late":
            time.sleep(5)
        status = 200 if self.headers["X-Pi-Probe"] == "mark" and self.headers["Authorization"] == "Bearer k" else 401
        self.send_response(status)
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # the other side has given up
            self.wfile.write(b'{"usage": {}}')

    def log_message(self, *_: Any) -> None:
        pass


def test_an_answer_counts_if_it_comes_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "k")
    monkeypatch.setenv("PI_PROBE", "mark")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        port = server.server_address[1]
        assert WATCH["ask"](port, "/x", 10, "application/json", b"{}") == (200, b'{"usage": {}}')
        began = time.monotonic()
        assert WATCH["ask"](port, "/late", 0.2, "application/json", b"{}").status == 0
        assert time.monotonic() - began < 4
        server.shutdown()
    assert WATCH["ask"](port, "/x", 1, "application/json", b"{}").status == 0
