"""What a setup and a start show: announcements, clocks, downloads, the durations of last time."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pi import screen
from pi.calls.events import Download, Event, Launched, Log, Progress, Step
from pi.model_id import ModelId
from pi.planning.types import Request
from pi.pods import state
from pi.pods.types import Pod, State
from pi.steps import durations, pod_entry
from pi.steps.pod_summary import gpu_summary
from pi.steps.reports import WHOLE, StartReport, WaitReport
from pi.steps.setup_report import SetupReport


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config"
    monkeypatch.setenv("PI_CONFIG_DIR", str(folder))
    return folder


def on_terminal(work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines that a terminal of 100 columns got on stderr, each as often as it was drawn."""
    main, other = pty.openpty()
    with os.fdopen(other, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((100, 24)))
        work()
        stderr.flush()
        shown = ""
        while select.select([main], [], [], 0.1)[0]:
            shown += os.read(main, 2**20).decode()
    os.close(main)
    return [line for line in re.split(r"[\r\n]+|\x1b\[K", shown) if line]


STEPS: list[Event] = [
    Step("step", "system", "Debian packages"),
    Step("skip", "system", "already installed"),
    Step("step", "vllm", "vLLM (release), built for cuda"),
    Log("Resolved 150 packages in 1.2s\n"),
    Download(2**30, 4 * 2**30, 64 * 2**20),
    Step("done", "vllm", "vLLM 0.33.0"),
]


def test_a_terminal_sees_each_step_when_it_begins_and_how_long_it_took_last_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    durations.keep("setup box", {"vllm": 130.4})
    made: list[SetupReport] = []

    def work() -> None:
        made.append(SetupReport("box"))
        for event in STEPS:
            made[0].hear(event)

    drawn = on_terminal(work, monkeypatch)
    assert drawn == [
        "- machine: what it has (0 s)",
        "- system: Debian packages (0 s)",
        "- vllm: vLLM (release), built for cuda (0 s; last time 2 min 10 s)",
        "    Resolved 150 packages in 1.2s (0 s; last time 2 min 10 s)",
        "    downloading 1.1 GB of 4.3 GB, 67 MB/s, about 48 s left (0 s; last time 2 min 10 s)",
    ]
    assert re.sub(r"\d\.\d s", "T", capsys.readouterr().out).splitlines() == [
        "- system: already installed",
        "- vllm: vLLM (release), built for cuda",
        "  vLLM 0.33.0 (T)",
    ]
    made[0].keep_durations()
    assert durations.load("setup box")["vllm"] < 5


def test_without_a_terminal_a_step_that_is_quick_takes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    report = SetupReport("box")
    for event in STEPS[:3]:
        report.hear(event)
    report.end()
    assert capsys.readouterr() == ("- system: already installed\n", "")


def test_without_a_terminal_a_step_that_lasts_is_announced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "RUNNING_S", (0, 30))
    report = SetupReport("box")
    report.hear(STEPS[2])
    deadline = time.monotonic() + 10
    shown = ""
    while not shown and time.monotonic() < deadline:
        time.sleep(0.05)
        shown = capsys.readouterr().err
    report.end()
    assert re.fullmatch(r"- vllm: vLLM \(release\), built for cuda \(\d+ s\)\n", shown)


def test_the_clock_of_a_terminal_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    line: list[screen.Progress] = []

    def work() -> None:
        line.append(screen.Progress())
        line[0].run("x" * 200, lambda: f" at {int(time.monotonic() - began)}")
        time.sleep(1.3)
        line[0].clear()

    assert on_terminal(work, monkeypatch)[-2:] == ["x" * 94 + " at 0", "x" * 94 + " at 1"]


def test_a_failed_step_is_quoted_in_at_most_five_lines(capsys: pytest.CaptureFixture[str]) -> None:
    report = SetupReport("box")
    report.quote([f"line {number}" for number in range(25)])
    assert capsys.readouterr().err.splitlines() == [f"    | line {number}" for number in range(20, 25)]


