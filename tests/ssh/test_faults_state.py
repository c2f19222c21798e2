"""The fault table, rows about pods.json and the terminal: 4, 7, 44 to 49 and 53 to 56, a test or a few for each.

Not injected on one machine:

- a disk that has no flock (48, NFS) and a clock that is set (49): the Python of pi, or of the pod, is told so instead;
- a pod and a laptop with two clocks (49): they share one here, and each is told another time in turn.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pi.on_pod import process
from tests.rig import invariants
from tests.rig.command import Done, Pi, Running, program
from tests.rig.pod import Pod, is_alive, kill, until
from tests.rig.ports import ports_to_ourselves
from tests.rig.skips import skip, skip_if
from tests.ssh.conftest import TOKEN, pods_in, set_mirrors
from tests.ssh.test_list import row
from tests.ssh.test_pods import MODEL, TWO

IS_ROOT = os.geteuid() == 0


@pytest.fixture(autouse=True)
def what_always_holds(pi: Pi, request: pytest.FixtureRequest) -> Iterator[None]:
    pi.environment["HF_TOKEN"] = TOKEN
    pods = [request.getfixturevalue("box")] if "box" in request.fixturenames else []
    yield
    if not pi.expects_broken_state:
        invariants.hold([pi], pods)


def refused(done: Done, *told: str, code: int = 2) -> None:
    """One line that says all this, and nothing else."""
    assert (done.code, done.out) == (code, ""), done
    assert done.err.count("\n") == 1, done
    for words in told:
        assert words in done.err


# --- one machine under two names


@dataclass(frozen=True)
class Twice:
    """A machine that was set up as `box`, then as `twin`; `told` is what the second setup said."""

    pi: Pi
    machine: Pod
    told: Done


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, venv: Path, uv: Path, wheels: Path) -> Iterator[Twice]:
    folder = tmp_path_factory.mktemp("twice")
    with ports_to_ourselves(), pods_in(folder, venv) as make:
        pi, machine = Pi(folder), make(bare=True).bare_machine(uv)
        machine.cards("h100_8", count=2)
        set_mirrors(pi, wheels)
        pi.ok("pods", "setup", "box", machine.ssh)
        yield Twice(pi, machine, pi("pods", "setup", "twin", machine.ssh))
        invariants.hold([pi], [machine])


@pytest.mark.long
def test_row_04_a_second_name_for_one_machine_is_reported_and_its_gpus_count_once(twice: Twice) -> None:
    pi, machine = twice.pi, twice.machine
    assert twice.told.code == 0
    assert f"twin is the same machine as 'box' (boot id {process.boot_id()})" in twice.told.err
    assert sorted(pi.state()["pods"]) == ["box", "twin"]
    [_, box, twin] = pi.ok("pods").splitlines()
    assert "2x H100 80GB HBM3 (80GB)" in box and "same machine as box" in twin and "2x" not in twin
    model = machine.model()
    for pod, name in (("box", "a"), ("twin", "b")):
        pi.ok("start", model, "--name", name, "--pod", pod)
    a, b = pi.models("box")["a"], pi.models("twin")["b"]
    assert a["port"] != b["port"] and {a["gpu"], b["gpu"]} == {"0", "1"}
    pi.ok("stop", "-y", "--pod", "twin")
    assert machine.quiet(0) == {}
    assert "gone (removed from pods.json)" in row(pi.ok("list"), "a")


# --- pods.json


KILLS = """
import itertools, json, os, random, signal, sys, time
from pi.cli.program import program
from pi.pods.state import path

def change_for_ever(done):
    for name in itertools.cycle(["box", "lab"]):
        program().run(["pi", "pods", "active", name], exit=False)
        os.write(done, b".")

program().run(["pi", "pods", "active", "lab"], exit=False)  # so that all is imported
began = time.monotonic()
program().run(["pi", "pods", "active", "lab"], exit=False)
span = time.monotonic() - began
whole, chance, seen = json.loads(path().read_text()), random.Random(5), set()
for _ in range(300):
    changes, done = os.pipe()
    child = os.fork()
    if not child:
        os.close(changes)
        change_for_ever(done)
    os.close(done)
    for _ in range(chance.randrange(4)):
        assert os.read(changes, 1), "the change failed"
    time.sleep(chance.random() * span)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(changes)
    state = json.loads(path().read_text())
    assert {**state, "active": "lab"} == whole, state
    seen.add(state["active"])
