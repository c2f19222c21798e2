"""`pi audit`: every change leaves a line on the pod and on the laptop: when, who, what, and how it went."""

from __future__ import annotations

import getpass
import socket
import stat
from pathlib import Path

import pytest

from tests.rig.cases import CASES
from tests.rig.command import Pi
from tests.rig.pod import Pod, kill, until

WHO = f"{getpass.getuser()}@{socket.gethostname()}"


def noted(log: Path) -> list[list[str]]:
    """Command, name and result of each line."""
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    assert all(fields[0].endswith("Z") and fields[1] == WHO and len(fields) == 5 for fields in lines)
    return [fields[2:] for fields in lines]


def on_pod(box: Pod) -> list[list[str]]:
    return noted(box.home / ".pi" / "audit.log")


def on_laptop(pi: Pi) -> list[list[str]]:
    return noted(pi.config / "audit.log")


@pytest.mark.core
def test_starts_and_stops_are_noted_with_how_they_went(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    assert pi("start", box.model("other"), "--name", "qwen").code == 5
    box.fault("vllm", log=str(CASES / "failures" / "unknown_arg.log"), exit=2)
    assert pi("start", box.model("bad"), "--name", "bad").code == 6
    pi.ok("stop", "qwen")
    pi.ok("stop")
    assert on_pod(box) == [
        ["start", "qwen", "ok"],
        ["start", "qwen", "failed: name_taken"],
        ["start", "bad", "failed: exited"],
        ["stop", "qwen", "ok"],
    ]
    assert on_laptop(pi) == [
        ["start", "box/qwen", "ok"],
        ["start", "box/qwen", "failed: name-taken (exit code 5)"],
        ["start", "box/bad", "failed: rejected-arguments (exit code 6)"],
        ["stop", "box/qwen", "ok"],
        ["stop", "box/*", "ok"],
    ]
    told = pi.ok("audit")
    assert told.splitlines()[0].split() == ["TIME", "(UTC)", "WHO", "COMMAND", "NAME", "RESULT"]
    assert [line.split()[1:4] for line in told.splitlines()[1:]] == [[WHO, *line[:2]] for line in on_pod(box)]
    [_, only] = pi.ok("audit", "--lines", "1", "--pod", "box").splitlines()
    assert only.split()[2:] == ["stop", "qwen", "ok"]


def test_an_interrupted_start_is_noted_as_cancelled(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_s=30)
    running = pi.spawn("start", box.model(), "--name", "slow")
    running.reads("vLLM is running")
    running.interrupt()
    assert running.ends().code == 130
    assert on_pod(box) == [["start", "slow", "cancelled"]]
    assert on_laptop(pi) == [["start", "box/slow", "interrupted"]]


def test_what_pi_learns_or_forgets_is_noted_where_it_is_known(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    pid = pi.models("box")["qwen"]["pid"]
    pi.knows(box)
    assert "added it to pods.json" in pi("list").all
    kill(pid)
    pi.ok("stop", "qwen")
    pi.write({"pods": {"box": {"ssh": box.ssh, "models": {"old": {"model": "a", "port": 9, "gpu": "0", "pid": 2}}}}})
    pi.ok("pods", "active", "box")
    assert "gone (removed from pods.json)" in pi.ok("list")
    pi.ok("pods", "remove", "box")
    assert on_laptop(pi)[1:] == [
        ["adopt", "box/qwen", "ok"],
        ["stop", "box/qwen", "ok"],
        ["active", "box", "ok"],
        ["forget", "box/old", "ok"],
        ["remove", "box", "ok"],
    ]


def test_a_pod_without_changes_says_so_and_asking_is_no_change(pi: Pi, box: Pod) -> None:
    assert pi.ok("audit") == "no changes on box yet\n"
    pi.ok("list")
    assert not (box.home / ".pi" / "audit.log").exists()
    assert not (pi.config / "audit.log").exists()
    assert pi("audit", "--lines", "0").code == 2


def test_it_takes_one_connection(pi: Pi, box: Pod) -> None:
    before = box.log.read_text().count("Accepted publickey")
    pi.ok("audit")
    assert until(lambda: box.log.read_text().count("Accepted publickey") == before + 1, 2)


def test_lines_of_strangers_are_shown_safe(pi: Pi, box: Pod) -> None:
    (box.home / ".pi" / "audit.log").write_text("a\t\x1b]0;owned\x07b\tc\td\te\nno line of pi's \x1b[2J\n")
    told = pi.ok("audit")
    assert "\x1b" not in told and "no line of pi's" in told


def test_a_log_that_cannot_be_written_ends_nothing(pi: Pi, box: Pod) -> None:
    (box.home / ".pi" / "audit.log").mkdir()
    (pi.config / "audit.log").mkdir()
    pi.ok("start", box.model(), "--name", "qwen")
    pi.ok("stop")
