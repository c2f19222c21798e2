"""Faults 1, 2 and 5 to 14 of the fault table: pi is stopped or killed, two start at once, the connection is lost."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.rig.cases import CASES
from tests.rig.command import Done, Pi, Running
from tests.rig.patience import patient
from tests.rig.pod import Pod, is_alive, listens, until
from tests.ssh.test_list import row

HUB_MODEL = "Acme/Tiny-1B"


def starting(pi: Pi, box: Pod, *words: str, load_s: float = 60, **vllm: Any) -> Running:
    """A start that has launched its server, which takes its time."""
    box.fault("vllm", load_s=load_s, **vllm)
    running = pi.spawn("start", box.model(), "--name", "qwen", *words)
    running.reads("waiting until it is ready")
    return running


def downloading(pi: Pi, box: Pod, seconds: float) -> Running:
    box.fault("hf", seconds=seconds)
    running = pi.spawn("start", HUB_MODEL, "--name", "tiny")
    assert until(lambda: any("hf download" in words for words in box.processes().values()))
    return running


def nothing_stays(pi: Pi, box: Pod, done: Done, code: int) -> None:
    assert done.code == code, done
    assert "Traceback" not in done.all
    assert pi.models("box") == {}
    assert box.records() == []
    assert box.quiet() == {}


def state_of(pi: Pi, name: str) -> str:
    return row(pi.ok("list"), name)


# --- two at once


def test_row_1_two_starts_at_once_take_two_ports(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_s=1)
    model = box.model()
    both = [pi.spawn("start", model, "--name", name) for name in ("a", "b")]
    assert [one.ends().code for one in both] == [0, 0]
    models = pi.models("box")
    assert models["a"]["port"] != models["b"]["port"]
    assert {model["status"] for model in models.values()} == {"running"}


@pytest.mark.core
def test_row_2_a_name_that_another_start_has_taken_is_reported_with_its_owner(pi: Pi, box: Pod) -> None:
    first = starting(pi, box, load_s=0, load_until="go")
    done = pi("start", str(box.home / "models" / "m"), "--name", "qwen")
    assert done.code == 5
    assert f"qwen is already starting (pid {first.pid} on " in done.err
    assert " s ago)" in done.err
    (box.home / "go").touch()
    assert first.ends().code == 0
    assert pi.models("box")["qwen"]["status"] == "running"
    done = pi("start", str(box.home / "models" / "m"), "--name", "qwen")
    assert done.code == 5
    assert "qwen is already running, on port" in done.err


# --- pi is killed


def test_row_5_a_kill_in_the_download_leaves_a_start_that_list_tells_and_stop_ends(pi: Pi, box: Pod) -> None:
    running = downloading(pi, box, 60)
    running.interrupt(signal.SIGKILL)
    running.ends()
    entry = pi.models("box")["tiny"]
    assert (entry["status"], entry["owner"]["pid"]) == ("starting", running.pid)
    line = state_of(pi, "tiny")
    assert "starting (downloading); its pi has exited but the pod continues; pi stop tiny stops it" in line
    assert "tiny is stopped before it was ready; its downloads stay cached" in pi.ok("stop", "tiny")
    assert pi.models("box") == {}
    assert box.quiet() == {}


def test_row_6_a_kill_between_launch_and_note_is_made_good_by_the_next_list(pi: Pi, box: Pod) -> None:
    running = starting(pi, box, load_s=1)
    running.interrupt(signal.SIGSTOP)
    assert until(lambda: box.record("qwen")["status"] == "running")
    running.interrupt(signal.SIGKILL)
    running.ends()
    assert pi.models("box")["qwen"]["status"] == "starting"
    assert " running " in state_of(pi, "qwen")
    entry = pi.models("box")["qwen"]
    assert (entry["status"], entry["pid"]) == ("running", box.record("qwen")["pid"])
    assert "owner" not in entry


def in_survey(pi: Pi, box: Pod) -> Running:
    box.cards("h100_8", seconds=2)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    assert until(lambda: any("nvidia-smi" in words for words in box.processes().values()))
    return running


def with_a_plan(pi: Pi, box: Pod) -> Running:
    box.fault("vllm", load_s=1)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    running.reads("starting ")
    return running


def in_download(pi: Pi, box: Pod) -> Running:
    box.fault("hf", seconds=2)
    running = pi.spawn("start", HUB_MODEL, "--name", "qwen")
    assert until(lambda: any("hf download" in words for words in box.processes().values()))
    return running


def launched(pi: Pi, box: Pod) -> Running:
    return starting(pi, box, load_s=1)


@pytest.mark.long
@pytest.mark.parametrize("seam", [in_survey, with_a_plan, in_download, launched])
def test_after_a_kill_at_any_seam_of_start_list_tells_the_truth_and_stop_clears(
    pi: Pi, box: Pod, seam: Callable[[Pi, Pod], Running]
) -> None:
    running = seam(pi, box)
    running.interrupt(signal.SIGKILL)
    running.ends()
    assert until(lambda: [box.record(name)["status"] for name in box.records()] in ([], ["running"]) and settled(box))
    table = pi.ok("list")
    if box.records():
        assert "running" in table
        assert pi.models("box")["qwen"]["pid"] == box.record("qwen")["pid"]
    else:
        assert "running" not in table
        assert pi.models("box") == {}
    pi.ok("stop")
    assert (pi.models("box"), box.records(), box.quiet()) == ({}, [], {})


def settled(box: Pod) -> bool:
    """Whether no call of pi is at work on the pod any more."""
    return not any("sys.stdin.buffer" in words for words in box.processes().values())


# --- pi is interrupted


@pytest.mark.core
def test_row_8_an_interrupted_download_is_cancelled_and_says_what_stays(pi: Pi, box: Pod) -> None:
    running = downloading(pi, box, 60)
    began = time.monotonic()
    running.interrupt()
    done = running.ends()
    assert time.monotonic() - began < patient(5)
    assert "its downloads stay cached" in done.err
    nothing_stays(pi, box, done, 130)


@pytest.mark.core
def test_row_9_an_interrupted_wait_stops_the_model_and_says_so(pi: Pi, box: Pod) -> None:
    running = starting(pi, box)
    assert "(Ctrl+C stops it)" in running.reads("Ctrl+C")
    running.interrupt()
    done = running.ends()
    assert "qwen is not running" in done.err
    nothing_stays(pi, box, done, 130)


def test_row_9_a_detached_start_goes_on_and_can_be_waited_for(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_until="go")
    told = pi.ok("start", box.model(), "--name", "qwen", "--detach")
    assert told.endswith("qwen is starting on box; pi wait qwen waits until it is ready\n")
    assert pi.models("box")["qwen"]["status"] == "starting"
    assert state_of(pi, "qwen").endswith("starting (loading)")
    late = pi("wait", "qwen", "--timeout", "1")
    assert (late.code, late.id) == (6, "not-ready-yet")
    (box.home / "go").touch()
    assert json.loads(pi.ok("wait", "qwen", "--json"))["model"]["state"] == "running"
    assert pi.models("box")["qwen"]["status"] == "running"


def test_a_detached_start_that_fails_is_explained_by_wait(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_s=2, exit=1, log=str(CASES / "failures" / "bad_chat_template.log"))
    pi.ok("start", box.model(), "--name", "qwen", "--detach")
    failed = pi("wait", "qwen")
    assert failed.code == 6 and "qwen did not start on box" in failed.err
    assert pi("wait", "nobody").id == "unknown-name"
    pi.ok("list")
    assert pi.models("box") == {}


def test_row_10_an_interrupted_setup_ends_there_and_says_how_to_go_on(pi: Pi, machine: Pod, mirrors: None) -> None:
    machine.cards("h100_8", seconds=30)
    running = pi.spawn("pods", "setup", "box", machine.ssh)
    assert until(lambda: any("nvidia-smi" in words for words in machine.processes().values()))
    running.interrupt()
    done = running.ends()
    assert done.code == 130
    assert "continue from there: pi pods setup box" in done.err
    assert machine.quiet() == {}
    assert (pi.state()["active"], pi.state()["pods"]["box"]["ssh"]) == (None, machine.ssh)


def test_row_11_an_interrupted_log_leaves_the_model_alone(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    running = pi.spawn("logs", "qwen")
    running.reads("Application startup complete.")
    running.interrupt()
    assert running.ends().code == 0
    assert is_alive(pi.models("box")["qwen"]["pid"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_row_12_term_and_hup_are_as_ctrl_c(pi: Pi, box: Pod, number: signal.Signals) -> None:
    running = starting(pi, box)
    running.interrupt(number)
    nothing_stays(pi, box, running.ends(), 128 + number)


# --- the connection is lost


def drop(box: Pod, number: signal.Signals) -> list[int]:
    """Kill or freeze what carries the pod's connections; new ones can be made."""
    carriers = box.sessions()
    assert carriers
    for pid in carriers:
        os.kill(pid, number)
    return carriers


