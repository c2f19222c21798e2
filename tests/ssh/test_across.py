"""`pi start --across`: one model over two pods, with stand-ins that meet as vLLM's ranks do."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.rig.alone import OUTER_ADDRESS, is_alone
from tests.rig.command import Pi
from tests.rig.pod import Pod, kill, until

TOGETHER = ("--across", "a,b", "--address", "a=127.0.0.1", "--address", f"b={OUTER_ADDRESS}", "--slow-network")
"""Both pods are this machine, whose loopback has two addresses."""

pytestmark = pytest.mark.pace(0.2)


def start(pi: Pi, *words: str) -> tuple[str, ...]:
    return ("start", "~/models/m", "--name", "qwen", *TOGETHER, "--insecure-public", *words)


def test_one_model_starts_lists_and_stops_on_two_pods(pi: Pi, two_pods: tuple[Pod, Pod]) -> None:
    a, b = two_pods
    assert pi(*start(pi)).id == "span-unconfirmed"
    assert a.records() == b.records() == []
    started = pi.ok(*start(pi, "-y"))
    assert "starting ~/models/m as qwen on 2 pods together: a (head), b" in started
    assert "  vLLM is running on b (rank 1)\n" in started
    assert "qwen is ready over a and b after" in started and "pi prompt qwen" in started
    head, rank = a.received("qwen"), b.received("qwen")
    assert "--headless" in rank["argv"] and "--headless" not in head["argv"]
    assert head["env"]["VLLM_HOST_IP"] == "127.0.0.1" and rank["env"]["VLLM_HOST_IP"] == OUTER_ADDRESS
    assert a.record("qwen")["members"] == b.record("qwen")["members"] == ["a", "b"]
    rows = pi.ok("list", "--all-pods").splitlines()
    assert [row.split()[:3] for row in rows[1:3]] == [["a", "qwen", "~/models/m"], ["b", "└", "qwen"]]
    assert "  a/qwen: running; over a and b" in rows
    assert "  b/qwen: running; rank 1 of qwen, whose head is a" in rows
    assert "Paris" in pi.ok("prompt", "qwen", "--no-tools", "Where?")
    on_rank = pi("prompt", "qwen", "--pod", "b", "--no-tools", "Where?")
    assert "Paris" in on_rank.out and "b has rank 1 of qwen; its head on a answers" in on_rank.err
    assert pi("scale", "qwen", "2").id == "no-replicas" and pi("move", "qwen", "b", "--from", "a").id == "span-moves"
    assert "the ranks have met" in pi.ok("logs", "qwen", "--pod", "b", "--no-follow")
    pi.ok("stop", "qwen")
    assert a.quiet() == b.quiet() == {} and a.records() == b.records() == []
    assert pi.models("a") == pi.models("b") == {}


@pytest.mark.long
def test_a_rank_that_dies_while_it_loads_is_named_and_all_stop(pi: Pi, two_pods: tuple[Pod, Pod]) -> None:
    a, b = two_pods
    b.fault("vllm", exit=3, log=str(b.home / "words"))
    (b.home / "words").write_text("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n")
    done = pi(*start(pi, "-y"))
    assert done.code == 6 and "qwen did not start: b: " in done.err and "out of memory" in done.err, done
    assert "pi logs qwen --pod b" in done.err
    assert a.quiet() == b.quiet() == {} and a.records() == b.records() == []
    assert pi.models("a") == pi.models("b") == {}
    assert "CUDA out of memory" in pi.ok("logs", "qwen", "--pod", "b", "--no-follow")


def watches(pod: Pod) -> bool:
    """Return whether a part's watcher has looked at the others: stand-ins are ready before its Python has started."""
    watchers = [pid for pid, words in pod.processes().items() if "pi_link.py" in words]
    return any(Path(f"/proc/{pid}/wchan").read_text() == "hrtimer_nanosleep" for pid in watchers)


@pytest.mark.long
def test_a_dead_rank_ends_the_model_on_all_pods_and_a_restart_brings_it_back(pi: Pi, two_pods: tuple[Pod, Pod]) -> None:
    a, b = two_pods
    pi.ok(*start(pi, "-y"))
    assert until(lambda: watches(a)), a.processes()
    time.sleep(1)  # for a look after the ranks have met
    kill(b.record("qwen")["pid"])
    assert until(lambda: not a.processes(), 15), a.processes()
    shown = pi.ok("list", "--all-pods")
    assert "a/qwen: crashed" in shown and "b/qwen: crashed" in shown
    assert f"b ({OUTER_ADDRESS})" in shown, shown
    restarted = pi.ok("restart", "qwen", "--pod", "b")
    assert "qwen is ready over a and b after" in restarted
    pi.ok("stop", "-y", "--pod", "b")
    assert a.quiet() == b.quiet() == {} and a.records() == b.records() == []