def test_a_start_shows_phases_without_prefixes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    durations.keep("start box/Qwen/Qwen3-8B", {"loading weights": 75, WHOLE: 134})
    made: list[Any] = []
    prefix = "(EngineCore pid=95) INFO 11-23 14:29:12 [core.py:1510] "
    events: list[Event] = [
        Download(2**30, None, 0),
        Launched(77, 8001),
        Log(prefix + "Starting to load model Qwen/Qwen3-8B...\n"),
        Log("Loading safetensors checkpoint shards:  50% Completed | 1/2\r"),
        Log(prefix + "Dynamo bytecode transform time: 6.51 s\n" + prefix + "something else\n"),
    ]

    def work() -> None:
        made.append(StartReport(Request(ModelId("Qwen/Qwen3-8B"), "q"), "box"))
        for event in events:
            made[0].hear(event)
        made[0].end()

    drawn = on_terminal(work, monkeypatch)
    assert drawn == [
        "  asking the pod (0 s)",
        "  downloading 1.1 GB, 0 MB/s; Ctrl+C cancels (0 s)",
        "  loading weights: Starting to load model Qwen/Qwen3-8B... (0 s; last time 1 min 15 s)",
        "  loading weights: Loading safetensors checkpoint shards: 50% Completed (0 s; last time 1 min 15 s)",
        "  compiling: something else (0 s)",
    ]
    monkeypatch.setattr(
        made[0]._line, "took_s", lambda: {"loading weights": 31.2, "compiling": 12.0, "warming up": 0.2}
    )
    made[0].keep_durations()
    said = capsys.readouterr().out
    assert "waiting until it is ready (last time it took 2 min 14 s; Ctrl+C stops it)" in said
    assert "  it took: loading weights 31.2 s, compiling 12.0 s\n" in said
    assert durations.load("start box/Qwen/Qwen3-8B")["loading weights"] == 31.2
    assert durations.load("start box/Qwen/Qwen3-8B")[WHOLE] < 30


def test_waiting_shows_the_phases_of_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        report = WaitReport()
        for event in (
            Progress("q is downloading"),
            Log("INFO 11-23 14:29:12 [core.py:1510] Starting to load model a/b...\n"),
        ):
            report.hear(event)
        report.end()

    assert on_terminal(work, monkeypatch) == [
        "  q is downloading (0 s)",
        "  loading weights: Starting to load model a/b... (0 s)",
    ]


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b'{"setup box": 1}',
    b'{"setup box": {"vllm": "x", "a": -1, "b": NaN}}',
    b"\xff",
    b"[" * 10**5,
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_of_durations_is_an_empty_one(config: Path, content: bytes) -> None:
    config.mkdir()
    durations.path().write_bytes(content)
    assert durations.load("setup box") == {}
    durations.keep("setup box", {"vllm": 3.04})
    assert json.loads(durations.path().read_text())["setup box"] == {"vllm": 3.0}


def test_only_the_newest_durations_are_kept() -> None:
    for number in range(3):
        durations.keep(f"setup {number}", {"vllm": number})
    durations.path().write_text(json.dumps({f"w{number}": {"s": 1} for number in range(durations.KEPT)}))
    durations.keep("setup box", {"vllm": 1})
    saved = json.loads(durations.path().read_text())
    assert len(saved) == durations.KEPT and "w0" not in saved and "setup box" in saved


POD = Pod("box", "ssh root@192.0.2.1")

UNFINISHED = [
    (replace(POD, host_key="ssh-ed25519 SHA256:x"), "setup not finished"),
    (replace(POD, ssh="local"), "setup not finished"),
    (replace(POD, host_key="ssh-ed25519 SHA256:x", boot="b/1"), "none (CPU)"),
    (replace(POD, ssh="local", vllm_version="0.33.0"), "none (CPU)"),
    (POD, "not set up"),
]


@pytest.mark.parametrize(("pod", "gpus"), UNFINISHED)
def test_a_pod_whose_setup_did_not_end_is_called_so_and_takes_a_new_address(pod: Pod, gpus: str) -> None:
    state.change(lambda known: State({"box": pod}))
    assert gpu_summary(pod) == gpus
    is_unfinished = gpus == "setup not finished"
    moved = pod_entry.saved_or_new("box", "ssh root@192.0.2.9")
    assert moved.host_key == ("" if is_unfinished else pod.host_key)
    assert pod_entry.old_address(moved) == (None if is_unfinished else pod.ssh)
    pod_entry.keep_address(moved, "ssh-ed25519 SHA256:y")
    assert (state.load().pods["box"].ssh == moved.ssh) == is_unfinished