@pytest.mark.core
def test_row_13_a_reset_in_the_download_is_made_good_and_the_start_followed_to_its_end(pi: Pi, box: Pod) -> None:
    running = downloading(pi, box, 3)
    drop(box, signal.SIGKILL)
    done = running.ends()
    assert done.code == 0, done
    assert "connection lost; reconnecting (1/5)" in done.err
    assert "tiny is ready on box" in done.out
    assert pi.models("box")["tiny"]["status"] == "running"


@pytest.mark.long
def test_row_13_also_while_the_model_loads_and_twice(pi: Pi, box: Pod) -> None:
    running = starting(pi, box, load_s=patient(5))
    for _ in range(2):
        assert until(box.sessions)
        time.sleep(patient(0.5))
        drop(box, signal.SIGKILL)
        assert until(lambda: not box.sessions())
    done = running.ends()
    assert done.code == 0, done
    assert done.err.count("connection lost; reconnecting (1/5)") == done.err.count("connected again") == 2


def test_row_13_ctrl_c_after_a_reset_still_ends_the_work(pi: Pi, box: Pod) -> None:
    running = starting(pi, box)
    drop(box, signal.SIGKILL)
    assert until(lambda: not box.sessions()) and until(box.sessions)
    time.sleep(patient(1))
    running.interrupt()
    nothing_stays(pi, box, running.ends(), 130)