assert seen == {"box", "lab"}, seen
"""
"""Each kill comes after 0 to 3 whole changes, at a random moment of the next, however slow the machine is."""


@pytest.mark.long
def test_row_07_a_kill_at_any_of_300_moments_of_a_change_leaves_the_old_file_or_the_new_one(pi: Pi) -> None:
    pi.write(TWO)
    subprocess.run([sys.executable, "-c", KILLS], env=pi.environment, stdout=subprocess.DEVNULL, check=True)
    for name in ("lab", "box"):
        pi.ok("pods", "active", name)
    assert_unchanged(pi, active="box")
    assert files(pi.config) == {"audit.log", "pods.json", "pods.json.bak", "pods.json.lock"}


def assert_unchanged(pi: Pi, active: str) -> None:
    """pods.json still says what TWO does, but for what pi adds to every entry, and which pod is active."""
    state = pi.state()
    model = state["pods"]["box"]["models"]["qwen"]
    state["pods"]["box"]["models"]["qwen"] = {key: model[key] for key in MODEL}
    assert state == {"version": 1, "pods": TWO["pods"], "active": active}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


GOOD = json.dumps(TWO, indent=2)


def misspelt(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


COMMA_LINE = 37 if sys.version_info >= (3, 13) else 38
"""Where Python sees a trailing comma: at the comma itself since 3.13, before that at what follows."""

BROKEN: dict[str, tuple[str | bytes, str]] = {
    "cut off": (GOOD[: GOOD.index('"models"') + 4], "line 20: "),
    "merge markers": (misspelt('      "gpus"', '<<<<<<< HEAD\n      "gpus"'), "line 6: "),
    "a trailing comma": (misspelt('"active": "box"', '"active": "box",'), f"line {COMMA_LINE}: "),
    "the wrong shape": (misspelt('"models": {}', '"models": []'), "line 33: pods.lab.models: expected an object {...}"),
    "a wrong type": (
        misspelt('"port": 8001', '"port": "8001"'),
        "line 23: pods.box.models.qwen.port: expected a whole number",
    ),
    "a pid that means everybody": (misspelt('"pid": 4242', '"pid": -1'), "line 25: pods.box.models.qwen.pid: "),
    "a field that is not there": (misspelt('"ssh": "ssh lab",', ""), "line 30: pods.lab.ssh: expected text"),
    "a name twice": (misspelt('"lab": {', '"box": {'), "one object contains 'box' twice"),
    "no UTF-8": (GOOD.encode().replace(b"H100", b"H\xff00", 1), "line 9: byte 0xff is not UTF-8"),
    "nested 100,000 deep": ("[" * 100_000, "its values are nested too deeply"),
    "a huge number": (misspelt('"port": 8001', '"port": 1e400'), "the number 1e400 is too large"),
}


@pytest.mark.parametrize(("content", "problem"), BROKEN.values(), ids=BROKEN.keys())
def test_row_44_invalid_file_is_reported_by_line_and_kept(pi: Pi, content: str | bytes, problem: str) -> None:
    pi.expects_broken_state = True
    pi.write(TWO)
    pi.ok("pods", "active", "lab")
    before = content if isinstance(content, bytes) else content.encode()
    pi.state_file.write_bytes(before)
    for words in (["pods"], ["list"], ["pods", "active", "box"]):
        done = pi(*words)
        assert done.id == "state-invalid"
        refused(done, f"{pi.state_file} is invalid: {problem}", f"cp {pi.state_file}.bak {pi.state_file}")
    assert pi.state_file.read_bytes() == before
    shutil.copy(f"{pi.state_file}.bak", pi.state_file)
    pi.ok("pods", "active", "box")


@pytest.mark.core
def test_row_45_a_file_of_a_newer_pi_is_left_to_it(pi: Pi) -> None:
    pi.expects_broken_state = True
    pi.config.mkdir()
    pi.state_file.write_text('{"version": 999, "pods": [], "shards": {}}')
    verbs = [
        "pods",
        "pods active x",
        "pods remove x --force",
        "list",
        "stop",
        "logs q",
        "prompt q hi",
        "start a/b --name q",
    ]
    for words in verbs:
        done = pi(*words.split())
        assert done.id == "state-newer"
        refused(done, f"{pi.state_file} has version 999")
    assert pi.state_file.read_text() == '{"version": 999, "pods": [], "shards": {}}'
    assert files(pi.config) <= {"pods.json", "pods.json.lock"}


def test_row_46_what_another_program_wrote_meanwhile_is_kept(pi: Pi) -> None:
    pi.write(TWO)
    with held(pi):
        waiting = pi.spawn("pods", "active", "lab")
        assert until(lambda: waits(waiting))
        edited = pi.state()
        edited["pods"]["box"]["price"] = 2.5
        edited["pods"]["new"] = {"ssh": "ssh new", "gpus": [], "models": {}}
        pi.write(edited)
        assert waiting.is_running()
    assert waiting.ends().code == 0
    state = pi.state()
    assert state["pods"]["box"]["price"] == 2.5 and state["pods"]["new"] == edited["pods"]["new"]
    assert state["active"] == "lab"


@contextmanager
def held(pi: Pi, holder: str = "pid 4711 on desk") -> Iterator[None]:
    """The lock of pods.json, held by this process."""
    with (pi.config / "pods.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(holder)
        lock.flush()
        yield


def waits(running: Running) -> bool:
    """Whether it has the lock's file open (and so, while another holds it, waits)."""
    try:
        opened = [path.readlink().name for path in Path(f"/proc/{running.pid}/fd").iterdir()]
    except OSError:
        return False
    return "pods.json.lock" in opened


