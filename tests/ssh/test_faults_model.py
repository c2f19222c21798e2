"""The fault table, rows about models: starting, running, stopping, fetching, reading their logs.

One test (or a few) for each of the rows 3, 20 to 30, 34, 35 and 50 to 52, named after it. Not injected on one machine:

- a pod that truly reboots (20): the note of the boot is changed instead, and the processes are killed;
- a pid that the kernel gives out again (21): the note's pid and session are changed to a bystander's instead;
- a process that the kernel does not let go (23): one in state D is made (a parent in vfork), but that KILL does
  nothing to it is arranged in the pod's Python;
- GPU memory (22, 24, 30): `nvidia-smi` is a stand-in, so nothing proves here that a driver gives memory back.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pi.vllm.log import explain
from tests.rig import invariants
from tests.rig.cases import CASES
from tests.rig.command import KEY, Done, Pi
from tests.rig.hub import hub
from tests.rig.patience import patient
from tests.rig.pod import Pod, first_free_port, is_alive, kill, listens, stat_of, until
from tests.ssh.conftest import TOKEN, NewPod, small_disk
from tests.ssh.test_list import row

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has 1.79 GiB free."
HELD_MIB = 71 * 1024


@pytest.fixture(autouse=True)
def what_always_holds(pi: Pi, box: Pod) -> Iterator[None]:
    pi.environment["HF_TOKEN"] = TOKEN
    with (box.home / ".pi" / "env.sh").open("a") as file:
        file.write(f"export HF_TOKEN={shlex.quote(TOKEN)} PI_API_KEY={KEY}\n")
    yield
    invariants.hold([pi], [box])


# --- two at once


def test_row_03_two_config_dirs_drive_one_pod(pi: Pi, box: Pod, tmp_path: Path) -> None:
    box.cards("h100_8", count=2)
    box.fault("vllm", load_s=0.5)
    other, model = Pi(tmp_path / "other"), box.model()
    other.knows(box)
    starts = [pi.spawn("start", model, "--name", "mine"), other.spawn("start", model, "--name", "theirs")]
    assert [start.ends().code for start in starts] == [0, 0]
    mine, theirs = pi.models("box")["mine"], other.models("box")["theirs"]
    assert mine["port"] != theirs["port"]
    assert {mine["gpu"], theirs["gpu"]} == {"0", "1"}
    listed = pi("list")
    assert "running" in row(listed.out, "mine") and "running" in row(listed.out, "theirs")
    assert "theirs was started from elsewhere" in listed.err
    pi.ok("stop", "theirs")
    assert "gone (removed from pods.json)" in row(other.ok("list"), "theirs")
    invariants.hold([pi, other], [box])


# --- running models


def test_row_20_a_reboot_of_the_pod_is_reported_until_the_model_is_stopped_or_started_again(pi: Pi, box: Pod) -> None:
    model = box.model()
    for name in ("a", "b"):
        pi.ok("start", model, "--name", name)
    rebooted(pi, box)
    for _ in range(2):
        table = pi.ok("list")
        for name in ("a", "b"):
            assert re.search(r"stopped by a reboot \(\d+ (s|min|h|days) ago\)", row(table, name))
    assert sorted(pi.models("box")) == box.records() == ["a", "b"]
    assert "was not running any more" in pi.ok("stop", "a")
    pi.ok("start", model, "--name", "b")
    assert "running" in row(pi.ok("list"), "b")
    assert list(pi.models("box")) == box.records() == ["b"]


def test_row_20_a_reboot_that_took_the_pods_disk_along_is_reported_too(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    rebooted(pi, box)
    shutil.rmtree(box.home / ".pi" / "run")
    for _ in range(2):
        assert "stopped by a reboot" in row(pi.ok("list"), "qwen")
    assert "removed from pods.json" in pi.ok("stop", "qwen")
    assert pi.models("box") == {}


def rebooted(pi: Pi, box: Pod) -> None:
    """Have all that runs on the pod gone, and its notes and pods.json be of another boot than this."""
    for name in box.records():
        kill(box.record(name)["pid"])
    assert box.quiet() == {}
    another = "01234567-89ab-cdef-0123-456789abcdef"
    for name in box.records():
        note(box, name, boot_id=another)
    state = pi.state()
    for entry in state["pods"]["box"]["models"].values():
        entry["boot_id"] = another
    pi.write(state)


def note(box: Pod, name: str, **changes: Any) -> None:
    (box.home / ".pi" / "run" / name / "record.json").write_text(json.dumps({**box.record(name), **changes}))


@pytest.mark.parametrize("boot", ["this boot", "another boot"])
def test_row_21_a_process_that_got_the_pid_and_the_session_of_a_model_survives_its_stop(
    pi: Pi, box: Pod, boot: str
) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    kill(pi.models("box")["qwen"]["pid"])
    assert box.quiet() == {}
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        changes: dict[str, Any] = {"pid": bystander.pid, "session": bystander.pid}
        note(box, "qwen", **changes, **({"boot_id": "another"} if boot == "another boot" else {}))
        assert "running" not in row(pi.ok("list"), "qwen")
        assert "was not running any more" in pi.ok("stop", "qwen")
        assert bystander.poll() is None
        bystander.kill()
    assert pi.models("box") == {} and box.records() == []


@pytest.mark.core
def test_row_24_engine_processes_that_hold_the_gpu_are_reported_and_cleaned(pi: Pi, box: Pod) -> None:
    """The API server and the launcher are killed; an engine process that has left the session lives on."""
    box.cards("h100_8", count=1)
    box.fault("vllm", stray=True)
    pi.ok("start", box.model(), "--name", "qwen")
    [engine] = [pid for pid, words in box.processes().items() if words.startswith("sleep")]
    box.cards("h100_8", count=1, apps=[{"pid": engine, "gpu": 0, "mib": HELD_MIB}])
    kill(box.record("qwen")["session"])
    kill(box.record("qwen")["pid"])
    held = rf"crashed.*, 71\.0 GB still held by pid {engine}, pi stop qwen stops it"
    assert until(lambda: re.search(held, row(pi.ok("list"), "qwen")))  # the watchdog ends within 2 s
    pi.ok("stop", "qwen")
    assert box.quiet(0) == {}
    assert pi.models("box") == {} and box.records() == []


@pytest.mark.long
def test_row_25_a_model_that_runs_out_of_memory_later_is_crashed_with_time_and_cause(pi: Pi, box: Pod) -> None:
    box.cards("h100_8", count=1)
    box.fault("vllm", exit_after_s=1.5, last_words=f"(EngineCore pid=7) ERROR 11-23 15:02:44 [core.py:99] {OOM}")
    model = box.model()
    pi.ok("start", model, "--name", "qwen")
    before = pi.models("box")["qwen"]
    assert until((box.home / ".pi/run/qwen/exit").exists)
    for _ in range(2):
        table = pi.ok("list")
        told = re.search(r"crashed at (\d\d:\d\d), exit 1: .*CUDA out of memory", row(table, "qwen"))
        assert told and told[1] in (time.strftime("%H:%M"), time.strftime("%H:%M", time.localtime(time.time() - 60)))
        assert "last lines of qwen" in table and table.count("CUDA out of memory") == 2
    assert pi.models("box")["qwen"] == before
    pi.ok("stop", "qwen")
    box.fault("vllm")
    pi.ok("start", model, "--name", "next")
    after = pi.models("box")["next"]
    assert (after["port"], after["gpu"]) == (before["port"], before["gpu"])


# --- starts that fail


FAILED_STARTS = [
    ("bad_arg_value", 2),
    ("bad_tool_parser", 1),
    ("max_len_over_model", 1),
    ("mem_util_too_big", 1),
    ("unknown_arch", 1),
    ("wrong_model_id", 1),
]


@pytest.mark.parametrize(("log", "code"), FAILED_STARTS, ids=[log for log, _ in FAILED_STARTS])
def test_row_26_a_start_that_fails_says_vllms_own_error_and_where_its_log_is(
    pi: Pi, box: Pod, log: str, code: int
) -> None:
    path = CASES / "failures" / f"{log}.log"
    box.fault("vllm", log=str(path), exit=code)
    done = pi("start", box.model(), "--name", "qwen")
    assert explain(path.read_text(), code).cause in done.err
    nothing_stays(pi, box, done)


def nothing_stays(pi: Pi, box: Pod, done: Done) -> None:
    """The start ended as one that did not become ready; its log is named, and nothing else is left of it."""
    assert done.code == 6, done
    assert "Traceback" not in done.err
    assert "the whole log: pi logs qwen (~/.vllm_logs/qwen.log on the pod)" in done.err
    assert pi("logs", "qwen", "--no-follow").code == 0
    assert pi.models("box") == {} and box.records() == []
    assert box.quiet() == {}
    assert not listens(int(done.out.partition(", port ")[2].split()[0]))


def test_row_27_a_model_that_never_becomes_ready_is_stopped_after_the_timeout(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_s=60)
    began = time.monotonic()
    done = pi("start", box.model(), "--name", "qwen", "--timeout", "2")
    assert time.monotonic() - began < patient(15)
    assert "qwen was not ready after 2 s; pi stopped it" in done.err
    assert "its log ends with: INFO 11-23 14:29:12 [api_server.py:1400] vLLM API server version" in done.err
    assert "to wait longer: --timeout SECONDS" in done.err
    nothing_stays(pi, box, done)


def test_row_27_a_server_that_a_signal_stopped_is_told_from_a_slow_one(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_s=60)
    running = pi.spawn("start", box.model(), "--name", "qwen", "--timeout", "3")
    running.reads("waiting until it is ready")
    server = box.record("qwen")["pid"]
    os.kill(server, signal.SIGSTOP)
    done = running.ends()
    assert re.search(rf"pi stopped it while \S+ \(pid {server}\) is stopped by a signal; its log ends", done.err)
    assert f"on the pod: kill -CONT {server}" in done.err
    nothing_stays(pi, box, done)


def test_row_27_a_timeout_that_is_no_number_of_seconds_is_refused(pi: Pi, box: Pod) -> None:
    for wrong in ("0", "-3", "soon", "1.5"):
        done = pi("start", box.model(f"m{wrong}"), "--name", "qwen", "--timeout", wrong)
        assert (done.code, done.out) == (2, ""), done
        assert f"invalid --timeout {wrong!r}" in done.err


@pytest.mark.core
def test_row_28_a_port_that_a_foreign_process_listens_on_is_passed_over(pi: Pi, box: Pod) -> None:
    taken = first_free_port()
    with subprocess.Popen([sys.executable, "-m", "http.server", str(taken)], stderr=subprocess.DEVNULL) as foreign:
        assert until(lambda: listens(taken))
        pi.ok("start", box.model(), "--name", "qwen")
        foreign.kill()
    port = pi.models("box")["qwen"]["port"]
    assert port > taken


class Healthy(BaseHTTPRequestHandler):
    """A stranger that says to everyone that it is healthy, as soon as there are so many listeners on its port."""

    listeners = 1

    def do_GET(self) -> None:
        self.send_response(200 if listeners(self.connection.getsockname()[1]) >= self.listeners else 503)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Nothing."""


