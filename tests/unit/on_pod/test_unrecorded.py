"""Models without a valid record, found by the marks of their real processes, and stopped; nobody else's are."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pi.on_pod import process, records, start, stop, unrecorded
from pi.on_pod.wire import PodError
from tests.rig.pod import is_alive, until
from tests.rig.skips import skip
from tests.unit.on_pod.conftest import Wire

INSTANCE = secrets.token_hex(8)
"""Each pytest worker has its own: all of them see the processes of this machine."""

LAUNCHER = """
export PI_INSTANCE={instance}
setsid sleep 300 &
env -i sleep 300 &
{python} -c 'import socket, time; s = socket.create_server(("127.0.0.1", 0)); print("up", flush=True); time.sleep(300)' &
wait
"""

Spawned = list["subprocess.Popen[bytes]"]


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spawned]:
    """Processes that end with the test. A stop waits 2 s, not 20 s, for those that got no TERM."""
    monkeypatch.setenv("PI_TEST_PACE", "0.1")
    children: Spawned = []
    yield children
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, 9)
        child.kill()
        child.wait()


def launch(spawned: Spawned, home: Path, name: str, instance: str = INSTANCE) -> int:
    """Start a model as a start does. Returns its launcher.

    One child has left the session, and one has no environment, like vLLM's engine processes.
    """
    folder, logs = Path(records.folder(name)), home / ".vllm_logs"
    folder.mkdir(parents=True)
    logs.mkdir(exist_ok=True)
    (folder / "launch.sh").write_text(LAUNCHER.format(instance=instance, python=sys.executable))
    log = logs / f"{name}.log"
    with log.open("wb") as output:
        words = ["bash", str(folder / "launch.sh")]
        spawned.append(
            subprocess.Popen(words, stdout=output, start_new_session=True, env={**os.environ, "HOME": str(home)})
        )
    assert until(lambda: "up" in log.read_text())
    return spawned[-1].pid


def bystander(spawned: Spawned, environment: Mapping[str, str], user: int | None = None) -> int:
    spawned.append(
        subprocess.Popen(["sleep", "300"], start_new_session=True, env={**os.environ, **environment}, user=user)
    )
    return spawned[-1].pid


def test_a_model_without_its_record_is_found_and_stopped_with_all_its_processes(
    home: Path, call: Wire, spawned: Spawned
) -> None:
    launcher = launch(spawned, home, "qwen")
    elsewhere = bystander(spawned, {"PI_INSTANCE": "50ce69a5de8a7406", "HOME": "/nowhere"})
    in_setup = bystander(spawned, {"PI_INSTANCE": "0" * 24, "PI_MARK": "0" * 24})
    [model] = map(unrecorded.described, unrecorded.find_all())
    assert (model["name"], model["problem"]) == ("qwen", "")
    assert model["port"] and len(model["pids"]) == 4
    with pytest.raises(PodError, match=r"qwen runs \(pid \d+\), and its record on the pod is missing"):
        start.check_name("qwen")
    assert [each["found"] for each in stop.stop(call, {"names": []})] == ["unrecorded"]
    assert not is_alive(launcher) and unrecorded.find_all() == []
    assert is_alive(elsewhere) and is_alive(in_setup)


def test_a_model_with_a_damaged_record_is_stopped_by_that_name(home: Path, call: Wire, spawned: Spawned) -> None:
    launcher = launch(spawned, home, "qwen")
    (Path(records.folder("qwen")) / "record.json").write_text("{")
    [model] = map(unrecorded.described, unrecorded.find_all())
    assert (model["name"], model["problem"], len(model["pids"])) == ("qwen", "it is not valid JSON", 4)
    assert [each["found"] for each in stop.stop(call, {"names": ["qwen"]})] == ["unrecorded"]
    assert not is_alive(launcher) and os.listdir(records.RUN) == []


def test_processes_that_outlive_their_launcher_are_found_by_its_session(
    home: Path, call: Wire, spawned: Spawned
) -> None:
    launcher = launch(spawned, home, "qwen")
    os.kill(launcher, 9)
    assert until(lambda: not is_alive(launcher))
    [model] = unrecorded.find_all()
    pids = unrecorded.living(model)
    assert (model.name, len(pids)) == ("qwen", 3)
    stop.stop(call, {"names": ["qwen"]})
    assert not any(map(is_alive, pids))


def test_an_engine_without_a_mark_is_found_by_the_session_in_a_damaged_record(
    home: Path, call: Wire, spawned: Spawned
) -> None:
    launcher = launch(spawned, home, "qwen")
    started = (process.stat(launcher) or ("", 0, 0))[2]
    for pid in process.members(-1, INSTANCE):
        os.kill(pid, 9)
    os.kill(launcher, 9)
    assert until(lambda: len(process.members(launcher, "none")) == 1)
    [engine] = process.members(launcher, "none")
    record = {"name": "qwen", "session": launcher, "started": started, "boot_id": process.boot_id()}
    (Path(records.folder("qwen")) / "record.json").write_text(json.dumps(record))
    assert [model["pids"] for model in map(unrecorded.described, unrecorded.find_all())] == [[engine]]
    stop.stop(call, {"names": ["qwen"]})
    assert not is_alive(engine) and records.read("qwen") is None


def test_a_session_of_an_earlier_boot_is_nobodys(home: Path, call: Wire, spawned: Spawned) -> None:
    other = bystander(spawned, {})
    started = (process.stat(other) or ("", 0, 0))[2]
    for lie in ({"boot_id": "another"}, {"started": started - 1, "boot_id": process.boot_id()}, {}):
        record = {"name": "qwen", "session": other, "started": started, **lie}
        Path(records.folder("qwen")).mkdir(parents=True)
        (Path(records.folder("qwen")) / "record.json").write_text(json.dumps(record))
        assert stop.stop(call, {"names": ["qwen"]})[0]["found"] == "leftovers"
    assert is_alive(other)


def test_a_second_server_of_one_name_has_a_name_of_its_own(home: Path, call: Wire, spawned: Spawned) -> None:
    launch(spawned, home, "qwen")
    record = {"name": "qwen", "model": "m", "port": 8001, "gpus": [], "status": "running", "instance": "another-one"}
    (Path(records.folder("qwen")) / "record.json").write_text(json.dumps(record))
    [model] = unrecorded.find_all()
    assert model.name == f"qwen-{INSTANCE}"
    assert [each["found"] for each in stop.stop(call, {"names": [model.name]})] == ["unrecorded"]
    assert records.load("qwen") is not None


def test_a_process_of_another_user_is_not_a_model(home: Path, spawned: Spawned) -> None:
    if os.geteuid():
        skip("users")
    bystander(spawned, {"PI_INSTANCE": INSTANCE, "HOME": str(home)}, user=65534)
    assert unrecorded.find_all() == []