# --- the config dir


def test_row_47_an_unset_or_empty_config_dir_is_the_one_at_home(pi: Pi) -> None:
    pi.write(TWO)
    del pi.environment["PI_CONFIG_DIR"]
    for more in ({}, {"PI_CONFIG_DIR": ""}):
        assert " box" in pi.ok("pods", **more)
    refused(pi("pods", PI_CONFIG_DIR="~nobody-of-this-name/pi"), "PI_CONFIG_DIR '~nobody-of-this-name/pi'")


def test_row_47_a_relative_config_dir_is_one_from_where_pi_was_called(pi: Pi) -> None:
    pi.write(TWO)
    pi.ok("pods", "active", "lab", PI_CONFIG_DIR=".pi")
    pi.ok("pods", "active", "box", PI_CONFIG_DIR="./nothing/../.pi")
    assert pi.state()["active"] == "box"
    assert f"{pi.home}/none/pods.json" not in pi("pods", PI_CONFIG_DIR="none").all
    (pi.home / "a file").touch()
    refused(pi("pods", PI_CONFIG_DIR="a file"), f"cannot read {pi.home}/a file/pods.json: Not a directory")
    refused(pi("pods", "active", "box", PI_CONFIG_DIR="a file"), f"{pi.home}/a file")


def test_row_47_a_linked_config_dir_and_a_linked_file_stay_links(pi: Pi, tmp_path: Path) -> None:
    """People keep such files among their dotfiles. The copy of the last version is where the file itself is."""
    pi.write(TWO)
    kept = tmp_path / "dotfiles" / "my-pods.json"
    kept.parent.mkdir()
    pi.state_file.rename(kept)
    pi.state_file.symlink_to(kept)
    linked = tmp_path / "linked"
    linked.symlink_to(pi.config)
    pi.ok("pods", "active", "lab", PI_CONFIG_DIR=str(linked))
    assert linked.is_symlink() and pi.state_file.is_symlink()
    assert json.loads(kept.read_text())["active"] == "lab"
    assert files(kept.parent) == {"my-pods.json", "my-pods.json.bak"}
    pi.expects_broken_state = True
    kept.write_text("{")
    refused(pi("pods"), str(pi.state_file), f"cp {kept}.bak {pi.state_file}")


