"""Rows 22 to 29 of the fault table once more, with the real vLLM: how it dies, and what pi makes of it.

Row 26 is among the tests of the main job. A process that the kernel does not let go (23) cannot be made of vLLM.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pi.on_pod import process
from tests.e2e.conftest import Pi
from tests.e2e.test_main_job import Pods, living
from tests.rig.pod import first_free_port, until
from tests.rig.sshd import SshdPod

ESCAPES = b"\x1b]52;c;aGFjaw==\x07\x1b]0;title\x07\x1b[2J\x1b[1;1H\x1bPq\x1b\\\x9b31m\xff\xfe\x1b[31mthe end\x1b[0m\r\n"


@pytest.fixture(scope="module")
def smol(pi: Pi, pods: Pods, model: str) -> Iterator[str]:
    """A running model on pod `one`; tests that end it start it again."""
    pi.ok("pods", "active", "one")
    pi.ok("start", model, "--name", "faulty")
    yield model
    pi("stop", "faulty")


def entry(pi: Pi) -> dict[str, int]:
    found: dict[str, int] = json.loads((pi.config / "pods.json").read_text())["pods"]["one"]["models"]["faulty"]
    return found


def record(pod: SshdPod) -> dict[str, int]:
    found: dict[str, int] = json.loads((pod.home / ".pi" / "run" / "faulty" / "record.json").read_text())
    return found


def engines(pod: SshdPod) -> list[int]:
    return [pid for pid in living(pod) if Path(f"/proc/{pid}/comm").read_text().startswith("VLLM::")]


def test_row_50_a_log_full_of_escapes_is_shown_safely_and_decides_nothing(smol: str, pi: Pi, pods: Pods) -> None:
    with (pods[0].home / ".vllm_logs" / "faulty.log").open("ab") as log:
        log.write(b"Engine core initialization failed. See root cause above.\n" * 3 + ESCAPES * 2000)
    told = pi.ok("logs", "faulty", "--no-follow", "--lines", "3000")
    assert told.count("the end\n") == 2000, "vLLM may write more behind it"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", told)
    assert "running" in pi.ok("list") and "crashed" not in pi.ok("list")


def test_row_24_an_engine_that_outlives_the_killed_server_is_reported_and_cleaned(
    smol: str, pi: Pi, pods: Pods
) -> None:
    """Neither the launcher nor the engine itself can clean up: one is killed, the other is stopped."""
    held = engines(pods[0])
    assert held
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    for pid in (record(pods[0])["session"], entry(pi)["pid"]):
        os.kill(pid, signal.SIGKILL)
    listed = pi.ok("list")
    assert "crashed" in listed
    assert all(re.search(rf"pid [\d, ]*\b{pid}\b[\d, ]* still runs, pi stop faulty stops it", listed) for pid in held)
    assert "removed what it had left" in pi.ok("stop", "faulty")
    assert not living(pods[0])
    assert "no models" in pi.ok("list")


def test_rows_25_and_28_an_engine_that_is_killed_takes_the_server_along_and_both_are_reported(
    smol: str, pi: Pi, pods: Pods
) -> None:
    """The port that would come first is a stranger's (row 28)."""
    taken = first_free_port()
    with stranger(taken):
        pi.ok("start", smol, "--name", "faulty")
    port = entry(pi)["port"]
    assert port > taken
    following = pi.spawn("logs", "faulty")
    time.sleep(2)
    for pid in engines(pods[0]):
        os.kill(pid, signal.SIGKILL)
    _, told = following.communicate(timeout=60)
    assert following.returncode == 1
    assert re.search(r"faulty exited with status \d+", told)
    listed = pi.ok("list")
    assert re.search(r"crashed at \d\d:\d\d, exit \d+: .*unexpectedly", listed)
    assert until(lambda: not living(pods[0]), 30), "the launcher ends what outlives the server"
    pi.ok("stop", "faulty")
    assert port not in process.listening_ports()
    assert "no models" in pi.ok("list")


class Healthy(BaseHTTPRequestHandler):
    """A stranger that says to everyone that it is healthy."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Nothing."""


@contextmanager
def stranger(port: int) -> Iterator[None]:
    with HTTPServer(("0.0.0.0", port), Healthy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def test_row_29_a_stranger_that_answers_health_on_the_port_is_not_the_model(smol: str, pi: Pi, pods: Pods) -> None:
    starting = pi.spawn("start", smol, "--name", "faulty")
    assert starting.stdout is not None
    first = starting.stdout.readline()
    port = int(first.partition(", port ")[2])
    with stranger(port):
        _, told = starting.communicate(timeout=90)
    assert starting.returncode == 6
    assert f"another process answers on port {port}: pid {os.getpid()} (" in told
    assert not living(pods[0])
    assert "no models" in pi.ok("list")


def test_row_27_a_server_that_is_not_ready_in_time_is_stopped_and_its_last_lines_printed(
    smol: str, pi: Pi, pods: Pods
) -> None:
    pi("stop", "faulty")
    done = pi("start", smol, "--name", "faulty", "--timeout", "4")
    assert done.returncode == 6
    assert re.search(r"faulty was not ready after 4 s; pi stopped it( while [^;]+)?; its log ends with: ", done.stderr)
    assert not living(pods[0])
    assert "no models" in pi.ok("list")


def test_row_22_a_server_that_stands_still_is_continued_and_ended(smol: str, pi: Pi, pods: Pods) -> None:
    """A stopped process gets its TERM only when it continues."""
    starting = pi.spawn("start", smol, "--name", "faulty")
    assert until(lambda: any(b"vllm" in words for words in map(command_line, living(pods[0]))), 30)
    assert until(lambda: "pid" in record(pods[0]), 30)
    os.kill(record(pods[0])["pid"], signal.SIGSTOP)
    told = pi("stop", "faulty")
    starting.communicate(timeout=30)
    assert told.stdout == "faulty is stopped before it was ready; its downloads stay cached\n", told
    assert starting.returncode != 0
    assert not living(pods[0])
    assert "no models" in pi.ok("list")


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
