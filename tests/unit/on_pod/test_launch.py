"""How long a start waits for its launcher, its second try, and what it reports when the disk is full."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, cast

import pytest

from pi.on_pod import compiled, health, process, records, start, storage
from pi.on_pod.record_shapes import Record
from pi.on_pod.shapes import Launch
from pi.on_pod.wire import Cancelled, PodError
from tests.ssh.conftest import small_disk
from tests.unit.on_pod.conftest import Wire

PLAN = cast(Launch, {"timeout_s": 7, "key": "sk-1"})


@pytest.fixture
def record(home: Path) -> Record:
    record = cast(Record, {"name": "qwen", "venv": "venv", "port": 1, "instance": "d81ea378b66584d1"})
    Path(records.folder("qwen")).mkdir(parents=True)
    return record


def server_pid(call: Wire, record: Record, script: str, seconds: float = 60) -> int:
    """Wait for the pid that a launcher writes, which is this script."""
    with subprocess.Popen(["bash", "-c", script], cwd=records.folder("qwen")) as launcher:
        try:
            return start._server_pid(call, record, launcher, PLAN, time.monotonic() + seconds)
        finally:
            launcher.kill()


def kind(call: Wire, record: Record, script: str, seconds: float = 60) -> str:
    with pytest.raises(PodError) as raised:
        server_pid(call, record, script, seconds)
    return raised.value.kind


def test_a_launcher_that_lives_is_waited_for(call: Wire, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no number of tries: 500 looks are 10 s of a start."""
    looks = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 500:
            (Path(records.folder("qwen")) / "pid").write_text("4242\n")

    monkeypatch.setattr(time, "sleep", look)
    (Path(records.folder("qwen")) / "pid").write_text("")  # as on a full disk
    assert server_pid(call, record, "exec sleep 60") == 4242
    assert len(looks) >= 500


def test_a_launcher_that_ends_fails_at_once_and_a_slow_one_at_the_timeout(call: Wire, record: Record) -> None:
    assert kind(call, record, "exit 3") == "launch_failed"
    assert kind(call, record, "exec sleep 60", 0.1) == "timeout"


def test_a_cancel_ends_the_wait(call: Wire, record: Record) -> None:
    call.cancelled.set()
    with pytest.raises(Cancelled):
        server_pid(call, record, "exec sleep 60")


def test_a_full_disk_is_called_a_full_disk(
    call: Wire, record: Record, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(home / "small", "size=64k") as disk:
        monkeypatch.setattr(records, "LOGS", str(disk / "logs"))
        (disk / "fill").write_bytes(bytes(40_000))
        assert storage.full([str(home), str(disk / "logs")]) == str(disk / "logs")
        with pytest.raises(PodError, match=r"the pod's disk is full \(.*/small/logs\): the launcher exited") as raised:
            server_pid(call, record, "exit 1")
        assert raised.value.kind == "disk_full"


def test_a_trickling_server_is_late_at_the_timeout(call: Wire, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers health, and everything else too slowly."""
    asked: list[float] = []

    def get(port: int, path: str, key: Any = None, timeout_s: float = 3, host: str = "") -> tuple[int, bytes]:
        asked.append(timeout_s)
        time.sleep(timeout_s / 10 if path == "/health" else timeout_s)
        return (200, b"") if path == "/health" else (0, b"")

    monkeypatch.setattr(health, "get", get)
    monkeypatch.setattr(records, "is_running", lambda record: True)
    monkeypatch.setattr(process, "others", lambda port, living: [])
    monkeypatch.setattr(process, "holders", lambda sockets, living: {"socket": 1})
    with subprocess.Popen(["sleep", "60"]) as launcher:
        began = time.monotonic()
        record["pid"] = launcher.pid
        with pytest.raises(PodError, match="qwen was not ready after 7 s; pi stopped it") as raised:
            start._wait_until_ready(call, record, launcher, PLAN, began + 0.5)
        launcher.kill()
    assert raised.value.kind == "timeout" and time.monotonic() - began < 2
    assert max(asked) <= 0.5


@pytest.mark.parametrize("took_it", [True, False])
def test_vllm_is_launched_once_more_if_it_failed_with_the_size_of_an_earlier_start(
    took_it: bool, call: Wire, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[bool] = []

    def fails_at_first(*arguments: Any) -> None:
        plan = Path(arguments[3].own) / compiled.STARTUP_PLAN
        tries.append(plan.exists())
        if len(tries) == 1:
            plan.mkdir()
            log = f"{compiled.APPLIED} (fingerprint ab)" if took_it else ""
            raise PodError("exited", "vLLM exited", log=log + "\nCUDA out of memory", exit=1)

    monkeypatch.setattr(start, "_try", fails_at_first)
    plan = cast(Launch, {**PLAN, "alone": True, "files": {}, "compiling": {"card": "H100, 80 GiB", "digest": "ab"}})
    if not took_it:
        with pytest.raises(PodError):
            start._serve(call, record, plan)
        return
    start._serve(call, record, plan)
    assert tries == [False, False]
    assert [note["text"] for note in cast(Any, call.sent)] == [
        "vLLM failed with the KV cache's size of an earlier start; starting it again without"
    ]