@pytest.mark.parametrize("words", [["pods"], ["pods", "active", "box"], ["list"]], ids=" ".join)
def test_row_47_a_link_to_nowhere_is_reported_and_taken_for_no_empty_state(
    pi: Pi, tmp_path: Path, words: list[str]
) -> None:
    """The disk that it leads to may only be away."""
    away = tmp_path / "away"
    pi.config.symlink_to(away / "pi")
    refused(pi(*words), f"{pi.config} is a link to {away}/pi, but {away}/pi does not exist")
    pi.config.unlink()
    pi.config.mkdir()
    pi.state_file.symlink_to(away / "pods.json")
    refused(pi(*words), f"{pi.state_file} is a link to {away}/pods.json, but {away} does not exist")
    assert not away.exists() and pi.state_file.is_symlink()
    away.mkdir()
    done = pi(*words)
    assert (done.code, done.err) == (0, "") or (done.code == 2 and done.id in ("no-pods", "unknown-pod")), done
    pi.expects_broken_state = True


def test_row_47_links_in_a_circle_are_reported(pi: Pi) -> None:
    pi.config.mkdir()
    pi.state_file.symlink_to(pi.state_file)
    for words in (["pods"], ["pods", "active", "box"]):
        refused(pi(*words), f"cannot read {pi.state_file}: Too many levels of symbolic links")
    pi.state_file.unlink()
    circle = pi.home / "circle"
    circle.symlink_to(circle)
    refused(pi("pods", PI_CONFIG_DIR=str(circle)), f"{circle} is a link to {circle}, but ")


