"""`pi pods`, `active`, `remove`, and pods.json as a file: who may read it, who holds it, what survives."""

from __future__ import annotations

import fcntl
import json
import stat
import subprocess
import sys
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


def test_another_pod_is_made_active(pi: Pi) -> None:
    pi.write(TWO)
    assert pi.ok("pods", "active", "lab") == "lab is active\n"
    assert pi.state()["active"] == "lab"
    done = pi("pods", "active", "nowhere")
    assert (done.code, done.out) == (2, "")
    assert "no pod 'nowhere'; you have box, lab" in done.err


def test_a_pod_is_forgotten(pi: Pi) -> None:
    pi.write(TWO)
    assert "lab is forgotten" in pi.ok("pods", "remove", "lab")
    assert list(pi.state()["pods"]) == ["box"]
    assert pi.state()["active"] == "box"
    assert pi("pods", "remove", "lab").code == 2


def test_a_pod_with_models_is_forgotten_only_by_force(pi: Pi) -> None:
    pi.write(TWO)
    done = pi("pods", "remove", "box")
    assert done.code == 5
    assert "qwen" in done.err and "--force" in done.err
    assert pi.state() == TWO
    told = pi.ok("pods", "remove", "box", "--force")
    assert "still runs (and bills)" in told
    assert "pi pods active lab" in told
    assert pi.state()["active"] is None
    done = pi("list")
    assert (done.code, done.out) == (2, "")
    assert "no active pod; you have lab" in done.err


def test_the_state_is_private_and_its_last_version_kept(pi: Pi) -> None:
    pi.write(TWO)
    pi.state_file.chmod(0o644)
    before = pi.state_file.read_bytes()
    pi.ok("pods", "active", "lab")
    assert stat.S_IMODE(pi.state_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(pi.config.stat().st_mode) == 0o700
    assert (pi.config / "pods.json.bak").read_bytes() == before
    assert {path.name for path in pi.config.iterdir()} == {"pods.json", "pods.json.bak", "pods.json.lock", "audit.log"}


def test_a_linked_state_file_stays_a_link(pi: Pi, tmp_path: Path) -> None:
    """People keep such files among their dotfiles."""
    pi.write(TWO)
    kept = tmp_path / "dotfiles.json"
    pi.state_file.rename(kept)
    pi.state_file.symlink_to(kept)
    pi.ok("pods", "active", "lab")
    assert pi.state_file.is_symlink()
    assert json.loads(kept.read_text())["active"] == "lab"


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


def test_the_state_of_the_typescript_pi_is_read_and_survives_a_rewrite(pi: Pi) -> None:
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


BROKEN = [
    ("half a file", '{"pods": {"box": {"ssh": "ssh h"', "line 1"),
    ("a newer version", '{"version": 2, "pods": {}, "shards": []}', "version 2, this pi knows 1"),
]
"""Two through the whole command; tests/unit/test_state.py has them all."""


@pytest.mark.parametrize(("text", "told"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_state_that_cannot_be_used_is_named_and_left_alone(pi: Pi, text: str, told: str) -> None:
    pi.expects_broken_state = True
    pi.config.mkdir()
    pi.state_file.write_text(text)
    for words in (["pods"], ["pods", "active", "box"]):
        done = pi(*words)
        assert (done.code, done.out) == (2, ""), words
        assert told in done.err and str(pi.state_file) in done.err
        assert done.err.count("\n") == 1
    assert pi.state_file.read_text() == text


def test_an_empty_state_file_is_no_pods(pi: Pi) -> None:
    pi.expects_broken_state = True
    pi.config.mkdir()
    pi.state_file.touch()
    assert "no pods yet" in pi.ok("pods")


def test_a_held_lock_is_waited_for_and_its_holder_named(pi: Pi) -> None:
    pi.write(TWO)
    with (pi.config / "pods.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("pid 4711 on desk")
        lock.flush()
        began = time.monotonic()
        done = pi("pods", "active", "lab", PI_LOCK_TIMEOUT="1")
        assert done.code == 5
        assert time.monotonic() - began >= 1
        assert "pid 4711 on desk" in done.err and "PI_LOCK_TIMEOUT" in done.err
        assert pi.state() == TWO
        assert "box" in pi.ok("pods")
        waiting = pi.spawn("pods", "active", "lab")
        time.sleep(0.7)
        assert waiting.is_running()
    assert waiting.ends().code == 0
    assert pi.state()["active"] == "lab"


def test_many_changes_at_once_lose_none(pi: Pi) -> None:
    pods = {f"p{n}": {"ssh": "ssh h"} for n in range(8)}
    pi.write({"version": 1, "pods": {**pods, "kept": {"ssh": "ssh h"}}, "active": "kept"})
    running = [pi.spawn("pods", "remove", name) for name in pods]
    assert [one.ends().code for one in running] == [0] * len(pods)
    assert list(pi.state()["pods"]) == ["kept"]


KILLS = """
import itertools, json, os, random, signal, sys, time
from pi.program import program
from pi.state import path

def change_for_ever():
    for name in itertools.cycle(["box", "lab"]):
        program().run(["pi", "pods", "active", name], exit=False)

program().run(["pi", "pods", "active", "lab"], exit=False)  # so that all is imported
whole, chance, seen = json.loads(path().read_text()), random.Random(5), set()
for _ in range(300):
    child = os.fork()
    if not child:
        change_for_ever()
    time.sleep(chance.random() * 0.03)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    state = json.loads(path().read_text())
    assert {**state, "active": "lab"} == whole, state
    seen.add(state["active"])
assert seen == {"box", "lab"}, seen
"""


def test_a_killed_pi_never_leaves_a_broken_file(pi: Pi) -> None:
    """`pods active` over and over, as fast as it goes, killed at 300 random moments."""
    pi.write(TWO)
    subprocess.run([sys.executable, "-c", KILLS], env=pi.environment, stdout=subprocess.DEVNULL, check=True)
    pi.ok("pods", "active", "box")
    assert pi.state()["pods"].keys() == TWO["pods"].keys()


def test_a_state_that_cannot_be_written_is_told(pi: Pi, tmp_path: Path) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.touch()
    done = pi("pods", "active", "box", PI_CONFIG_DIR=str(not_a_folder))
    assert done.code == 2
    assert str(not_a_folder) in done.err
    assert "Traceback" not in done.err


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
