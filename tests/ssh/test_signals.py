"""One signal ends pi within 3 s, whatever the pod does, and pi says what becomes of the work. Dead links too."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from tests.rig.command import Done, Pi, Running
from tests.rig.patience import patient
from tests.rig.pod import Pod, read, until
from tests.ssh.test_interrupt import SIGNALS, calls_on

EACH = pytest.mark.parametrize(("number", "code"), SIGNALS, ids=[number.name for number, _ in SIGNALS])


def ends_soon(running: Running, number: int, code: int) -> Done:
    """Send one signal; return how pi ended, which takes less than 3 s."""
    began = time.monotonic()
    running.interrupt(number)
    done = running.ends()
    assert time.monotonic() - began < patient(3)
    assert done.code == code, done
    assert "Traceback" not in done.all
    return done


def surveying(pi: Pi, box: Pod) -> Running:
    """Return a start whose program on the pod waits for nvidia-smi."""
    box.cards("h100_8", seconds=8)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    assert until(lambda: any("nvidia-smi" in words for words in box.processes().values()))
    return running


@EACH
def test_a_healthy_pod_stops_the_work(pi: Pi, box: Pod, number: int, code: int) -> None:
    box.fault("vllm", load_s=60)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    running.reads("waiting until it is ready")
    done = ends_soon(running, number, code)
    assert "pi: interrupted; pi stopped the work on the pod\n" in done.err
    assert box.quiet() == {} and box.records() == []


@EACH
def test_a_busy_pod_finishes_by_itself(pi: Pi, box: Pod, number: int, code: int) -> None:
    done = ends_soon(surveying(pi, box), number, code)
    assert done.err.endswith("the pod is still stopping the work, and finishes by itself\n")
    assert box.quiet() == {} and box.records() == []


@EACH
def test_a_stopped_program_is_reported_as_unconfirmed(pi: Pi, box: Pod, number: int, code: int) -> None:
    running = surveying(pi, box)
    stopped = calls_on(box)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        done = ends_soon(running, number, code)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert "the pod did not confirm that it stops" in done.err
    assert "pi stop NAME ends it" in done.err
    assert box.quiet() == {}


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@EACH
def test_a_signal_while_ssh_connects(pi: Pi, silent_port: int, number: int, code: int) -> None:
    pi.write({"pods": {"box": {"ssh": f"ssh -p {silent_port} root@127.0.0.1"}}, "active": "box"})
    running = pi.spawn("list")
    time.sleep(patient(1.5))
    assert running.is_running()
    ends_soon(running, number, code)


def test_a_signal_while_start_up_files_run(pi: Pi, box: Pod) -> None:
    (box.home / ".bashrc").write_text("touch ~/begun; sleep 5\n")
    running = pi.spawn("list")
    assert until((box.home / "begun").exists)
    ends_soon(running, signal.SIGINT, 130)


def has_begun(pid: int) -> bool:
    """Return whether Python has installed its handler of SIGINT, whose traceback pi prevents."""
    found = re.search(rb"SigCgt:\s*([0-9a-f]+)", read(pid, "status"))
    return found is not None and bool(int(found[1], 16) & 1 << signal.SIGINT - 1)


@pytest.mark.parametrize("after_ms", [0, 50, 100, 150, 200, 300, 400, 500, 700, 900])
def test_a_signal_at_any_time_leaves_no_traceback(pi: Pi, box: Pod, after_ms: int) -> None:
    """Any time is from pi's first line on: before it, Python itself starts, and prints what it likes."""
    running = pi.launch("list")
    assert until(lambda: has_begun(running.pid)) and until(lambda: not has_begun(running.pid))
    time.sleep(after_ms / 1000)
    running.interrupt()
    done = running.ends()
    assert done.code in (130, -signal.SIGINT, 0), done
    assert "Traceback" not in done.all and "KeyboardInterrupt" not in done.all


@pytest.mark.long
@pytest.mark.parametrize("size", [300_000, 8_000_000], ids=["300 KB", "8 MB"])
def test_a_dead_link_does_not_block_a_start_that_writes_much(pi: Pi, box: Pod, size: int) -> None:
    """The pod's end of the connection is stopped: the connection is dead, but nobody closes it."""
    box.fault("vllm", load_s=3)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    running.reads("waiting until it is ready")
    frozen = box.sessions()
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    with box.log_of("qwen").open("a") as log:
        for number in range(size // 100):
            log.write(f"INFO {number:08} " + "x" * 85 + "\n")
    try:
        done = running.ends(timeout_s=60)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGKILL)
    assert time.monotonic() - began < patient(40)
    assert done.code == 0, done
    assert "connection lost; reconnecting (1/5)" in done.err
    assert "qwen is ready on box" in done.out
    pi.ok("stop")