def test_row_47_a_read_only_config_dir_can_be_read_and_is_named_when_it_would_be_changed(pi: Pi) -> None:
    pi.write(TWO)
    before = pi.state_file.read_bytes()
    with read_only(pi.config):
        assert " box" in pi.ok("pods")
        refused(pi("pods", "active", "lab"), f"cannot write {pi.config}")
        refused(pi("pods", "remove", "lab"), f"cannot write {pi.config}")
    assert pi.state_file.read_bytes() == before
    pi.ok("pods", "active", "lab")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that nobody may change; for root, who may all, on a file system that is read only."""
    if not IS_ROOT:
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)
        return
    for options in (["--bind", folder], ["-o", "remount,ro,bind"]):
        if subprocess.run(["mount", *options, folder], capture_output=True).returncode:
            skip("mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 64 KiB; only root may make one."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", folder], capture_output=True, text=True
    )
    if made.returncode:
        skip("mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all that is free."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                continue
        except OSError:
            return path
    return path


def test_row_47_a_full_disk_leaves_the_old_file(pi: Pi) -> None:
    pi.config.mkdir(mode=0o700)
    with small_disk(pi.config):
        pi.write(TWO)
        before = pi.state_file.read_bytes()
        filler = fill(pi.config)
        refused(pi("pods", "active", "lab"), f"cannot write {pi.config}", "No space left on device")
        assert pi.state_file.read_bytes() == before
        assert files(pi.config) <= {"pods.json", "pods.json.lock", "filler", "audit.log"}
        filler.unlink()
        pi.ok("pods", "active", "lab")
        invariants.hold([pi], [])


def test_row_47_a_config_dir_that_every_user_may_change_is_refused(pi: Pi) -> None:
    pi.write(TWO)
    pi.config.chmod(0o777)
    for words in (["pods"], ["pods", "active", "lab"]):
        done = pi(*words)
        assert done.id == "config-dir-world-writable"
        refused(done, "(mode 0777)", f"chmod 700 {pi.config}")
    pi.config.chmod(0o755)
    pi.ok("pods", "active", "lab")


AS_NOBODY = """
import contextlib, io, os, pi.fabric_tasks.active
from pi.cli.program import main, program
with contextlib.redirect_stdout(io.StringIO()):
    program().run(["pi", "pods"], exit=False)  # so that all is imported
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
main()
"""


@skip_if(not IS_ROOT, "users")
@pytest.mark.parametrize(
    ("owner", "mode", "told"),
    [
        (0, 0o700, "Permission denied; {0} belongs to another user (uid 0)"),
        (12345, 0o755, "{0} belongs to another user (uid 12345); set PI_CONFIG_DIR to a folder of your own"),
    ],
    ids=["root's, after sudo pi", "a stranger's"],
)
def test_row_47_a_config_dir_of_another_user_is_reported_as_such(pi: Pi, owner: int, mode: int, told: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        (folder / "pods.json").write_text(json.dumps(TWO))
        os.chown(folder, owner, -1)
        folder.chmod(mode)
        for words in (["pods"], ["pods", "active", "lab"]):
            done = subprocess.run(
                [sys.executable, "-c", AS_NOBODY, *words],
                env={**pi.environment, "HOME": "/", "PI_CONFIG_DIR": name},
                cwd="/",
                capture_output=True,
                text=True,
            )
            refused(Done(done.returncode, done.stdout, done.stderr), told.format(folder))
        assert files(folder) == {"pods.json"}


def cannot_write(pi: Pi) -> Path:
    """Have every change of pods.json fail until what is returned is gone."""
    lock = pi.config / "pods.json.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    return lock


def test_row_47_a_model_that_started_while_the_disk_filled_up_is_reported_with_its_entry(pi: Pi, box: Pod) -> None:
    document = pi.state()
    with small_disk(pi.config):
        pi.write(document)
        box.fault("vllm", load_s=2)
        starting = pi.spawn("start", box.model(), "--name", "qwen")
        starting.reads("waiting until it is ready")
        filler = fill(pi.config)
        done = starting.ends()
        assert done.code == 2, done
        assert "qwen runs on box (port " in done.err and "but pods.json could not be updated" in done.err
        assert "No space left on device" in done.err
        assert "pi list adds it, pi stop qwen stops it" in done.err
        [entry] = re.findall(r'^ *("qwen": \{.*\})$', done.err, re.MULTILINE)
        assert pi.models("box")["qwen"]["status"] == "starting"
        filler.unlink()
        assert "running" in row(pi.ok("list"), "qwen")
        assert json.loads("{" + entry + "}") == pi.models("box")
        pid = box.record("qwen")["pid"]
        filler = fill(pi.config)
        for words in (("restart", "qwen"), ("tunnel", "qwen", "--background"), ("door", "--background")):
            done = pi(*words)
            assert done.code == 2 and "No space left on device" in done.err and "qwen is stopped" not in done.out, done
        assert box.record("qwen")["pid"] == pid and is_alive(pid)
        filler.unlink()
        invariants.hold([pi], [box])
        pi.ok("stop", "qwen")
        document = pi.state()
    pi.write(document)


def test_row_47_what_a_start_a_list_and_a_stop_could_not_write_down_is_reported_and_made_good_later(
    pi: Pi, box: Pod
) -> None:
    model = box.model()
    pi.ok("start", model, "--name", "qwen")
    kept = pi.state()
    lock = cannot_write(pi)
    done = pi("start", model, "--name", "other")
    assert done.code == 2 and f"cannot write {lock}: Is a directory" in done.err
    assert box.records() == ["qwen"]
    done = pi("stop", "qwen")
    assert (done.code, done.out) == (2, "qwen is stopped\n")
    assert f"the stopped models are still in pods.json: cannot write {lock}: Is a directory" in done.err
    assert "pi list removes them" in done.err
    done = pi("list")
    assert done.code == 2 and "gone (removed from pods.json)" in row(done.out, "qwen")
    assert f"cannot write {lock}" in done.err
    assert pi.state() == kept and box.quiet() == {}
    lock.rmdir()
    pi.ok("list")
    assert pi.models("box") == {}


def test_row_47_the_cause_of_a_failed_start_is_reported_also_when_its_reservation_cannot_be_taken_back(
    pi: Pi, box: Pod
) -> None:
    box.fault("vllm", load_s=2, last_words="ValueError: the cause of it all", exit_after_s=0.1)
    starting = pi.spawn("start", box.model(), "--name", "qwen", "--timeout", "1")
    starting.reads("waiting until it is ready")
    lock = cannot_write(pi)
    done = starting.ends()
    assert done.code == 6
    assert "qwen was not ready after 1 s; pi stopped it" in done.err
    assert f"qwen did not start but stays in pods.json until pi list removes it: cannot write {lock}" in done.err
    lock.rmdir()
    pi.ok("list")
    assert pi.models("box") == {} and box.records() == []


def test_row_47_a_setup_that_could_not_be_written_down_shows_the_new_key_all_the_same(twice: Twice) -> None:
    pi, machine = twice.pi, twice.machine
    lock = cannot_write(pi)
    try:
        done = pi("pods", "setup", "box", machine.ssh, "--generate-key", PI_API_KEY="")
    finally:
        lock.rmdir()
    assert done.code == 2, done
    assert f"box is set up, but pods.json could not be updated: cannot write {lock}: Is a directory" in done.err
    assert "run it again, which is quick now: pi pods setup box 'ssh " in done.err
    [key] = re.findall(r"export PI_API_KEY=(sk-\S+)", done.out)
    assert key in (machine.home / ".pi" / "env.sh").read_text()


# --- the lock


def test_row_48_a_held_lock_is_reported_after_a_second_and_given_up_after_the_time_out(pi: Pi) -> None:
    pi.write(TWO)
    with held(pi):
        began = time.monotonic()
        done = pi("pods", "active", "lab", PI_LOCK_TIMEOUT="2")
        assert time.monotonic() - began >= 2
        assert (done.code, done.out) == (5, "")
        lock = pi.config / "pods.json.lock"
        [waiting, gave_up, hint] = done.err.splitlines()
        assert waiting.startswith(f"waiting for pid 4711 on desk to release {lock}")
        assert done.id == "state-locked" and "PI_LOCK_TIMEOUT" in hint
        assert str(lock) in gave_up and "pid 4711 on desk" in gave_up
        done = pi("pods", "active", "lab", PI_LOCK_TIMEOUT="0.3")
        assert done.code == 5 and "waiting" not in done.err
        assert pi.state() == TWO
        assert " box" in pi.ok("pods")
    with held(pi, holder=""):
        assert "another process holds" in pi("pods", "active", "lab", PI_LOCK_TIMEOUT="0").err


HOLDING = (
    "import time; from pi.pods import state\nstate.change(lambda s: (print('held', flush=True), time.sleep(60), s)[2])"
)


def test_row_48_a_holder_that_dies_is_not_waited_for(pi: Pi) -> None:
    pi.write(TWO)
    with subprocess.Popen([sys.executable, "-c", HOLDING], stdout=subprocess.PIPE, env=pi.environment) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        waiting = pi.spawn("pods", "active", "lab", PI_LOCK_TIMEOUT="50")
        assert until(lambda: waits(waiting))
        time.sleep(1.2)
        assert waiting.is_running()
        holder.kill()
    done = waiting.ends(timeout_s=20)
    assert done.code == 0 and f"waiting for pid {holder.pid} on " in done.err
    assert pi.state()["active"] == "lab"
    assert pi("pods", "active", "box").err == "", "what a dead holder left in the lock's file means nothing"
    assert (pi.config / "pods.json.lock").read_text() == ""


def told_to_python(pi: Pi, text: str) -> dict[str, Any]:
    """The environment of a pi whose Python has been told something first (site.html: sitecustomize)."""
    folder = pi.home / "told"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": str(folder)}


NO_FLOCK = """
import errno, fcntl, os
def flock(file, how):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
"""


def test_row_48_a_disk_without_locks_is_reported(pi: Pi) -> None:
    pi.write(TWO)
    done = pi("pods", "active", "lab", **told_to_python(pi, NO_FLOCK))
    assert done.id == "state-not-lockable"
    refused(done, f"{pi.config}/pods.json.lock: No locks available", "PI_CONFIG_DIR")
    assert pi.state() == TWO


@pytest.mark.parametrize("wrong", ["soon", "-1", "nan", "inf", "1e9", "10 s", "٣"])
def test_row_48_lock_timeout_must_be_a_number_of_seconds(pi: Pi, wrong: str) -> None:
    pi.write(TWO)
    done = pi("pods", "active", "lab", PI_LOCK_TIMEOUT=wrong)
    assert done.id == "lock-timeout-invalid"
    refused(done, f"PI_LOCK_TIMEOUT {wrong!r}")
    assert pi.state() == TWO


# --- clocks


LATER = "import time; now = time.time; time.time = lambda: now() + {days} * 86400\n"


def tell_pod(box: Pod, text: str) -> None:
    """Have the pod's Python be told something first, from now on."""
    venv = box.home / "venv"
    real = venv.resolve()
    venv.unlink()
    shutil.copytree(real, venv, symlinks=True)
    python = venv / "bin" / "python"
    python.unlink()
    words = "for last; do program=$next; next=$last; done"  # the program, and the pid of the shell that waits for it
    python.write_text(f'#!/bin/sh\n{words}\nexec {sys.executable} -I -S -c \'{text}\'"$program" "$last"\n')
    python.chmod(0o755)