@pytest.mark.long
def test_another_laptop_sees_ranks_and_a_lost_pod_keeps_its_part(
    pi: Pi, two_pods: tuple[Pod, Pod], tmp_path: Path
) -> None:
    a, b = two_pods
    other = Pi(tmp_path / "other")
    other.environment |= {"PI_TEST_PACE": "0.2"}
    other.knows(*two_pods)
    pi.ok(*start(pi, "-y"))
    assert "rank 1 of qwen, whose head is a" in other.ok("list", "--all-pods")
    assert "Paris" in other.ok("prompt", "qwen", "--pod", "b", "--no-tools", "Where?")
    if is_alone() and os.geteuid() == 0:
        assert "NOT PROTECTED" not in other.ok("list")
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        assert "NOT PROTECTED: its firewall rules are gone" in other.ok("list")
    b.down()
    stopped = other("stop", "qwen")
    assert stopped.code == 0 and "a: qwen is stopped" in stopped.out and "cannot reach pod 'b'" in stopped.err, stopped
    assert other.models("a") == {} and list(other.models("b")) == ["qwen"]
    assert until(lambda: not b.processes(), 15), b.processes()
    b.up()
    assert "b/qwen: crashed" in pi.ok("list", "--all-pods") or "gone" in pi.ok("list", "--all-pods")
    assert "qwen was not running any more" in other.ok("stop", "qwen", "--pod", "b")
    assert a.records() == b.records() == [] and other.models("b") == {}


@pytest.mark.long
def test_an_interrupt_a_taken_name_and_another_environment_leave_nothing(pi: Pi, two_pods: tuple[Pod, Pod]) -> None:
    a, b = two_pods
    a.fault("vllm", load_until="go")
    running = pi.spawn(*start(pi, "-y"))
    assert until(lambda: b.records() and "loading" in pi.ok("list"), 20)
    running.interrupt()
    assert running.ends().code == 130
    assert a.quiet() == b.quiet() == {} and a.records() == b.records() == [] and pi.models("b") == {}

    pi.ok("start", "~/models/m", "--name", "qwen", "--pod", "b")
    taken = pi(*start(pi, "-y"))
    assert taken.id == "name-taken" and b.records() == ["qwen"] and "qwen" in pi.models("b")
    pi.ok("stop", "qwen", "--pod", "b")

    with (b.home / ".pi" / "env.sh").open("a") as environment:
        environment.write("export VLLM_ATTENTION_BACKEND=FLASHINFER\n")
    assert "VLLM_ATTENTION_BACKEND differ on a and b" in pi(*start(pi, "-y")).err
    (b.home / "models" / "m" / "config.json").write_text('{"max_position_embeddings": 4096}')
    (b.home / ".pi" / "env.sh").write_text("")
    refused = pi(*start(pi, "-y", "--context", "2k"))
    assert refused.id == "span-weights" and a.records() == b.records() == [], refused


@pytest.mark.long
def test_a_detached_start_and_a_dry_run(pi: Pi, two_pods: tuple[Pod, Pod]) -> None:
    a, b = two_pods
    refused = pi.at_terminal(*start(pi), types="n\n")
    assert refused.id == "span-unconfirmed" and "start qwen over a and b? [y/N]" in refused.err
    shown = pi.ok(*start(pi, "--dry-run"))
    assert "a, the head:" in shown and "b, rank 1:" in shown and "--headless" in shown
    assert a.records() == b.records() == []
    a.fault("vllm", load_until="go")
    assert "qwen is starting over a and b; pi wait qwen" in pi.ok(*start(pi, "-y", "--detach"))
    (a.home / "go").touch()
    assert "qwen is ready on a" in pi.ok("wait", "qwen", "--pod", "b")
    pi.ok("stop", "qwen")
    assert a.records() == b.records() == [] and pi.models("a") == pi.models("b") == {}


@pytest.mark.long
def test_gpus_of_a_rank_are_taken_for_others(pi: Pi, two_pods: tuple[Pod, Pod]) -> None:
    a, b = two_pods
    for pod in two_pods:
        pod.cards("h100_8", count=2)
    pi.ok(*start(pi, "-y", "--memory", "90%"))
    for pod in two_pods:
        assert pod.received("qwen")["env"]["CUDA_VISIBLE_DEVICES"] == "0,1" and pod.record("qwen")["gpus"] == [0, 1]
    busy = pi("start", b.model("other"), "--name", "other", "--pod", "b", "--memory", "50%")
    assert busy.id == "gpus-busy" and "held by qwen" in busy.err, busy
    pi.ok("stop", "qwen", "--pod", "b")
    a.cards("h100_8", count=1)
    assert "a has 1x H100 80GB HBM3, b has 2x H100 80GB HBM3" in pi(*start(pi, "-y")).err