def listeners(port: int) -> int:
    """How many sockets listen on a port (proc(5): /proc/net/tcp, state 0A)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(cells[3] == "0A" and cells[1].endswith(f":{port:04X}") for cells in lines)


class Sharing(HTTPServer):
    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()


@contextmanager
def stranger(port: int, handler: type[Healthy] = Healthy) -> Iterator[None]:
    with Sharing(("0.0.0.0", port), handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield
        server.shutdown()


class HealthyInCompany(Healthy):
    listeners = 2


@pytest.mark.parametrize("handler", [Healthy, HealthyInCompany], ids=["the stranger alone", "both by SO_REUSEPORT"])
def test_row_29_a_stranger_that_answers_health_on_the_port_is_not_the_model(
    pi: Pi, box: Pod, handler: type[Healthy]
) -> None:
    """It comes after the port was chosen. Where both listen, each gets some of the requests."""
    box.fault("vllm", load_s=30 if handler is Healthy else 1, shares_port=True)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    port = int(running.reads(", port ").partition(", port ")[2].split()[0])
    with stranger(port, handler):
        done = running.ends()
    assert f"another process answers on port {port}: pid {os.getpid()} (" in done.err
    nothing_stays(pi, box, done)


def test_row_29_a_stranger_that_joins_a_running_model_on_its_port_is_reported(pi: Pi, box: Pod) -> None:
    box.fault("vllm", shares_port=True)
    pi.ok("start", box.model(), "--name", "qwen")
    with stranger(pi.models("box")["qwen"]["port"]):
        assert f"pid {os.getpid()} (" in (line := row(pi.ok("list"), "qwen"))
        assert "another process uses its port" in line
        done = pi("stop", "qwen")
        assert (done.code, done.out) == (0, "qwen is stopped\n")
        assert f"another process uses its port: pid {os.getpid()} (" in done.err


def test_row_30_gpus_busy_with_foreign_work_are_reported_with_their_process(pi: Pi, box: Pod) -> None:
    model = box.model()
    with subprocess.Popen(["sleep", "60"]) as foreign:
        work = {"pid": foreign.pid, "gpu": 0, "mib": 61 * 1024}
        box.cards("h100_8", count=1, apps=[work])
        done = pi("start", model, "--name", "qwen", "--memory", "50%")
        assert done.code == 5
        assert f"GPU 0: 61.0 GB used by pid {foreign.pid} (not pi)" in done.err
        assert "GPU 0 has 22% free (--memory 22%), or wait until those processes exit" in done.err
        box.cards("h100_8", count=2, apps=[work])
        done = pi("start", model, "--name", "qwen", "--gpus", "2", "--memory", "50%")
        assert done.code == 5
        assert "GPU 1 is free (--gpus 1)" in done.err
        assert pi.models("box") == {} and box.records() == []
        foreign.kill()


def test_row_30_gpus_that_pis_own_models_hold_are_reported_with_the_way_to_free_them(pi: Pi, box: Pod) -> None:
    box.cards("h100_8", count=1)
    model = box.model()
    pi.ok("start", model, "--name", "y")
    server = pi.models("box")["y"]["pid"]
    box.cards("h100_8", count=1, apps=[{"pid": server, "gpu": 0, "mib": 73_000}])
    before = pi.state()
    done = pi("start", model, "--name", "x", "--memory", "50%")
    assert done.code == 5
    assert "GPU 0: 92% held by y" in done.err and "not pi" not in done.err
    assert "pi stop y makes room" in done.err
    assert pi.state() == before


# --- weights


def test_row_34_a_disk_too_small_for_the_weights_is_reported_before_the_first_byte(pi: Pi, new_pod: NewPod) -> None:
    with hub({"model.safetensors": 1 << 20, "demo.mp4": 142 << 40, "consolidated.pth": 1 << 50}) as address:
        pod = new_pod("small", environment={"HF_ENDPOINT": address})
        pi.knows(pod)
        done = pi("start", "Acme/Big-1T", "--name", "big")
    assert done.code == 1
    assert re.search(r"no space in \S+: \d+\.\d GB free, Acme/Big-1T needs 156130\.7 GB", done.err)
    assert "--models-path PATH" in done.err
    assert not (pod.home / "received" / "hf.json").exists()
    assert pi.models("small") == {} and pod.records() == [] and pod.quiet() == {}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    with small_disk(tmp_path / "disk", "size=1m") as folder:
        yield folder


def test_row_34_a_full_disk_keeps_no_model_from_being_stopped_and_refuses_a_start_in_words(
    pi: Pi, pod: Pod, tiny_disk: Path
) -> None:
    shutil.move(pod.home / ".pi", tiny_disk / "pi")
    (pod.home / ".pi").symlink_to(tiny_disk / "pi")
    pi.knows(pod)
    model = pod.model()
    pi.ok("start", model, "--name", "qwen")
    with pytest.raises(OSError, match="No space left"), (tiny_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    done = pi("start", model, "--name", "next")
    assert done.code == 1
    assert "the pod's disk is full" in done.err and "free space" in done.err
    assert list(pi.models("box")) == ["qwen"]
    assert pi.ok("stop", "qwen") == "qwen is stopped\n"
    assert pod.quiet() == {} and pi.models("box") == {}


def test_rows_34_and_35_a_disk_that_fills_up_is_reported_and_the_download_goes_on_where_it_was(
    pi: Pi, new_pod: NewPod, tiny_disk: Path
) -> None:
    pod = new_pod("small", environment={"HF_HOME": str(tiny_disk)})
    pi.knows(pod)
    pod.fault("hf", bytes=4 << 20)
    done = pi("start", "Acme/Tiny-1B", "--name", "tiny")
    assert done.code == 1
    assert "No space left on device" in done.err and "the pod's disk is full" in done.err
    assert pi.models("small") == {} and pod.records() == [] and pod.quiet() == {}
    [partial] = tiny_disk.rglob("*.incomplete")
    there = partial.stat().st_size
    assert there > 0
    subprocess.run(["mount", "-o", "remount,size=16m", tiny_disk], check=True)
    pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")
    told = (pod.home / ".vllm_logs" / "download-Acme--Tiny-1B.log").read_text()
    assert "Resuming download at" in told
    assert pod.received("hf")["env"]["HF_XET_HIGH_PERFORMANCE"] == "1"
    assert "HF_HUB_ENABLE_HF_TRANSFER" not in pod.received("hf")["env"]
    pi.ok("stop", "tiny")


@pytest.mark.long
def test_row_35_a_download_that_was_interrupted_resumes(pi: Pi, box: Pod) -> None:
    box.fault("hf", seconds=20, bytes=1 << 20)
    running = pi.spawn("start", "Acme/Tiny-1B", "--name", "tiny")
    hub_cache = box.home / ".cache" / "huggingface" / "hub"
    assert until(lambda: any(path.stat().st_size > 100_000 for path in hub_cache.rglob("*.incomplete")))
    running.interrupt()
    assert running.ends().code == 130
    box.fault("hf", bytes=1 << 20)
    pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")
    assert "Resuming download at" in (box.home / ".vllm_logs" / "download-Acme--Tiny-1B.log").read_text()


# --- logs


def huge(path: Path) -> str:
    """20 GB, all but the last lines a hole."""
    with path.open("wb") as file:
        file.truncate(20 * 10**9)
        file.seek(0, 2)
        file.write(b"\n" + b"a line\n" * 300)
    return "a line\n" * 200


def one_line(path: Path) -> str:
    with path.open("wb") as file:
        for _ in range(200):
            file.write(b"x" * 10**6)
        file.write(b"\nend\n")
    return "x" * 16384 + " … [the rest of this line is left out]\nend\n"


def binary(path: Path) -> str:
    path.write_bytes(bytes(range(256)) * 4000 + b"\nend\n")
    return "\nend\n"


def no_utf8(path: Path) -> str:
    path.write_bytes(b"good\n\xff\xfe\xc3(\n\xed\xa0\x80\nend \xf0\x9f\x9a\n")
    return "good\n\ufffd\ufffd\ufffd(\n\ufffd\ufffd\ufffd\nend \ufffd\n"


def escapes(path: Path) -> str:
    path.write_bytes(b"\x1b]52;c;aGFjaw==\x07\x1b[31mred\x1b[0m \x1b[2J\x1b[1;1H$ \xc2\x9b31m\x1bPq\x1b\\end\n")
    return "red $ 31mend\n"


@pytest.mark.parametrize("content", [huge, one_line, binary, no_utf8, escapes])
def test_row_50_any_log_is_shown_at_once_in_little_memory_and_safely(pi: Pi, box: Pod, content: Any) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    log = box.log_of("qwen")
    log.write_text("short\n")
    usual = first_byte_s(pi)
    expected = content(log)
    assert until(lambda: first_byte_s(pi) < usual + 1)
    running = pi.launch("logs", "qwen")
    told = running.reads(expected[-20:])
    memory = {pid: peak_mib(pid) for pid in (running.pid, *box.programs())}
    assert len(memory) == 2 and max(memory.values()) <= 100, memory
    running.interrupt()
    assert running.ends().code == 0
    assert told.endswith(expected) and (told == expected or content in (binary, one_line))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", told)


def first_byte_s(pi: Pi) -> float:
    began = time.monotonic()
    running = pi.spawn("logs", "qwen", "--no-follow")
    running.first()
    passed = time.monotonic() - began
    running.ends()
    return passed


def peak_mib(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


def test_row_51_a_log_that_is_rotated_cut_or_deleted_is_followed_on(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    log = box.log_of("qwen")
    log.write_text("first\n")
    running = pi.spawn("logs", "qwen")
    running.reads("first\n")
    log.rename(log.with_suffix(".1"))
    log.write_text("renamed\n")
    running.reads("renamed\n")
    log.write_text("cut\n")
    running.reads("cut\n")
    log.unlink()
    time.sleep(patient(0.3))
    log.write_text("deleted\n")
    running.reads("deleted\n")
    running.interrupt()
    done = running.ends()
    assert (done.code, done.out) == (0, "first\nrenamed\ncut\ndeleted\n")


def test_row_51_a_log_that_is_not_there_yet_is_reported_and_waited_for(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    log = box.log_of("qwen")
    log.unlink()
    done = pi("logs", "qwen", "--no-follow")
    assert (done.code, done.out, done.err) == (0, "", "qwen has no log yet\n")
    running = pi.spawn("logs", "qwen")
    assert until(box.programs)
    time.sleep(patient(0.5))
    log.write_text("now\n")
    running.reads("now\n")
    running.interrupt()
    assert "qwen has no log yet" in running.ends().err


def test_row_52_a_server_that_ends_while_its_log_is_followed_is_reported_with_its_status(pi: Pi, box: Pod) -> None:
    box.fault("vllm", exit_after_s=3, last_words="the last words")
    pi.ok("start", box.model(), "--name", "qwen")
    before = pi.state()
    done = pi("logs", "qwen")
    assert done.code == 1
    assert done.out.endswith("the last words\n")
    assert "qwen exited with status 1" in done.err
    assert pi.state() == before


def test_row_52_a_server_that_is_stopped_while_its_log_is_followed_is_reported_as_such(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    running = pi.spawn("logs", "qwen")
    running.reads("Application startup complete.")
    pi.ok("stop", "qwen")
    done = running.ends()
    assert done.code == 0
    assert "qwen was stopped" in done.err


# --- stops that take long


def with_a_gpu(pi: Pi, box: Pod, **vllm: Any) -> None:
    """Start `qwen` on a pod with one GPU."""
    box.cards("h100_8", count=1)
    box.fault("vllm", **vllm)
    pi.ok("start", box.model(), "--name", "qwen")


@pytest.mark.pace(0.2)
@pytest.mark.core
def test_row_22_a_server_that_ignores_term_is_forced_and_its_gpu_memory_confirmed_free(pi: Pi, box: Pod) -> None:
    with_a_gpu(pi, box, ignore_term=True, child=True, stray=True)
    server = pi.models("box")["qwen"]["pid"]
    box.cards("h100_8", count=1, apps=[{"pid": server, "gpu": 0, "mib": HELD_MIB}])
    done = pi("stop", "qwen")
    assert (done.code, done.out) == (0, "qwen is stopped (forced after 20 s)\n")
    assert re.search("waiting for [45] processes to end", done.err)  # the watchdog may have ended
    assert box.quiet(0) == {}
    assert pi.models("box") == {} and box.records() == []


@pytest.mark.long
def test_row_22_gpu_memory_that_does_not_come_back_is_reported_and_the_entry_kept(pi: Pi, box: Pod) -> None:
    with_a_gpu(pi, box)
    box.cards("h100_8", count=1, used_mib={"0": 76_000})
    done = pi("stop", "qwen")
    assert (done.code, done.out) == (1, "")
    assert "qwen has ended, but GPU 0 still has 74.2 of 79.6 GB in use" in done.err
    assert "reboot the pod" in done.err
    assert list(pi.models("box")) == box.records() == ["qwen"]
    assert box.quiet(0) == {}
    invariants.hold([pi], [box])
    box.cards("h100_8", count=1)
    assert "removed what it had left" in pi.ok("stop", "qwen")


@pytest.mark.long
@pytest.mark.pace(0.1)
def test_row_22_a_wedged_nvidia_smi_does_not_keep_a_stop_from_its_end(pi: Pi, box: Pod) -> None:
    with_a_gpu(pi, box)
    box.cards("h100_8", count=1, seconds=60)
    done = pi("stop", "qwen")
    assert (done.code, done.out) == (0, "qwen is stopped\n")
    assert "nvidia-smi does not answer, so pi cannot tell whether its GPU memory is free" in done.err
    assert pi.models("box") == {} and box.records() == []


FROZEN = """
import os, sys
os.mkfifo(sys.argv[1])
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
"""
"""Waits in state D for a child that opens a FIFO before it becomes /bin/true (glibc's posix_spawn is a vfork)."""

DEAF = """
import os
kill = os.kill
os.kill = lambda pid, number: None if b"frozen" in open("/proc/%d/cmdline" % pid, "rb").read() else kill(pid, number)
"""


@contextmanager
def undying(pod: Pod) -> Iterator[None]:
    """Leave the model a process in state D that no signal ends, as a wedged driver does; all is over afterwards."""
    environment = {"HOME": str(pod.home), "PI_INSTANCE": pod.record("qwen")["instance"]}
    with subprocess.Popen([sys.executable, "-S", "-c", FROZEN, pod.home / "frozen"], env=environment):
        assert until(lambda: any(stat_of(pid)[0] == "D" for pid in pod.processes()))
        make_deaf(pod)
        try:
            yield
        finally:
            for pid in pod.processes():
                os.kill(pid, signal.SIGKILL)
    assert pod.quiet() == {}


def make_deaf(pod: Pod) -> None:
    """Have pi's program on the pod spare that process: the KILL would end its child, which is not stuck."""
    (pod.home / "venv").unlink()
    python = pod.home / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    deaf = DEAF.replace('"', '\\"')
    python.write_text(f'#!/bin/bash\nexec {sys.executable} -I -S -X utf8 -c "{deaf}${{*: -2:1}}" "${{*: -1}}"\n')
    python.chmod(0o755)


@pytest.mark.long
def test_row_23_a_process_that_does_not_die_is_reported_with_its_state_and_the_entry_kept(pi: Pi, box: Pod) -> None:
    with_a_gpu(pi, box)
    with undying(box):
        done = pi("stop", "qwen")
        assert (done.code, done.out) == (1, "")
        assert re.search(r"cannot stop qwen: pid \d+ survives KILL \(state D\)", done.err)
        assert "reboot the pod" in done.err
        assert list(pi.models("box")) == box.records() == ["qwen"]
        assert not any(is_alive(pid) for pid in (pi.models("box")["qwen"]["pid"], box.record("qwen")["session"]))