@pytest.mark.parametrize("days", [-1, 1], ids=["set back", "set ahead"])
def test_row_49_ages_are_right_when_the_clock_of_the_pod_is_set(pi: Pi, box: Pod, days: int) -> None:
    box.fault("vllm", load_s=60)
    model = box.model()
    first = pi.spawn("start", model, "--name", "slow", "--detach")
    assert until((box.home / "received" / "slow.json").exists)
    box.fault("vllm")
    pi.ok("start", model, "--name", "qwen")
    tell_pod(box, LATER.format(days=days))
    kill(box.record("qwen")["pid"])
    assert until((box.home / ".pi/run/qwen/exit").exists)
    told = re.search(r"crashed at (\S+), exit 137", row(pi.ok("list"), "qwen"))
    assert told and told[1] in just_now()
    busy = pi("start", model, "--name", "slow")
    assert busy.code == 5
    assert re.search(r"slow is already starting \(pid \d+ on \S+, \d{1,3} s ago\)", busy.err)
    first.interrupt()
    first.ends()
    pi.ok("stop", "-y")


def just_now() -> list[str]:
    """The time of day now and a minute ago."""
    moment = time.time()
    return [time.strftime("%H:%M", time.localtime(moment - past)) for past in (0, 60)]


@pytest.mark.long
@pytest.mark.parametrize("days", [-400, 400], ids=["behind", "ahead"])
def test_row_49_ages_are_right_when_the_clock_of_the_laptop_is_wrong(pi: Pi, box: Pod, days: int) -> None:
    pi.environment |= told_to_python(pi, LATER.format(days=days))
    model = box.model()
    pi.ok("start", model, "--name", "qwen")
    pi.ok("start", model, "--name", "old")
    kill(box.record("qwen")["pid"])
    kill(box.record("old")["pid"])
    assert until((box.home / ".pi/run/qwen/exit").exists)
    note = box.home / ".pi" / "run" / "old" / "record.json"
    note.write_text(json.dumps({**box.record("old"), "boot_id": "another"}))
    table = pi.ok("list")
    told = re.search(r"crashed at \d+-\d+-\d+ (\S+), exit 137", row(table, "qwen"))
    assert told and told[1] in just_now()
    assert re.search(r"stopped by a reboot \(\d+ (s|min|h|days) ago\)", row(table, "old"))
    pi.ok("stop")


