"""Reading, writing and locking pods.json, and invalid files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pi.errors import BusyError, InputError
from pi.pods import state
from pi.pods.gpus import Gpu
from pi.pods.json_place import Place, dotted, line_of
from pi.pods.types import Deployment, Owner, Pod, State
from tests.rig.patience import patient

OLD = {
    "pods": {
        "dc1": {
            "ssh": "ssh root@1.2.3.4",
            "gpus": [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "memory": "81559 MiB"}],
            "models": {"qwen": {"model": "Qwen/Qwen3-8B", "port": 8001, "gpu": [0, 1], "pid": 12345}},
            "modelsPath": "/mnt/models",
            "vllmVersion": "release",
            "note": "kept",
        }
    },
    "active": "dc1",
    "theme": "dark",
}


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config" / "pods.json"


def written(file: Path, content: str | bytes) -> bytes:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file.read_bytes()


def test_an_absent_or_empty_file_is_an_empty_state(file: Path) -> None:
    assert state.load() == State()
    written(file, " \n")
    assert state.load() == State()


def test_a_written_state_is_read_back(file: Path) -> None:
    model = Deployment("q", "Qwen/X", 8002, (0, 3), 77, "running", 5, "boot", "abc", 0.5, api="responses")
    begun = Deployment("s", "Qwen/Y", 8003, (1,), 0, "starting", owner=Owner(123, "laptop", 1.5))
    gpu = Gpu(0, "H100", 81559, compute_capability=(9, 0))
    extra_venvs = {"venv-0.33.0": "0.33.1"}
    pod = Pod("dc1", "ssh root@h", (gpu,), {"q": model, "s": begun}, "/mnt/m", "0.32.0", extra_venvs, {"mine": 1},
              price=2.49, set_up_at=1_795_000_000)  # fmt: skip
    after = state.change(lambda before: replace(before.with_pod(pod), active="dc1"))
    assert state.load() == after == State({"dc1": pod}, "dc1")


def test_a_deployment_has_keys_only_for_unusual_values(file: Path) -> None:
    usual = Deployment("u", "m", 8001, (0,), 9)
    other = replace(
        usual, name="o", api="responses", private=True, venv="venv-0.33.0", adapters=("sql",), extra={"mine": 1}
    )
    state.change(lambda s: s.with_pod(Pod("a", "local", (), {"u": usual, "o": other})))
    models = json.loads(file.read_text())["pods"]["a"]["models"]
    assert models["o"].pop("adapters") == ["sql"]
    assert models["o"].items() - models["u"].items() == {
        ("api", "responses"),
        ("private", True),
        ("venv", "venv-0.33.0"),
        ("mine", 1),
    }
    assert list(models["o"])[-4:] == ["api", "private", "venv", "mine"]
    assert state.load().pods["a"].models == {"u": usual, "o": other}


def test_the_file_has_the_documented_shape(file: Path) -> None:
    state.change(
        lambda s: s.with_pod(Pod("a", "local", (Gpu(0, "H100", 81559),), {"q": Deployment("q", "m", 8001, (0,), 9)}))
    )
    document = json.loads(file.read_text())
    assert document["version"] == 1 and document["active"] is None
    assert document["pods"]["a"]["gpus"][0] | {"memory_mib": 0} == {
        "id": 0,
        "name": "H100",
        "memory": "80GB",
        "memory_mib": 0,
    }
    model = document["pods"]["a"]["models"]["q"]
    assert {key: model[key] for key in ("model", "port", "gpu", "pid")} == {
        "model": "m",
        "port": 8001,
        "gpu": "0",
        "pid": 9,
    }


def test_a_file_of_the_older_pi_loads_and_keeps_unknown_keys(file: Path) -> None:
    written(file, json.dumps(OLD))
    pod = state.load().pod()
    assert pod.models["qwen"].gpus == (0, 1)
    assert (pod.models_path, pod.gpus[0].memory_mib) == ("/mnt/models", 81559)
    state.change(lambda before: replace(before, active=None))
    document = json.loads(file.read_text())
    assert document["theme"] == "dark" and document["pods"]["dc1"]["note"] == "kept"
    assert document["pods"]["dc1"]["vllmVersion"] == "release"


def test_unknown_keys_of_every_object_are_kept(file: Path) -> None:
    owner = {"pid": 9, "host": "h", "since": 1, "shell": "fish"}
    model = {"model": "m", "port": 1, "gpu": "0", "pid": 0, "status": "starting", "owner": owner, "tags": ["a"]}
    gpu = {"id": 0, "name": "H100", "memory": "80GB", "rack": {"row": 3}}
    pod = {"ssh": "x", "gpus": [gpu], "models": {"m": model}, "modelsPath": "", "price": 2.5}
    written(file, json.dumps({"pods": {"a": pod}, "theme": "dark"}))
    state.change(lambda before: replace(before, active="a"))
    document = json.loads(file.read_text())
    after = document["pods"]["a"]
    assert (document["theme"], after["price"], after["gpus"][0]["rack"]) == ("dark", 2.5, {"row": 3})
    assert after["models"]["m"]["tags"] == ["a"] and after["models"]["m"]["owner"] == owner


def test_the_backup_works_without_hard_links(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for name in ("a", "b"):
        before = file.read_bytes() if file.exists() else b""
        state.change(lambda known, name=name: known.with_pod(Pod(name, "local")))  # type: ignore[misc]
    assert file.with_suffix(".json.bak").read_bytes() == before != file.read_bytes()


TEXT = """{
  "a": [1,
        {"b": "x\\"]}"},
        [

        ]],
  "": {"c d": null, "e":
        true}
}
"""

PLACES = {
    (): 1,
    ("a",): 2,
    ("a", 0): 2,
    ("a", 1): 3,
    ("a", 1, "b"): 3,
    ("a", 2): 4,
    ("a", 2, 0): 4,
    ("a", 9): 2,
    ("a", "b"): 2,
    ("",): 7,
    ("", "c d", "x"): 7,
    ("", "e"): 8,
    ("none", "e"): 1,
}


@pytest.mark.parametrize(("place", "line"), PLACES.items(), ids=[dotted(place) for place in PLACES])
def test_line_of_returns_the_line_of_a_json_value(place: Place, line: int) -> None:
    json.loads(TEXT)
    assert line_of(TEXT, place) == line


def test_file_and_folder_are_private_and_the_old_file_stays(file: Path) -> None:
    state.change(lambda before: before.with_pod(Pod("a", "local")))
    first = file.read_bytes()
    state.change(lambda before: before.with_pod(Pod("b", "local")))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert file.with_suffix(".json.bak").read_bytes() == first
    assert {path.name for path in file.parent.iterdir()} == {"pods.json", "pods.json.bak", "pods.json.lock"}


def test_a_change_after_a_kill_that_left_the_backup_as_a_link_to_the_file(file: Path) -> None:
    """pi was killed between the two renames of a change."""
    state.change(lambda before: before.with_pod(Pod("a", "local")))
    file.with_suffix(".json.bak").hardlink_to(file)
    first = file.read_bytes()
    state.change(lambda before: before.with_pod(Pod("b", "local")))
    assert file.with_suffix(".json.bak").read_bytes() == first != file.read_bytes()
    assert {path.name for path in file.parent.iterdir()} == {"pods.json", "pods.json.bak", "pods.json.lock"}


def test_a_link_to_the_file_stays_a_link(file: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    file.parent.mkdir()
    file.symlink_to(tmp_path / "dotfiles" / "pods.json")
    state.change(lambda before: before.with_pod(Pod("a", "local")))
    assert file.is_symlink() and "a" in json.loads((tmp_path / "dotfiles" / "pods.json").read_text())["pods"]


BROKEN = {
    "cut off": '{"pods": {',
    "merge markers": '<<<<<<< HEAD\n{"pods": {}}\n',
    "a list": "[]",
    "pods is a list": '{"pods": []}',
    "no ssh": '{"pods": {"a": {"gpus": []}}}',
    "a name with a line break": '{"pods": {"a\\n": {"ssh": "x"}}}',
    "a name that is a path": '{"pods": {"../a": {"ssh": "x"}}}',
    "an unknown active pod": '{"pods": {}, "active": "x"}',
    "pid -1": '{"pods": {"a": {"ssh": "x", "models": {"m": {"model": "m", "port": 1, "gpu": "", "pid": -1}}}}}',
    "pid 1": '{"pods": {"a": {"ssh": "x", "models": {"m": {"model": "m", "port": 1, "gpu": "", "pid": 1}}}}}',
    "pid as text": '{"pods": {"a": {"ssh": "x", "models": {"m": {"model": "m", "port": 1, "gpu": "", "pid": "9; rm"}}}}}',
    "a huge number": '{"pods": {"a": {"ssh": "x", "models": {"m": {"model": "m", "port": 1e400, "gpu": "", "pid": 9}}}}}',
    "a GPU that is a command": '{"pods": {"a": {"ssh": "x", "models": {"m": {"model": "m", "port": 1, "gpu": "0;x", "pid": 9}}}}}',
    "a version that is a list": '{"pods": {"a": {"ssh": "x", "vllmBeside": {"venv-nightly": []}}}}',
    "a wrong adapter": '{"pods": {"a": {"ssh": "x", "models": {"m": {"model": "x", "port": 1, "pid": 2, "adapters": ["/"]}}}}}',
    "a folder with a line break": '{"pods": {"a": {"ssh": "x", "vllmBeside": {"venv\\n": "1"}}}}',
    "a price as text": '{"pods": {"a": {"ssh": "x", "price": "2.49"}}}',
    "a price below zero": '{"pods": {"a": {"ssh": "x", "price": -1}}}',
    "a setup at no time": '{"pods": {"a": {"ssh": "x", "set_up_at": true}}}',
    "nested too deeply": "[" * 100_000,
    "not UTF-8": b'{"pods": {"\xff": {}}}',
    "a newer version": '{"version": 999, "pods": {}}',
    "an invalid version": '{"version": true, "pods": {}}',
    "a repeated name": '{"pods": {"a": {"ssh": "x"}, "a": {"ssh": "y"}}}',
    "an unknown status": '{"pods": {"a": {"ssh": "x", "models": {"m": {"model": "m", "port": 1, "pid": 9, "status": "ok"}}}}}',
    "a GPU with too much memory": '{"pods": {"a": {"ssh": "x", "gpus": [{"id": 0, "name": "n", "memory": "9999999GB"}]}}}',
    "a number outside of JSON": '{"pods": {}, "theme": NaN}',
    "a number too large for JSON": '{"pods": {}, "theme": 1e400}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_an_invalid_file_is_rejected_and_unchanged(file: Path, content: str | bytes) -> None:
    before = written(file, content)
    for use in (state.load, lambda: state.change(lambda s: s.with_pod(Pod("new", "local")))):
        with pytest.raises(InputError) as refusal:
            use()
        assert str(file) in refusal.value.message
        assert "\n" not in refusal.value.render()
    assert file.read_bytes() == before


def test_a_lock_of_another_process_is_reported_after_the_timeout(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding = "import time; from pi.pods import state\nstate.change(lambda s: (print('held', flush=True), time.sleep(30), s)[2])"
    with subprocess.Popen([sys.executable, "-c", holding], stdout=subprocess.PIPE, env=dict(os.environ)) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        monkeypatch.setenv("PI_LOCK_TIMEOUT", "0.3")
        with pytest.raises(BusyError, match=f"pid {holder.pid} on"):
            state.change(lambda before: before)
        holder.kill()
    began = time.monotonic()
    state.change(lambda before: before)
    assert time.monotonic() - began < patient(5), "the kernel releases the lock of a dead process"


def test_a_kill_at_any_moment_leaves_a_valid_file(file: Path) -> None:
    state.change(lambda before: before.with_pod(Pod("a", "local")).with_pod(Pod("b", "local")))
    flipping = (
        "from dataclasses import replace; from pi.pods import state\n"
        "print('on', flush=True)\n"
        "while True:\n"
        "    for name in 'ab': state.change(lambda s: replace(s, active=name))"
    )
    for round_ in range(20):
        with subprocess.Popen(
            [sys.executable, "-c", flipping], stdout=subprocess.PIPE, env=dict(os.environ)
        ) as flipper:
            assert flipper.stdout is not None and flipper.stdout.readline()
            time.sleep(0.01 + 0.003 * round_)
            flipper.kill()
        assert set(state.load().pods) == {"a", "b"}


HINTS = {
    "no pods": (State(), None, "no-pods"),
    "none active": (State({"a": Pod("a", "local")}), None, "no-active-pod"),
    "unknown pod": (State({"a": Pod("a", "local")}), "b", "unknown-pod"),
}


@pytest.mark.parametrize(("state", "name", "id"), HINTS.values(), ids=HINTS.keys())
def test_an_absent_pod_is_reported_with_a_hint(state: State, name: str | None, id: str) -> None:
    with pytest.raises(InputError) as error:
        state.pod(name)
    assert error.value.id == id and error.value.hint


def test_a_renamed_pod_keeps_its_place_and_stays_active() -> None:
    before = State({name: Pod(name, f"ssh {name}", machine="m") for name in "abc"}, active="b")
    after = before.with_name("b", "x")
    assert list(after.pods) == ["a", "x", "c"]
    assert after.pods["x"] == Pod("x", "ssh b", machine="m")
    assert after.active == "x"
    assert before.with_name("a", "x").active == "b"
