"""`pi pods`, `active`, `remove`, and pods.json as a file: who may read it, who holds it, what survives."""

from __future__ import annotations

import re
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command import Pi, program

CARD = {"id": 0, "name": "H100 80GB HBM3", "memory": "80GB", "memory_mib": 81559}
MODEL = {"model": "a/b", "port": 8001, "gpu": "0", "pid": 4242, "status": "running"}
TWO: dict[str, Any] = {
    "version": 1,
    "pods": {
        "box": {"ssh": "ssh root@1.2.3.4 -p 2222", "gpus": [CARD, {**CARD, "id": 1}], "models": {"qwen": MODEL}},
        "lab": {"ssh": "ssh lab", "gpus": [], "models": {}, "vllmVersion": "0.32.0+cpu"},
    },
    "active": "box",
}


def test_pods_are_listed_with_the_active_one_marked(pi: Pi) -> None:
    pi.write(TWO)
    [head, box, lab] = pi.ok("pods").splitlines()
    assert head.split() == ["POD", "GPUS", "MODELS", "VLLM", "SSH"]
    assert box.split()[:2] == ["*", "box"]
    assert "2x H100 80GB HBM3 (80GB)" in box and "ssh root@1.2.3.4 -p 2222" in box
    assert lab.split()[0] == "lab"
    assert "none (CPU)" in lab and "0.32.0+cpu" in lab


def test_a_priced_pod_is_listed_with_its_cost_and_an_idle_one_is_named_on_a_terminal(pi: Pi) -> None:
    box = {"ssh": "ssh root@192.0.2.1", "gpus": [], "models": {"qwen": MODEL}, "price": 2.5}
    pi.write({"pods": {"box": {**box, "set_up_at": time.time() - 36000}, "lab": {"ssh": "ssh lab"}}, "active": "box"})
    done = pi.at_terminal("pods")
    assert done.out.splitlines()[0].split() == [
        "POD",
        "GPUS",
        "MODELS",
        "VLLM",
        "HOURS",
        "COST",
        "SSH",
    ]
    assert re.search(r"  10\.0   25\.0\d  ssh root@192\.0\.2\.1", done.out) and "  -      -      ssh lab" in done.out
    assert "box: no request known for 10 h; the machine keeps running (and billing)" in done.err
    assert re.search(r"25\.0\d since setup \(2\.50 per hour\)", done.err)
    done = pi.at_terminal("pods", "remove", "box", types="no\n")
    assert (done.code, done.id) == (5, "pod-has-models")
    assert "qwen; they keep running. Remove box from pods.json? [y/N]" in done.err and "no request" not in done.err
    done = pi.at_terminal("pods", "remove", "box", types="y\n")
    assert "removed box; the machine keeps running (and billing)" in done.out
    assert re.search(r"25\.0\d since setup \(2\.50 per hour\)", done.out) and list(pi.state()["pods"]) == ["lab"]


@pytest.mark.core
def test_another_pod_is_made_active(pi: Pi) -> None:
    pi.write(TWO)
    assert pi.ok("pods", "active", "lab") == "lab is active\n"
    assert pi.state()["active"] == "lab"
    done = pi("pods", "active", "nowhere")
    assert (done.code, done.out) == (2, "")
    assert "unknown pod 'nowhere'; you have box, lab" in done.err


@pytest.mark.core
def test_a_pod_is_forgotten(pi: Pi) -> None:
    pi.write(TWO)
    assert "removed lab" in pi.ok("pods", "remove", "lab")
    assert list(pi.state()["pods"]) == ["box"]
    assert pi.state()["active"] == "box"
    assert pi("pods", "remove", "lab").code == 2


def test_a_pod_gets_another_name(pi: Pi) -> None:
    pi.write(TWO)
    box = TWO["pods"]["box"]
    assert pi.ok("pods", "rename", "box", "dc1") == "box is called dc1 now\n"
    after = pi.state()
    assert (list(after["pods"]), after["active"]) == (["dc1", "lab"], "dc1")
    assert (after["pods"]["dc1"]["ssh"], list(after["pods"]["dc1"]["models"])) == (box["ssh"], ["qwen"])
    pi.ok("pods", "rename", "lab", "dc2")
    assert pi.state()["active"] == "dc1"
    done = pi("pods", "rename", "dc1", "dc2")
    assert (done.code, done.id) == (2, "pod-name-taken")
    assert pi("pods", "rename", "dc1", "../x").id == "name-invalid"
    assert pi("pods", "rename", "box", "y").id == "unknown-pod"


