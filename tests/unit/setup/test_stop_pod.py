"""When a pod stops itself, and what keeps it (`pi_stop_pod.py`)."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pi.on_pod import process
from pi.setup.templates import pi_stop_pod as stop_pod
from pi.steps import on_idle

INSTANCE = secrets.token_hex(8)
"""Each pytest worker has its own: all of them see the processes of this machine."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model that ended for lack of use, the only one of its pod."""
    folder = tmp_path / ".pi" / "run" / "qwen"
    folder.mkdir(parents=True)
    (folder / "idle").touch()
    monkeypatch.setattr(stop_pod, "HERE", folder)
    monkeypatch.setattr(stop_pod, "gpu_users", list)
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


def outcome(way: str = "runpod") -> str:
    """Return "stopped", or why the pod was not."""
    done: list[str] = []
    try:
        stop_pod.attempt(way, lambda: done.append("stopped"), 0.001)
    except (stop_pod.Ended, stop_pod.Failed) as reason:
        assert done == []
        return str(reason)
    return done[0]


def record(folder: Path, name: str, **fields: Any) -> None:
    (folder.parent / name).mkdir()
    (folder.parent / name / "record.json").write_text(json.dumps({"instance": INSTANCE, **fields}))


@pytest.fixture
def other(here: Path) -> Iterator[int]:
    """A process of another model or download of this home. Yields its pid."""
    environment = {"HOME": os.environ["HOME"], "PI_INSTANCE": INSTANCE}
    with subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE) as running:
        yield running.pid
        running.kill()


@pytest.mark.parametrize("way", ["runpod", "vast", "command"])
def test_the_pod_stops_if_nothing_keeps_it(here: Path, way: str) -> None:
    record(here, "crashed", status="running")
    record(here, "lost", status="starting", owner=os.getpid(), owner_started=1)
    (here.parent / "broken").mkdir()
    (here.parent / "broken" / "record.json").write_text("{")
    (here.parent / "file").touch()
    assert outcome(way) == "stopped"


def test_another_model_keeps_it(here: Path, other: int) -> None:
    assert outcome() == f"the pod stays: pid {other} is on it"
    record(here, "second", status="running")
    assert outcome() == "the pod stays: second is on it"


def test_a_start_without_processes_yet_keeps_it(here: Path) -> None:
    stat = process.stat(os.getpid())
    assert stat
    record(here, "new", status="starting", owner=os.getpid(), owner_started=stat[2])
    assert outcome() == "the pod stays: new is on it"


@pytest.mark.parametrize("change", ["stopped", "started again"])
def test_a_model_that_somebody_stopped_or_started_stops_no_pod(here: Path, change: str) -> None:
    if change == "stopped":
        (here / "stopped").symlink_to("nowhere")
    else:
        (here / "idle").unlink()
    assert outcome() == ""
    stop_pod.note("a sentence")
    assert not (here / "pod_stop").exists()


def test_a_program_on_a_gpu_keeps_it_for_now(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_pod, "gpu_users", lambda: ["77"])
    assert outcome() == "was not asked: another program uses a GPU (pid 77)"


@pytest.mark.parametrize("name", stop_pod.LOCKS)
def test_a_setup_and_a_call_that_chooses_gpus_keep_it_for_now(here: Path, name: str) -> None:
    path = here.parent.parent / name
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert outcome() == f"was not asked: {stop_pod.LOCKS[name]}"
    assert outcome() == "stopped"


def test_the_pids_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '77\\n[N/A]\\n 78\\nNo devices were found\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert stop_pod.gpu_users() == ["77", "78"]
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert stop_pod.gpu_users() == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"success": false, "msg": "no such\\n instance"}', ": no such instance"),
        ('{"error": "pods with a network volume cannot stop"}', ": pods with a network volume cannot stop"),
        ('{"error": {"code": 1}}', ': {"error": {"code": 1}}'),
        ("<html>" + "x" * 300, ": <html>" + "x" * 194),
        ("[]", ": []"),
        ("", ""),
    ],
)
def test_the_message_of_a_provider(answer: str, words: str) -> None:
    assert stop_pod.said(answer) == words


def test_a_sentence_has_no_key_and_no_control_character(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_secret")
    stop_pod.note("answered: rpa_secret\x1b[2J\nx")
    assert (here / "pod_stop").read_text() == "answered: *** [2J x"


def test_pi_shows_the_address_that_the_pod_calls() -> None:
    for way, address in (("runpod", stop_pod.RUNPOD), ("vast", stop_pod.VAST)):
        assert address % "abc" in on_idle.STOPS[way].format(id="abc")
