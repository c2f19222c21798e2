"""A start that fails: the cause on stderr, exit code 6, and nothing of it left anywhere."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pi.on_pod import health
from pi.on_pod.endings import LOG_BYTES
from pi.vllm.log import explain
from tests.rig.alone import is_alone
from tests.rig.cases import CASES
from tests.rig.command import Done, Pi
from tests.rig.pod import Pod, kill, listens
from tests.rig.skips import skip

LOGS = [
    ("unknown_arg", 2, "rejected-arguments"),
    ("mem_util_too_big", 1, "memory-in-use"),
    ("port_in_use", 1, "port-taken"),
    ("corrupted_safetensors", 1, "damaged-weights"),
    ("midstart_kill_enginecore", 1, "ended-silently"),
    ("oom_ulimit_v_4g", 1, "exited"),
]
"""A few through real processes; tests/cases/failures has them all."""


@pytest.mark.parametrize(("log", "code", "id"), LOGS, ids=[case[0] for case in LOGS])
def test_the_cause_is_reported_and_nothing_stays(pi: Pi, box: Pod, log: str, code: int, id: str) -> None:
    path = CASES / "failures" / f"{log}.log"
    box.fault("vllm", log=str(path), exit=code)
    done = pi("start", box.model(), "--name", "qwen")
    assert done.id == id
    assert explain(path.read_text(), code).cause in done.err
    assert "Traceback" not in done.err
    nothing_stays(pi, box, done)
    assert box.log_of("qwen").read_text().endswith(path.read_text())


def nothing_stays(pi: Pi, box: Pod, done: Done) -> None:
    """The start failed as one that did not become ready, and has left neither note nor process nor port."""
    assert done.code == 6, done
    assert "is ready on" not in done.out
    assert pi.models("box") == {}
    assert box.records() == []
    assert box.quiet() == {}
    assert not listens(port_of(done))


def port_of(done: Done) -> int:
    return int(done.out.partition(", port ")[2].split()[0])


def test_a_stranger_that_says_it_is_healthy_is_not_the_model(pi: Pi, box: Pod) -> None:
    """It takes the port after the survey, while vLLM loads; vLLM itself would die of that only later."""

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Nothing."""

    box.fault("vllm", load_s=30)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    port = int(running.reads(", port ").partition(", port ")[2].split()[0])
    with HTTPServer(("127.0.0.1", port), Healthy) as stranger:
        Thread(target=stranger.serve_forever, args=(0.02,), daemon=True).start()
        done = running.ends()
        stranger.shutdown()
    assert f"another process answers on port {port}" in done.err
    nothing_stays(pi, box, done)


@pytest.mark.core
def test_a_server_of_another_model_is_not_the_model(pi: Pi, box: Pod) -> None:
    box.fault("vllm", serve_as="someone-else")
    done = pi("start", box.model(), "--name", "qwen")
    assert "/v1/models lists someone-else, not qwen" in done.err
    nothing_stays(pi, box, done)


@pytest.mark.parametrize("route", ["/v1/models", "/metrics"])
def test_a_server_that_lets_everyone_in_is_ended(pi: Pi, box: Pod, route: str) -> None:
    box.fault("vllm", open_routes=[route])
    done = pi("start", box.model(), "--name", "qwen")
    assert f"{route} answered 200 without a key" in done.err
    nothing_stays(pi, box, done)


@pytest.mark.long
def test_a_failed_start_can_be_explained_again(pi: Pi, box: Pod, tmp_path: Path) -> None:
    """Also if pi reads only the end of a log; the number counts the lines of all of it."""
    failed = (CASES / "failures" / "mem_util_too_big.log").read_text()
    whole = "INFO 11-23 14:29:12 [core.py:1] Busy.\n" * (LOG_BYTES // 32) + failed
    (tmp_path / "vllm.log").write_text(whole)
    box.fault("vllm", log=str(tmp_path / "vllm.log"), exit=-9 % 256)
    done = pi("start", box.model(), "--name", "qwen")
    told = pi.ok("explain", "qwen")
    assert told.splitlines()[0] in done.err
    assert "GB are free" in told and "GB are free" in done.err
    assert pi.ok("explain") == told
    number = json.loads(pi.ok("explain", "qwen", "--json"))["line"]
    assert "on startup is less than desired" in box.log_of("qwen").read_text().splitlines()[number - 1]


def test_a_server_killed_while_it_loads_is_reported_at_once(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_s=60, child=True, stray=True)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    running.reads("waiting until it is ready")
    kill(box.record("qwen")["pid"])
    done = running.ends(timeout_s=20)
    nothing_stays(pi, box, done)


def test_a_download_that_fills_the_disk_is_reported(pi: Pi, box: Pod) -> None:
    box.fault("hf", fail="disk_full")
    done = pi("start", "Acme/Tiny-1B", "--name", "tiny")
    assert done.code == 1
    assert "No space left on device" in done.err and "the pod's disk is full" in done.err
    assert pi.models("box") == {} and box.records() == [] and box.quiet() == {}


def test_half_a_download_is_not_taken_for_a_model(pi: Pi, box: Pod) -> None:
    box.fault("hf", fail="disk_full")
    pi("start", "Acme/Tiny-1B", "--name", "tiny")
    box.fault("hf")
    pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")
    assert box.received("hf")["argv"][1] == "Acme/Tiny-1B"


@pytest.mark.core
def test_a_pod_without_vllm_is_reported_with_the_setup_command(pi: Pi, box: Pod) -> None:
    (box.home / "venv").unlink()
    done = pi("start", box.model(), "--name", "qwen")
    assert done.code == 6
    assert re.search(r"launch\.sh: line \d+: (vllm|python): command not found", done.err)
    assert "run pi pods setup" in done.err
    assert pi.models("box") == {} and box.records() == [] and box.quiet() == {}


def test_the_log_of_the_start_before_is_kept_beside(pi: Pi, box: Pod) -> None:
    box.fault("vllm", log=str(CASES / "failures" / "unknown_arg.log"), exit=2)
    model = box.model()
    pi("start", model, "--name", "qwen")
    first = box.log_of("qwen").read_text()
    box.fault("vllm")
    pi.ok("start", model, "--name", "qwen")
    assert box.log_of("qwen").with_suffix(".log.1").read_text() == first


@pytest.fixture
def outer() -> str:
    """This machine's address besides loopback. A test namespace always has one."""
    address = health.outer_address()
    if address is None:
        assert not is_alone()
        skip("outer address")
    return address


def test_a_server_that_lets_callers_from_outside_in_is_refused(pi: Pi, box: Pod, outer: str) -> None:
    box.fault("vllm", open_outside=True)
    done = pi("start", box.model(), "--name", "qwen")
    assert done.code == 6
    assert re.search(rf"{re.escape(outer)}:\d+/v1/models answered 200 without a key", done.err)
    assert (pi.models("box"), box.records(), box.quiet()) == ({}, [], {})


@pytest.mark.usefixtures("outer")
def test_a_private_server_that_answers_outside_is_refused(pi: Pi, box: Pod) -> None:
    box.fault("vllm", host="0.0.0.0")
    done = pi("start", box.model(), "--name", "qwen", "--private")
    assert done.code == 6
    assert "the server is private but answers at" in done.err
    assert (pi.models("box"), box.records(), box.quiet()) == ({}, [], {})
