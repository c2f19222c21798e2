"""`--restart` and `--stop-after-idle`: what the launcher of a model does on the pod, without pi."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.rig.command import Pi
from tests.rig.pod import Pod, is_alive, kill, until
from tests.ssh.conftest import NewPod


def listed(pi: Pi, name: str = "qwen") -> dict[str, Any]:
    models = json.loads(pi.ok("list", "--json"))["pods"][0]["models"]
    return next(dict(model) for model in models if model["name"] == name)


def pid_of(box: Pod, name: str = "qwen") -> int:
    return int((box.home / ".pi/run" / name / "pid").read_text())


def test_a_killed_server_comes_back_and_a_crash_loop_ends_with_its_cause(pi: Pi, new_pod: NewPod) -> None:
    box = new_pod(environment={"PI_TEST_PACE": "0.5"})
    pi.knows(box)
    pi.ok("start", box.model(), "--name", "qwen", "--restart", "on-failure:2")
    first = pid_of(box)
    kill(first)
    assert until(lambda: pid_of(box) != first)
    assert until(lambda: listed(pi)["state"] == "running")
    now = listed(pi)
    assert now["restarts"] == 1 and now["sentence"] == "running; restarted 1 time after a failure"
    assert now["pid"] == pid_of(box) == pi.models("box")["qwen"]["pid"]
    box.fault("vllm", log=str(pi.home / "oom.log"), exit=1)
    (pi.home / "oom.log").write_text("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n")
    kill(pid_of(box))
    assert until((box.home / ".pi/run/qwen/exit").exists)
    gone = listed(pi)
    assert (gone["state"], gone["exit_code"], gone["restarts"]) == ("crashed", 1, 2)
    assert "restarted 2 times after a failure" in gone["sentence"] and "memory" in gone["cause"]
    assert pi.ok("stop", "qwen").startswith("qwen was not running any more")


@pytest.mark.long
def test_list_logs_wait_and_stop_during_a_restart(pi: Pi, new_pod: NewPod) -> None:
    box = new_pod(environment={"PI_TEST_PACE": "0.5"})
    pi.knows(box)
    pi.ok("start", box.model(), "--name", "qwen", "--restart", "on-failure")
    following, first, entry = pi.spawn("logs", "qwen"), pid_of(box), pi.models("box")["qwen"]
    box.fault("vllm", load_until="go")
    kill(first)
    assert until(lambda: pid_of(box) != first)
    now = listed(pi)
    assert (now["state"], now["sentence"]) == (
        "starting",
        "starting (restarting); restarted 1 time after a failure",
    )
    assert pi("wait", "qwen", "--timeout", "1").id == "not-ready-yet"
    waiting = pi.spawn("wait", "qwen")
    (box.home / "go").touch()
    assert waiting.ends().code == 0
    assert {**pi.models("box")["qwen"], "pid": 0, "pid_start": 0} == {**entry, "pid": 0, "pid_start": 0}
    (box.home / "go").unlink()
    second = pid_of(box)
    kill(second)
    assert until(lambda: pid_of(box) != second)
    assert pi.ok("stop", "qwen") == "qwen is stopped\n"
    assert box.quiet() == {} and box.records() == []
    assert "pi: the server ended with exit code 137; starting it again (2 of 3)" in following.ends().out


def test_a_stopped_server_stays_stopped(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen", "--restart", "on-failure", "--no-watchdog")
    pid = pid_of(box)
    assert not any("pi_watch" in words for words in box.processes().values())
    assert pi.ok("stop", "qwen") == "qwen is stopped\n"
    assert not is_alive(pid) and box.quiet(0) == {}


def test_a_start_that_fails_is_not_repeated(pi: Pi, box: Pod) -> None:
    box.fault("vllm", exit=1)
    assert pi("start", box.model(), "--name", "qwen", "--restart", "on-failure").code == 6
    assert box.records() == [] and "starting it again" not in box.log_of("qwen").read_text()


@pytest.mark.long
def test_an_unused_server_ends_and_a_busy_one_does_not(pi: Pi, new_pod: NewPod) -> None:
    box = new_pod(environment={"PI_TEST_PACE": "0.02"})
    pi.knows(box)
    box.fault("vllm", requests=[0, 1])
    pi.ok("start", box.model(), "--name", "qwen", "--stop-after-idle", "2m")
    pid = pid_of(box)
    assert listed(pi)["sentence"] == "running; stops after 2 min without a request"
    assert not until(lambda: not is_alive(pid), 6)
    box.fault("vllm", requests=[0, 0])
    assert until(lambda: not is_alive(pid), 20)
    assert until((box.home / ".pi/run/qwen/exit").exists)
    now = listed(pi)
    assert now["state"] == "stopped" and now["cause"] is None
    assert "no request for 2 min; pi restart qwen" in now["sentence"]
    assert box.quiet() == {}
    box.fault("vllm", requests=[1, 0])
    assert "qwen is ready on box" in pi.ok("restart", "qwen")


@pytest.mark.long
def test_a_server_that_hangs_is_shown_and_explained_and_with_restart_comes_back(pi: Pi, new_pod: NewPod) -> None:
    """One answers health and gives figures, but no text; the other is stopped by a signal."""
    box = new_pod(environment={"PI_TEST_PACE": "0.02"})
    pi.knows(box)
    model = box.model()
    pi.ok("start", model, "--name", "stuck")
    pi.ok("start", model, "--name", "again", "--restart", "on-failure")
    log, again, first = box.log_of("stuck"), box.log_of("again"), pid_of(box, "again")
    assert until((box.home / ".pi/run/stuck/probes").exists), "a probe was answered"
    box.fault("vllm", hangs=["stuck"])
    os.kill(first, signal.SIGSTOP)
    assert until(lambda: "pi: the server hangs: no answer to 4 requests" in log.read_text(), 30)
    assert until((box.home / ".pi/run/stuck/hung").exists)
    now = listed(pi, "stuck")
    assert now["state"] == "unresponsive" and now["hung_seconds"] >= 3
    assert now["sentence"].startswith("unresponsive: hung since ") and now["idle_seconds"] is None
    assert "stuck hangs since" in pi.ok("explain", "stuck") and "pi restart stuck" in pi.ok("explain", "stuck")
    assert pi("wait", "stuck").code == 6
    assert until(lambda: "(1 of 3)" in again.read_text(), 30) and "state T): " in again.read_text()
    assert until(lambda: listed(pi, "again")["state"] == "running") and not is_alive(first)
    assert listed(pi, "again")["restarts"] == 1
    box.fault("vllm")
    assert until(lambda: "pi: the server answers again" in log.read_text(), 30)
    assert listed(pi, "stuck")["state"] == "running"
    [main] = json.loads(pi.ok("key", "list", "--json"))["pods"][0]["keys"]
    assert main["requests"] == 0, "probes do not count"
    pi.ok("stop", "-y")
    assert box.quiet() == {}


@pytest.mark.parametrize(
    ("words", "id"),
    [(("--restart", "always"), "restart-invalid"), (("--stop-after-idle", "30s"), "idle-invalid")],
)
def test_other_values_are_refused(pi: Pi, box: Pod, words: tuple[str, str], id: str) -> None:
    assert pi("start", "a/b", "--name", "q", *words).id == id
