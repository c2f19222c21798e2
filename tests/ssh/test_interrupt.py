"""Ctrl+C and other signals to pi, without a terminal: what it had started on the pod is ended, nothing is stored."""

from __future__ import annotations

import signal
import time

import pytest

from tests.rig.command import Done, Pi
from tests.rig.patience import patient
from tests.rig.pod import Pod, is_alive, stat_of, until

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


def nothing_stays(pi: Pi, box: Pod, done: Done, code: int = 130) -> None:
    assert done.code == code, done
    assert "Traceback" not in done.err
    assert pi.models("box") == {}
    assert box.records() == []
    assert box.quiet() == {}


@pytest.mark.parametrize(("number", "code"), SIGNALS, ids=[number.name for number, _ in SIGNALS])
@pytest.mark.core
def test_while_a_model_loads(pi: Pi, box: Pod, number: signal.Signals, code: int) -> None:
    box.fault("vllm", load_s=60)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    running.reads("waiting until it is ready")
    began = time.monotonic()
    running.interrupt(number)
    done = running.ends()
    assert time.monotonic() - began < patient(15)
    assert "pi stopped the work on the pod" in done.err
    nothing_stays(pi, box, done, code)


def test_while_weights_are_fetched(pi: Pi, box: Pod) -> None:
    box.fault("hf", seconds=60)
    running = pi.spawn("start", "Acme/Tiny-1B", "--name", "tiny")
    assert until(lambda: any("hf download" in words for words in box.processes().values()))
    running.interrupt()
    nothing_stays(pi, box, running.ends())
    assert not box.log_of("tiny").exists()


def test_a_download_goes_on_where_it_was_interrupted(pi: Pi, box: Pod) -> None:
    """What was fetched stays in the cache; `hf download` itself resumes it."""
    box.fault("hf", seconds=60, bytes=2**20)
    running = pi.spawn("start", "Acme/Tiny-1B", "--name", "tiny")
    assert until(lambda: any("hf download" in words for words in box.processes().values()))
    running.interrupt()
    running.ends()
    assert list((box.home / ".cache" / "huggingface" / "hub").rglob("*.incomplete"))
    box.fault("hf")
    pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")


def test_while_a_log_is_followed_the_model_goes_on(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    running = pi.spawn("logs", "qwen")
    running.reads("Application startup complete.")
    running.interrupt()
    done = running.ends()
    assert done.code == 0, done
    assert is_alive(pi.models("box")["qwen"]["pid"])
    assert until(lambda: not any("tail" in words for words in box.processes().values()))


def calls_on(pod: Pod) -> set[int]:
    """Return the first process of each call. A child has the same command line until it calls exec."""
    found = pod.programs()
    return {pid for pid in found if int(stat_of(pid)[1]) not in found}


def test_while_another_pi_is_waited_for(pi: Pi, box: Pod) -> None:
    """The second start waits for the pod's lock, which the first one holds while nvidia-smi takes its time."""
    box.cards("h100_8", seconds=3)
    model = box.model()
    first = pi.spawn("start", model, "--name", "a")
    assert until(lambda: any("nvidia-smi" in words for words in box.processes().values()))
    second = pi.spawn("start", model, "--name", "b")
    assert until(lambda: len(calls_on(box)) == 2)
    second.interrupt()
    assert second.ends(timeout_s=2.5).code == 130
    box.cards("h100_8")
    assert first.ends().code == 0
    assert box.records() == ["a"]
