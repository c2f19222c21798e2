"""Many starts at once on one pod: each gets a port of its own, and no GPU more models than its memory allows."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.rig import invariants
from tests.rig.command import Done, Pi
from tests.rig.pod import Pod, listens

AT_ONCE = 20
"""As many laptops as this machine can be beside the pod, so that none of them waits in vain for a core to greet it."""


def crowd(pi: Pi, box: Pod, size: int, memory: str, gpus: int) -> float:
    """Start `size` models, 20 at any time, each with this share of a GPU's memory. Returns how long it took, in s."""
    box.cards("a100_40gb_16", count=gpus)
    box.fault("vllm", load_s=1)
    model = box.model()

    def start(number: int) -> Done:
        return pi("start", model, "--name", f"m{number}", "--memory", memory, timeout_s=900)

    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = list(pool.map(start, range(size)))
    took = time.monotonic() - began
    assert [done for done in ended if done.code] == []
    return took


def check(pi: Pi, box: Pod, size: int, memory: float, gpus: int) -> None:
    """What pods.json, the pod's notes and the servers themselves say agrees, and keeps the rules."""
    models = pi.models("box")
    assert len(models) == len(box.records()) == size
    assert len({entry["port"] for entry in models.values()}) == size
    for name, entry in models.items():
        received = box.received(name)
        assert received["argv"][received["argv"].index("--port") + 1] == str(entry["port"])
        assert received["env"]["CUDA_VISIBLE_DEVICES"] == entry["gpu"]
        assert listens(entry["port"])
    used = Counter(entry["gpu"] for entry in models.values())
    assert max(used.values()) * memory <= 0.95, used
    assert sum(used.values()) == size and set(used) <= set(map(str, range(gpus)))


def ends(pi: Pi, box: Pod, size: int, took: float) -> None:
    print(f"{size} starts took {took:.1f} s")
    pi.ok("stop", "-y", timeout_s=600)
    assert box.quiet(0) == {} and pi.models("box") == {}
    invariants.hold([pi], [box])


@pytest.mark.slow
def test_20_starts_at_once_take_20_ports_and_share_gpus_by_the_rules(pi: Pi, box: Pod) -> None:
    """One more than three on a GPU would not fit: 24 places for 20 models."""
    took = crowd(pi, box, 20, "30%", gpus=8)
    check(pi, box, 20, 0.3, gpus=8)
    ends(pi, box, 20, took)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_200_starts_20_at_a_time_take_200_ports_and_share_gpus_by_the_rules(pi: Pi, box: Pod) -> None:
    """One more than 13 on a GPU would not fit: 208 places for 200 models."""
    took = crowd(pi, box, 200, "7%", gpus=16)
    check(pi, box, 200, 0.07, gpus=16)
    ends(pi, box, 200, took)
