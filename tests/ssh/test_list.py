"""`pi list`: what is true on the pod, and what becomes of notes that are not."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.rig.cases import CASES
from tests.rig.command import Pi
from tests.rig.pod import Pod, is_alive, kill, until
from tests.ssh.conftest import Serving


def row(table: str, name: str) -> str:
    """A model's line of the table, and the sentence about it below the table."""
    [line] = [line for line in table.splitlines() if line.split()[:1] == [name]]
    return "\n".join([line, *(line for line in table.splitlines() if line.startswith(f"  {name}: "))])


@pytest.mark.core
def test_a_running_model_is_listed_with_its_address(serving: Serving) -> None:
    [head, line, pod] = serving.pi.ok("list").splitlines()
    assert head.split() == [
        "NAME",
        "MODEL",
        "GPU",
        "GPU",
        "GB",
        "PORT",
        "CONTEXT",
        "STATE",
        "START",
        "UP",
        "IDLE",
        "URL",
    ]
    port = serving.pi.models("box")["qwen"]["port"]
    *cells, start, start_unit, up, unit, idle, url = line.split()
    assert cells == ["qwen", serving.model, "-", "-", str(port), "8192", "running"]
    assert int(start) < 100 and start_unit == "s"
    assert int(up) < 100 and (unit, idle, url) == ("s", "-", f"http://127.0.0.1:{port}/v1")
    assert pod.startswith("  box: up ")