def test_row_13_a_failure_after_a_reset_has_its_cause(pi: Pi, box: Pod) -> None:
    box.fault("hf", seconds=4, fail="disk_full")
    running = pi.spawn("start", HUB_MODEL, "--name", "tiny")
    assert until(lambda: any("hf download" in words for words in box.processes().values()))
    drop(box, signal.SIGKILL)
    done = running.ends()
    assert "No space left on device" in done.err
    nothing_stays(pi, box, done, 1)


def test_row_13_work_that_was_killed_meanwhile_is_reported(pi: Pi, box: Pod) -> None:
    running = starting(pi, box)
    [worker] = box.programs()
    drop(box, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    done = running.ends()
    assert done.code == 1, done
    assert "the work on the pod was killed before its end" in done.err
    assert pi.models("box")["qwen"]["status"] == "starting"
    assert "starting" in state_of(pi, "qwen")
    pi.ok("stop")
    assert box.quiet() == {} and pi.models("box") == {}


@pytest.mark.parametrize("route", [None, "/metrics"], ids=["guarded", "open to all"])
def test_row_13_a_model_whose_start_was_killed_is_taken_over_by_list_when_it_is_ready_and_guarded(
    pi: Pi, box: Pod, route: str | None
) -> None:
    box.fault("vllm", load_s=1, open_routes=[route] if route else [])
    running = pi.spawn("start", box.model(), "--name", "qwen")
    running.reads("waiting until it is ready")
    [worker] = box.programs()
    os.kill(worker, signal.SIGKILL)
    assert running.ends().code != 0
    assert until(lambda: listens(box.record("qwen")["port"]))
    line = state_of(pi, "qwen")
    if route:
        assert "unresponsive: pi's guard is not in front of this server: 127.0.0.1" in line
        assert "/metrics answered 200 without a key" in line
        assert pi.models("box")["qwen"]["status"] == "starting"
    else:
        assert " running " in line
        assert pi.models("box")["qwen"]["status"] == box.record("qwen")["status"] == "running"


@pytest.mark.long
def test_row_14_a_silent_drop_is_noticed_within_30_s_and_made_good(pi: Pi, box: Pod) -> None:
    running = starting(pi, box, load_s=24)
    frozen = drop(box, signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert until(lambda: set(box.sessions()) - set(frozen), patience_s=30)
        assert time.monotonic() - began < patient(30)
        done = running.ends()
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGKILL)
    assert done.code == 0, done
    assert "connection lost; reconnecting (1/5)" in done.err


@pytest.mark.long
def test_row_14_a_connection_that_stays_away_is_given_up_and_the_model_kept(pi: Pi, box: Pod) -> None:
    running = starting(pi, box, load_s=2)
    box.down()
    done = running.ends(timeout_s=40)
    assert done.code == 3, done
    assert "connection lost; reconnecting (5/5)" in done.err
    assert "the pod keeps working" in done.err
    assert pi.models("box")["qwen"]["status"] == "starting"
    box.up()
    assert " running " in state_of(pi, "qwen")
    assert pi.models("box")["qwen"]["pid"] == box.record("qwen")["pid"]