# --- the terminal


def into(pi: Pi, target: str, *words: str) -> Done:
    """Run pi with its stdout somewhere else, as a shell says it."""
    done = subprocess.run(
        ["bash", "-c", f'"$@" {target}', "bash", program("pi"), *words],
        env=pi.environment,
        cwd=pi.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_row_53_a_reader_that_leaves_early_is_no_error(pi: Pi) -> None:
    pi.write({"pods": {f"box-{n}": {"ssh": "ssh h"} for n in range(3000)}, "active": None})
    before = pi.state_file.read_bytes()
    reader, writer = os.pipe()
    with subprocess.Popen(
        [program("pi"), "pods"], env=pi.environment, stdout=writer, stderr=subprocess.PIPE, text=True
    ) as running:
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        assert running.stderr is not None
        assert running.stderr.read() == ""
    assert running.returncode == 141
    assert pi.state_file.read_bytes() == before


@pytest.mark.parametrize("words", ["pods", "--help", "--version", "start --help", "pods active lab"])
def test_row_53_a_full_disk_behind_stdout_is_reported_in_one_line(pi: Pi, words: str) -> None:
    pi.write(TWO)
    refused(into(pi, ">/dev/full", *words.split()), "pi: cannot write to stdout: No space left on device", code=1)
    assert_unchanged(pi, active="lab" if "active" in words else "box")


@pytest.mark.parametrize("words", ["pods", "--help", "pods active lab"])
def test_row_53_a_closed_stdout_or_stderr_is_no_error(pi: Pi, words: str) -> None:
    pi.write(TWO)
    for target in (">&-", "<&- >&- 2>&-"):
        assert into(pi, target, *words.split()) == Done(0, "", "")
    assert_unchanged(pi, active="lab" if "active" in words else "box")
    assert into(pi, "2>&-", "pods", "active", "none").code == 2


@pytest.mark.long
def test_row_53_nobody_who_reads_what_a_pod_says_leaves_pods_json_as_it_is(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    before = pi.state()
    assert into(pi, "| true; exit ${PIPESTATUS[0]}", "list") in (Done(141, "", ""), Done(0, "", ""))
    for words in (["list"], ["logs", "qwen", "--no-follow"], ["prompt", "qwen", "--quiet", "hi"]):
        refused(into(pi, ">/dev/full", *words), "pi: cannot write to stdout: No space left on device", code=1)
    assert pi.state() == before


@pytest.mark.parametrize(
    ("target", "code"),
    [(">/dev/full", 1), ("| head -1 >/dev/null; exit ${PIPESTATUS[0]}", 141)],
    ids=["full", "closed"],
)
def test_row_53_a_start_that_nobody_reads_is_what_list_says(pi: Pi, box: Pod, target: str, code: int) -> None:
    box.fault("vllm", load_s=1)
    done = into(pi, target, "start", box.model(), "--name", "qwen")
    assert done.code == code and "Traceback" not in done.all, done
    assert until(lambda: [box.record(name)["status"] for name in box.records()] in ([], ["running"]))
    assert ("running" in pi.ok("list")) == bool(box.records())
    assert list(pi.models("box")) == box.records()
    pi.ok("stop")


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.long
def test_row_54_a_terminal_that_knows_only_ascii_is_enough(pi: Pi, box: Pod) -> None:
    box.fault("vllm", say=["Größe ", "🚀"])
    pi.ok("start", box.model("größe"), "--name", "qwen")
    with box.log_of("qwen").open("a") as log:
        log.write("Größe 🚀 fertig\n")
    pi.environment |= ASCII
    assert re.search(r"models/gr\?+e", pi.ok("list"))
    assert re.search(r"Gr\?+e \?+ fertig", pi.ok("logs", "qwen", "--no-follow"))
    refused(pi("start", "Größe/🚀", "--name", "q"), "invalid model 'Gr")
    assert re.search(r"Gr\?+e \?+", pi.ok("prompt", "qwen", "--no-tools", "wie groß?"))
    state = pi.state()
    state["pods"]["box"]["gpus"] = [{"id": 0, "name": "Größe 🚀", "memory": "80GB"}]
    pi.write(state)
    assert re.search(r"1x Gr\?+e \?+ \(80GB\)", pi.ok("pods"))


# --- pods that are removed


@pytest.mark.core
def test_row_55_a_pod_with_models_is_removed_only_by_force(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    state = pi.state()
    state["pods"]["lab"] = TWO["pods"]["lab"]
    pi.write(state)
    done = pi("pods", "remove", "box")
    assert (done.code, done.out) == (5, "")
    assert "box still has models: qwen" in done.err and "--force" in done.err
    assert "the machine keeps running (and billing) until you end it at the provider" in done.err
    assert pi.state() == state
    told = pi.ok("pods", "remove", "box", "--force")
    assert "keeps running (and billing) until you end it at the provider" in told
    assert list(pi.state()["pods"]) == ["lab"]
    pi.write(state)
    pi.ok("stop")


def test_row_56_removing_the_active_pod_leaves_none_active_and_says_so(pi: Pi) -> None:
    pi.write({**TWO, "active": "lab"})
    told = pi.ok("pods", "remove", "lab")
    assert "removed lab" in told
    assert "no pod is active now; choose one: pi pods active box" in told
    assert pi.state()["active"] is None
    refused(pi("list"), "no active pod; you have box", "choose one: pi pods active NAME")
    pi.ok("pods", "active", "box")
    assert "no pod is active now; no pods are left" in pi.ok("pods", "remove", "box", "--force")
    refused(pi("list"), "no pods yet")
    assert pi.state() == {"version": 1, "pods": {}, "active": None}
