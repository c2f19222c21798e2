"""Many starts that are interrupted or killed at any moment, and many commands at once: nothing is lost or left.

With warm connections and without. PI_TEST_STRESS=20 makes a tenth of the 200 starts of `inv slow`.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chores.docs import same
from tests.rig import invariants
from tests.rig.command import Done, Pi, Running
from tests.rig.patience import patient
from tests.rig.pod import Pod, kill, until
from tests.ssh.test_warm import masters, with_short_paths

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

STARTS = int(os.environ.get("PI_TEST_STRESS") or 200)

COMMANDS = max(1, STARTS * 60 // 200)

AT_ONCE = 5
"""Starts at a time; more would wait for a core, and all be interrupted at the same place."""

LATEST_S = 4.0
"""A start takes about two seconds, so some are over when their time comes."""

PERSIST_S = 5

UNSHARED_S = 18
"""Of a connection whose pi was killed: up to 5 s until the next heartbeat finds no reader, and 10 s for others."""


@pytest.fixture(params=[PERSIST_S, 0], ids=["warm", "cold"])
def laptop(pi: Pi, request: pytest.FixtureRequest) -> Iterator[Pi]:
    with with_short_paths(pi, request.param) as laptop:
        yield laptop


@pytest.fixture
def crowded(laptop: Pi, pod: Pod) -> Pod:
    """A pod with 16 GPUs. On each, 13 models fit; each model takes a second to load."""
    laptop.knows(pod)
    pod.cards("a100_40gb_16")
    pod.fault("vllm", load_s=1)
    return pod


def all_starts(pi: Pi, box: Pod, disturb: Callable[[Running, random.Random], object]) -> list[Done]:
    """Start models, and disturb each at a random moment. Returns how each pi ended."""
    model = box.model()

    def start(number: int) -> Done:
        chance = random.Random(number)
        running = pi.spawn("start", model, "--name", f"m{number}", "--memory", "7%")
        time.sleep(chance.uniform(0, LATEST_S))
        disturb(running, chance)
        return running.ends(120)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(start, range(STARTS)))


def check_nothing_is_lost_or_left(pi: Pi, box: Pod) -> None:
    """Check that pods.json and the pod agree, and that nothing remains after a stop: no process, no connection."""
    assert until(lambda: not box.programs(), 60), "the pod's programs have not ended"
    assert set(box.records()) <= set(pi.models("box")), "pods.json has lost a model"
    pi.ok("list", timeout_s=120)
    assert sorted(pi.models("box")) == box.records()
    invariants.hold([pi], [box])
    pi.ok("stop", "-y", timeout_s=600)
    assert box.quiet(60) == {} and box.records() == [] and pi.models("box") == {}
    assert until(lambda: not masters(pi), max(UNSHARED_S, PERSIST_S + 5)), f"connections stay: {masters(pi)}"
    assert not list((pi.config / "ssh").iterdir())


def test_interrupted_starts_leave_nothing(laptop: Pi, crowded: Pod) -> None:
    def interrupt(running: Running, chance: random.Random) -> None:
        running.interrupt(chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))

    ended = all_starts(laptop, crowded, interrupt)
    codes = {done.code if done.code >= 0 else 128 - done.code for done in ended}  # negative: before pi's first line
    assert codes <= {0, 129, 130, 143}, ended
    assert not [done for done in ended if "Traceback" in done.all]
    check_nothing_is_lost_or_left(laptop, crowded)


def test_killed_starts_lose_nothing(laptop: Pi, crowded: Pod) -> None:
    """Half of the kills end pi, half the pod's end of a connection, which starts on a warm connection share."""

    def end_pi(running: Running, chance: random.Random) -> None:
        connections = crowded.sessions()
        if connections and chance.random() < 0.5:
            kill(chance.choice(connections))
        else:
            running.interrupt(signal.SIGKILL)

    ended = all_starts(laptop, crowded, end_pi)
    assert not [done for done in ended if "Traceback" in done.all]
    check_nothing_is_lost_or_left(laptop, crowded)


def test_many_commands_at_once_all_succeed(laptop: Pi, crowded: Pod) -> None:
    laptop.ok("start", crowded.model(), "--name", "qwen")
    words = [["list"], ["logs", "qwen", "--no-follow"], ["audit"], ["pods"]]
    with ThreadPoolExecutor(COMMANDS) as pool:
        ended = list(pool.map(lambda n: laptop(*words[n % 4], timeout_s=patient(120)), range(COMMANDS)))
    assert not [done for done in ended if done.code]
    for kind in range(min(4, COMMANDS)):
        first, *others = (done.out for done in ended[kind::4])
        assert all(same(first, other) for other in others), words[kind]  # but for how long the model has been up
    check_nothing_is_lost_or_left(laptop, crowded)
