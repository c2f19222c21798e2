"""Files of pi on the pod, where something else has their name: nothing waits for it, and pi replaces it."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pi.calls.templates import render
from pi.on_pod import audit, endings, explain, machine, records, writing
from tests.rig.patience import patient


def folder(path: Path) -> None:
    path.mkdir()
    (path / "x").touch()


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


KINDS: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a folder": folder,
    "a device": lambda path: path.symlink_to("/dev/full"),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere/x"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a socket": bound,
}


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], object]:
    monkeypatch.chdir(tmp_path)
    found: Callable[[Path], object] = request.param
    return found


@pytest.mark.parametrize("name", ["pid", "pid.new", "exit", "exit.new", "record.json", "stopped"])
def test_a_launcher_waits_for_no_file(make: Callable[[Path], object], home: Path, name: str) -> None:
    """Its server fails at once; with a valid record, it would start it again."""
    values = {
        "name": "qwen",
        "venv": "venv",
        "instance": "d81ea378b66584d1",
        "environment": {},
        "port": 1,
        "idle_s": None,
        "watch": False,
        "on_idle": "",
        "peers": [],
    }
    folder = home / ".pi" / "run" / "qwen"
    folder.mkdir(parents=True)
    (folder / "key").write_text("sk-1")
    make(folder / name)
    (folder / "launch.sh").write_text(render("launch.sh.j2", argv=["false", "serve", "m"], restarts=2, **values))
    subprocess.run(
        ["bash", folder / "launch.sh"],
        env={**os.environ, "HOME": str(home)},
        start_new_session=True,
        timeout=patient(20),
    )
    assert (folder / "exit").read_text().startswith("1 ")
    assert (folder / "pid").read_text().strip().isdecimal()


@pytest.mark.parametrize("name", ["file", "file.new"])
def test_a_file_takes_the_place_of_anything(make: Callable[[Path], object], tmp_path: Path, name: str) -> None:
    make(tmp_path / name)
    writing.replace(str(tmp_path / "file"), "text")
    assert (tmp_path / "file").read_text() == "text" and not os.path.lexists(tmp_path / "file.new")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_deployments_folder_may_be_anything_when_it_is_deleted(make: Callable[[Path], object], home: Path) -> None:
    (home / ".pi" / "run").mkdir()
    make(home / ".pi" / "run" / "qwen")
    records.forget("qwen")
    assert not os.path.lexists(home / ".pi" / "run" / "qwen")


def test_a_log_of_another_kind_is_not_the_newest_one(make: Callable[[Path], object], home: Path) -> None:
    (home / ".vllm_logs").mkdir()
    make(home / ".vllm_logs" / "other.log")
    assert explain._newest() is None
    (home / ".vllm_logs" / "qwen.log").touch()
    assert explain._newest() == "qwen"


def test_an_audit_log_of_another_kind_costs_its_lines_alone(make: Callable[[Path], object], home: Path) -> None:
    make(home / ".pi" / "audit.log")
    with pytest.raises(OSError):
        audit.append(audit.PATH, "ann", "stop", "qwen", "ok")
    assert audit.last(audit.PATH, 5) == []


def test_an_audit_log_that_stays_locked_is_not_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PATIENCE_S", 0.1)
    audit.append(audit.PATH, "ann", "start", "qwen", "ok")
    with open(audit.PATH) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        began = time.monotonic()
        with pytest.raises(BlockingIOError):
            audit.append(audit.PATH, "ann", "stop", "qwen", "ok")
        assert time.monotonic() - began < 5
    assert len(audit.last(audit.PATH, 5)) == 1


def test_the_ending_and_the_id_of_a_machine_wait_for_no_fifo(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FILE", str(home / ".pi" / "machine"))
    (home / ".vllm_logs").mkdir()
    for path in (home / ".pi" / "machine", home / ".pi" / "machine.new", home / ".vllm_logs" / "qwen.end"):
        os.mkfifo(path)
    machine.give()
    endings.keep({"name": "qwen", "log": "", "exit": 1, "venv": "venv", "kernel": []})
    assert machine.identity() and endings.kept("qwen")["exit"] == 1
