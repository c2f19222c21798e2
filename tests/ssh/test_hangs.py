"""Starts whose log stands still: after a while `pi start` says where, what the processes do, and what may help."""

from __future__ import annotations

import re
import signal

import pytest

from pi.on_pod.watch import STILL_S
from tests.rig.command import Pi
from tests.rig.patience import patient
from tests.rig.pod import until
from tests.ssh.conftest import NewPod

PACE = 0.06
"""On the pod alone: pi says where a start stands after 7 s instead of 120 s."""

NCCL = {
    "log": "(Worker_TP0 pid=71) INFO 11-23 14:52:16 [pynccl.py:111] vLLM is using nccl==2.27.5",
    "path": "/root/venv/lib/python3.12/site-packages/vllm/distributed/device_communicators/pynccl_wrapper.py",
    "function": "ncclCommInitRank",
}

BROADCAST = {
    "repeats": "(EngineCore pid=70) INFO 11-23 14:52:16 [shm_broadcast.py:681] No available shared memory broadcast "
    "block found in 60 seconds. This typically happens when some processes are hanging."
}

COMPILER = {"log": "(EngineCore pid=70) INFO 11-23 14:52:16 [core.py:1] Starting to load model m", "program": "cicc"}

STANDS = {"nccl": NCCL, "broadcast": BROADCAST, "compiler": COMPILER}

PLACES = {
    "nccl": ("vLLM connects the GPUs (NCCL)", "--env NCCL_P2P_DISABLE=1"),
    "broadcast": ("vLLM waits for a worker that does not answer (shared-memory broadcast)", "NCCL_P2P_DISABLE=1"),
    "compiler": ("vLLM compiles kernels", "--env VLLM_USE_FLASHINFER_SAMPLER=0"),
    "download": ("hf waits for Hugging Face", "pi tries again without xet by itself"),
}


@pytest.mark.long
def test_a_start_that_stands_still_says_where(pi: Pi, new_pod: NewPod) -> None:
    box = new_pod(environment={"PI_TEST_PACE": str(PACE)})
    pi.knows(box)
    box.fault("vllm", stands=STANDS)
    box.fault("hf", seconds=600)
    model, timeout = box.model(), str(round(patient(1.8 * PACE * STILL_S)))
    starts = {name: pi.spawn("start", model, "--name", name, "--timeout", timeout) for name in STANDS}
    fetching = pi.spawn("start", "Acme/Tiny-1B", "--name", "download")
    assert until(lambda: any("hf download" in words for words in box.processes().values()), 30)
    done = {name: running.ends() for name, running in starts.items()}
    fetching.interrupt(signal.SIGINT)
    done["download"] = fetching.ends()
    for name, (place, hint) in PLACES.items():
        notes = re.split(r"  note: no progress for [\d.]+ s", done[name].err)
        assert len(notes) == 2 or name == "download", done[name]  # pi fetches again without xet, and notes that too
        assert notes[1].startswith(f": {place}\n") and hint in notes[1].split("pi: ")[0], done[name]
    assert re.search(r"    vllm \(pid \d+\): .*ncclCommInitRank \(pynccl_wrapper\.py:2\)", done["nccl"].err)
    for name in STANDS:
        assert f"{name} was not ready after {timeout} s; pi stopped it while {PLACES[name][0]}" in done[name].err
    assert box.records() == [] and box.quiet() == {}