def test_idle_time_and_cost_are_listed(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    state = pi.state()
    state["pods"]["box"] |= {"price": 2.5, "set_up_at": time.time() - 36000}
    pi.write(state)
    asked = box.home / ".pi" / "run" / "qwen" / "asked"
    asked.touch()
    os.utime(asked, (time.time() - 600, time.time() - 600))
    _, line, pod = pi.ok("list").splitlines()
    assert line.split()[-3:-1] == ["10", "min"]
    assert pod.startswith("  box: up ") and pod.endswith("; 25.00 since setup (2.50 per hour)")
    [seen] = json.loads(pi.ok("list", "--json"))["pods"]
    [model] = seen["models"]
    assert (seen["price_per_hour"], seen["cost"]) == (2.5, 25.0)
    assert 600 <= model["idle_seconds"] < 660 and model["up_seconds"] < 100


def test_gpu_memory_of_a_model_is_that_of_its_processes(pi: Pi, box: Pod) -> None:
    box.cards("h100_8", count=1)
    pi.ok("start", box.model(), "--name", "qwen")

    def memory() -> tuple[str, int | None, str | None]:
        [model] = json.loads(pi.ok("list", "--json"))["pods"][0]["models"]
        cells = row(pi.ok("list"), "qwen").split()
        return cells[3], model["gpu_memory_mib"], model["gpu_memory_source"]

    own = {"pid": pi.models("box")["qwen"]["pid"], "gpu": 0, "mib": 72704}
    box.cards("h100_8", count=1, apps=[own, {"pid": os.getpid(), "gpu": 0, "mib": 512}])
    assert memory() == ("71.0", 72704, "processes")
    box.cards("h100_8", count=1, used_mib={"0": 72704})  # as in a container that hides pids
    assert memory() == ("<=71.0", 72704, "gpus")


def test_a_pod_without_models_says_how_to_start_one(pi: Pi, box: Pod) -> None:
    assert pi.ok("list") == "no models on box; start one: pi start MODEL --name NAME\n"


def test_a_model_that_loads_is_starting(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_s=60)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    running.reads("waiting until it is ready")
    assert "starting" in row(pi.ok("list"), "qwen")
    running.interrupt()
    running.ends()


def test_weights_that_are_fetched_make_a_model_starting(pi: Pi, box: Pod) -> None:
    box.fault("hf", seconds=60)
    running = pi.spawn("start", "Acme/Tiny-1B", "--name", "tiny")
    assert until(lambda: box.records() == ["tiny"])
    assert "starting" in row(pi.ok("list"), "tiny")
    running.interrupt()
    running.ends()


@pytest.mark.core
def test_a_killed_model_is_crashed_and_stays_until_it_is_stopped(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    kill(pi.models("box")["qwen"]["pid"])
    assert until((box.home / ".pi/run/qwen/exit").exists)
    line = row(pi.ok("list"), "qwen")
    assert "crashed" in line and "killed" in line
    assert "http://" not in line
    assert "qwen" in pi.models("box")
    assert "was not running any more" in pi.ok("stop", "qwen")
    assert pi.models("box") == {} and box.records() == []


def test_a_crashed_model_is_listed_with_the_cause_in_its_log(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    with box.log_of("qwen").open("a") as log:
        log.write((CASES / "failures" / "corrupted_safetensors.log").read_text())
    kill(pi.models("box")["qwen"]["pid"])
    assert until((box.home / ".pi/run/qwen/exit").exists)
    line = row(pi.ok("list"), "qwen")
    assert re.search(r"crashed at \d\d:\d\d, exit 137: safetensors.*SafetensorError: Error while", line)


def test_processes_that_outlive_a_killed_model_are_reported_and_stopped(pi: Pi, box: Pod) -> None:
    box.fault("vllm", stray=True)
    pi.ok("start", box.model(), "--name", "qwen")
    kill(pi.models("box")["qwen"]["pid"])
    assert re.search(r"crashed.*, pid \d+ still runs, pi stop qwen stops it", row(pi.ok("list"), "qwen"))
    pi.ok("stop", "qwen")
    assert box.quiet() == {}


def test_after_a_reboot_of_the_pod_nothing_is_taken_for_alive(pi: Pi, box: Pod) -> None:
    """Another boot: the same pid, even the same start time, names another process now."""
    pi.ok("start", box.model(), "--name", "qwen")
    record = box.record("qwen")
    kill(record["pid"])
    assert until(lambda: box.quiet() == {})
    (box.home / ".pi/run/qwen/record.json").write_text(json.dumps({**record, "boot_id": "another", "pid": 1}))
    for _ in range(2):
        assert re.search(r"stopped by a reboot \(\d+ (s|min|h|days) ago\)", row(pi.ok("list"), "qwen"))
    assert list(pi.models("box")) == box.records() == ["qwen"]
    assert "was not running any more" in pi.ok("stop", "qwen")
    assert pi.models("box") == {} and box.records() == []


@pytest.mark.long
def test_a_model_that_was_stopped_and_started_anew_from_elsewhere_is_known_by_its_new_port(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    before = pi.state()
    pi.ok("stop")
    pi.ok("start", box.model("other"), "--name", "first")
    pi.ok("start", str(box.home / "models" / "m"), "--name", "qwen")
    after = pi.models("box")["qwen"]
    pi.write(before)
    pi.ok("list")
    assert pi.models("box")["qwen"] == after != before["pods"]["box"]["models"]["qwen"]


def test_a_model_that_the_pod_knows_nothing_of_is_forgotten(pi: Pi, box: Pod) -> None:
    """The pod was made anew, or somebody cleared it."""
    entry = {"model": "a/b", "port": 8001, "gpu": "0", "pid": 4242}
    pi.knows(box, models={"qwen": entry})
    assert "gone (removed from pods.json)" in row(pi.ok("list"), "qwen")
    assert pi.models("box") == {}


@pytest.mark.core
def test_a_model_started_from_elsewhere_is_adopted(serving: Serving, tmp_path: Path) -> None:
    other = Pi(tmp_path)
    other.knows(serving.box)
    done = other("list")
    assert done.code == 0
    assert "running" in row(done.out, "qwen")
    assert "qwen was started from elsewhere; added it to pods.json" in done.err
    assert other.models("box") == serving.pi.models("box")
    assert other("list").err == ""


def test_a_model_that_no_longer_answers_is_unresponsive(serving: Serving) -> None:
    pid = serving.pi.models("box")["qwen"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert "unresponsive" in row(serving.pi.ok("list"), "qwen")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "running" in row(serving.pi.ok("list"), "qwen")


@pytest.mark.long
def test_a_server_that_goes_away_in_the_middle_is_unreachable(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_s=2)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    running.reads("waiting until it is ready")
    box.down()
    done = running.ends()
    assert done.code == 3, done
    assert "cannot reach pod 'box'" in done.err
    assert "Traceback" not in done.err
    box.up()
    assert until(lambda: box.record("qwen")["status"] == "running")
    assert "running" in row(pi.ok("list"), "qwen")
    assert is_alive(pi.models("box")["qwen"]["pid"])


def test_all_models_are_asked_over_one_connection(pi: Pi, box: Pod) -> None:
    model = box.model()
    for name in "abc":
        pi.ok("start", model, "--name", name)
    before = box.log.read_text().count("Accepted publickey")
    table = pi.ok("list", PI_SSH_PERSIST="0")
    assert [line.split()[0] for line in table.splitlines()[1:]] == [*"abc", "box:"]
    assert box.log.read_text().count("Accepted publickey") == before + 1


def test_a_watched_list_shows_changes_until_ctrl_c(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_until="go")
    pi.ok("start", box.model(), "--name", "qwen", "--detach")
    running = pi.spawn("list", "--watch")
    running.reads("starting (loading)")
    (box.home / "go").touch()
    running.reads(" running ")
    running.interrupt()
    assert running.ends().code == 0
    dead = pi.config / "pods.json"
    dead.write_text(json.dumps({"pods": {"dead": {"ssh": "ssh -p 1 root@127.0.0.1"}}, "active": "dead"}))
    assert pi("list", "--watch").code == 3


def test_an_idle_pod_is_named_unless_any_client_asked_it(pi: Pi, pod: Pod) -> None:
    """The stand-in for vLLM has no guard, so the test leaves the guard's mark."""
    pi.knows(pod, price=2.5, set_up_at=time.time() - 10 * 3600)
    assert "box: no request known for 10 h; the machine keeps running (and billing)" in pi.at_terminal("pods").err
    (pi.config / "spending.json").unlink()
    (pod.home / ".pi" / "asked").touch()
    assert "no request known" not in pi.at_terminal("pods").err
    pod.down()
    (pi.config / "spending.json").unlink()
    assert "box: no request known for 10 h" in pi.at_terminal("pods").err