def test_the_state_is_private_and_its_last_version_kept(pi: Pi) -> None:
    pi.write(TWO)
    pi.state_file.chmod(0o644)
    before = pi.state_file.read_bytes()
    pi.ok("pods", "active", "lab")
    assert stat.S_IMODE(pi.state_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(pi.config.stat().st_mode) == 0o700
    assert (pi.config / "pods.json.bak").read_bytes() == before
    assert {path.name for path in pi.config.iterdir()} == {"pods.json", "pods.json.bak", "pods.json.lock", "audit.log"}


OLDER = {
    "pods": {
        "dc1": {
            "ssh": "ssh root@1.2.3.4",
            "gpus": [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "memory": "81559 MiB"}],
            "models": {"qwen": {"model": "Qwen/Qwen3-8B", "port": 8001, "gpu": [0], "pid": 1234}},
            "modelsPath": "/mnt/sfs",
            "vllmVersion": "nightly",
        },
        "old": {"ssh": "ssh root@5.6.7.8", "gpus": [], "models": {}},
    },
    "active": "dc1",
}


def test_a_state_of_an_older_file_is_read_and_survives_a_rewrite(pi: Pi) -> None:
    pi.write(OLDER)
    assert "NVIDIA H100 80GB HBM3 (80GB)" in pi.ok("pods")
    pi.ok("pods", "active", "old")
    state = pi.state()
    assert state["version"] == 1
    assert state["active"] == "old"
    pod = state["pods"]["dc1"]
    assert (pod["ssh"], pod["modelsPath"], pod["vllmVersion"]) == ("ssh root@1.2.3.4", "/mnt/sfs", "nightly")
    assert (pod["gpus"][0]["id"], pod["gpus"][0]["name"]) == (0, "NVIDIA H100 80GB HBM3")
    model = pod["models"]["qwen"]
    assert (model["model"], model["port"], model["gpu"], model["pid"]) == ("Qwen/Qwen3-8B", 8001, "0", 1234)
    pi.ok("pods", "active", "dc1")
    assert pi.state() == {**state, "active": "dc1"}


def test_unknown_keys_are_kept(pi: Pi) -> None:
    model = {**MODEL, "note": "mine"}
    pods = {"box": {"ssh": "ssh h", "gpus": [], "models": {"q": model}, "price": 2.5}, "lab": {"ssh": "ssh l"}}
    pi.write({"version": 1, "pods": pods, "active": "box", "theme": {"dark": True}})
    pi.ok("pods", "active", "lab")
    state = pi.state()
    assert state["theme"] == {"dark": True}
    assert state["pods"]["box"]["price"] == 2.5
    assert state["pods"]["box"]["models"]["q"]["note"] == "mine"


def test_an_empty_state_file_beside_a_good_copy_is_refused_and_the_copy_kept(pi: Pi) -> None:
    pi.write(TWO)
    pi.ok("pods", "active", "lab")
    pi.state_file.write_text("")
    backup = pi.config / "pods.json.bak"
    kept = backup.read_bytes()
    for words in (["pods"], ["pods", "active", "box"]):
        done = pi(*words)
        assert (done.code, done.out) == (2, "")
        assert f"it is empty; to restore the last good copy: cp {backup} " in done.err
    assert backup.read_bytes() == kept
    pi.expects_broken_state = True


def test_an_empty_state_file_is_no_pods(pi: Pi) -> None:
    pi.expects_broken_state = True
    pi.config.mkdir()
    pi.state_file.touch()
    assert "no pods yet" in pi.ok("pods")


def test_many_changes_at_once_lose_none(pi: Pi) -> None:
    pods = {f"p{n}": {"ssh": "ssh h"} for n in range(8)}
    pi.write({"version": 1, "pods": {**pods, "kept": {"ssh": "ssh h"}}, "active": "kept"})
    running = [pi.spawn("pods", "remove", name) for name in pods]
    assert [one.ends().code for one in running] == [0] * len(pods)
    assert list(pi.state()["pods"]) == ["kept"]


def test_a_terminal_and_a_pipe_get_the_same_table(pi: Pi) -> None:
    pi.write(TWO)
    on_terminal = subprocess.run(
        ["script", "-qec", f"{program('pi')} pods", "/dev/null"],
        env={**pi.environment, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert on_terminal.stdout.replace("\r\n", "\n") == pi.ok("pods")


def test_rented_machines_are_registered_with_their_price(pi: Pi) -> None:
    instances = Path(__file__).parents[1] / "fixtures" / "providers" / "vast_instances.json"
    (pi.bin / "vastai").write_text(f"#!/bin/sh\ncat {instances}\n")
    (pi.bin / "vastai").chmod(0o755)
    assert "train-box: registered; to use it: pi pods setup train-box" in pi.ok("pods", "import", "vast", "--dry-run")
    assert pi.ok("pods").startswith("no pods yet")
    pi.ok("pods", "import", "vast")
    saved = pi.state()
    assert saved["active"] == "train-box"
    assert saved["pods"]["train-box"]["ssh"] == "ssh root@142.214.185.187 -p 20544"
    assert saved["pods"]["train-box"]["price"] == 0.4034
    assert pi.ok("pods", "import", "vast").count("already registered") == 3
    assert pi.state() == saved
    assert pi("pods", "import", "lambda").id == "provider-unknown"
