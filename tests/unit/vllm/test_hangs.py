"""Where a start stands whose log does not move."""

from __future__ import annotations

import pytest

from pi.vllm.arguments import Arguments
from pi.vllm.hangs import Process, frames_of, hung_at, place_of, shown
from pi.vllm.start_facts import StartFacts

WAITING = """\
Thread 0x00007f3d4c7f8740 (most recent call first):
  File "/usr/lib/python3.12/threading.py", line 359 in wait
  File "/root/venv/lib/python3.12/site-packages/tqdm/_monitor.py", line 60 in run

"""

NCCL = (
    WAITING
    + """\
Current thread 0x00007f3d4c7f8740 (most recent call first):
  File "/root/venv/lib/python3.12/site-packages/vllm/distributed/device_communicators/pynccl_wrapper.py", line 421 in ncclCommInitRank
  File "/root/venv/lib/python3.12/site-packages/vllm/distributed/device_communicators/pynccl.py", line 118 in __init__
  File "/root/venv/lib/python3.12/site-packages/vllm/distributed/parallel_state.py", line 363 in __init__
"""
)

SPIED = """\
Process 71: VLLM::Worker_TP0
Python v3.12.3 (/usr/bin/python3.12)

Thread 71 (active): "MainThread"
    ncclCommInitRank (vllm/distributed/device_communicators/pynccl_wrapper.py:421)
    __init__ (vllm/distributed/device_communicators/pynccl.py:118)
Thread 99 (idle): "Thread-1 (_run)"
    run (tqdm/_monitor.py:60)
"""

SERVER = Process(60, "vllm", "S", WAITING.replace("threading.py", "selectors.py"))


def worker(stack: str = "", state: str = "S", name: str = "VLLM::Worker_TP0") -> Process:
    return Process(71, name, state, stack)


LINE = "(Worker_TP0 pid=71) INFO 11-23 14:52:16 [x.py:1] {}\n"

PLACES = [
    ("a stack at NCCL", "", [SERVER, worker(NCCL)], "stands-at-nccl"),
    ("the log at NCCL", LINE.format("vLLM is using nccl==2.27.5"), [], "stands-at-nccl"),
    ("a stopped worker", LINE.format("vLLM is using nccl==2.27.5"), [worker(state="T")], "stands-stopped"),
    ("the broadcast", LINE.format("No available shared memory broadcast block found in 60 seconds."), [],
     "stands-at-broadcast"),
    ("a worker at NCCL behind the broadcast", LINE.format("No available shared memory broadcast block found"),
     [worker(NCCL)], "stands-at-nccl"),
    ("a compiler that runs", LINE.format("Starting to load model"), [worker(name="cicc")], "stands-compiling"),
    ("the log at a compilation", LINE.format("Dynamo bytecode transform time: 2.91 s"), [], "stands-compiling"),
    ("a download", LINE.format("Fetching 12 files"), [], "stands-downloading"),
    ("a download before the start", "", [Process(70, "hf", "S", "")], "stands-fetching"),
    ("a bar of weights", "Loading safetensors checkpoint shards:  48% Completed | 22/46 [00:22<00:23,  1.03it/s]\n", [],
     "stands-loading"),
    ("CUDA graphs", LINE.format("Capturing CUDA graph shapes"), [], "stands-capturing"),
]  # fmt: skip


@pytest.mark.parametrize(("log", "processes", "id"), [case[1:] for case in PLACES], ids=[case[0] for case in PLACES])
def test_stacks_then_the_log_tell_the_place(log: str, processes: list[Process], id: str) -> None:
    place = place_of(log, processes, StartFacts())
    assert place and place.id == id
    assert place.doing and place.hint


def test_a_place_that_nobody_knows_is_none() -> None:
    assert place_of(LINE.format("hello"), [SERVER], StartFacts()) is None


def test_the_hint_leaves_out_what_the_start_had() -> None:
    had = StartFacts(env={"NCCL_P2P_DISABLE": "1"}, gpus=2)
    place = place_of("", [worker(NCCL)], had)
    assert place and place.hint and "NCCL_P2P_DISABLE" not in place.hint and "--gpus 1" in place.hint
    raw = place_of("", [worker(NCCL)], StartFacts(raw=True, args=Arguments.parse(["--tensor-parallel-size", "2"])))
    assert raw and raw.hint and "--env NCCL_P2P_DISABLE=1 --vllm ... --disable-custom-all-reduce" in raw.hint


@pytest.mark.parametrize("stack", [NCCL, SPIED], ids=["faulthandler", "py-spy"])
def test_the_innermost_functions_of_the_main_thread_are_shown(stack: str) -> None:
    [line] = list(shown([SERVER, worker(stack)]))
    start = "VLLM::Worker_TP0 (pid 71): ncclCommInitRank (pynccl_wrapper.py:421), __init__ (pynccl.py:118)"
    assert line.startswith(start)
    assert len(frames_of(stack)) >= 2


def spied(*frames: str) -> str:
    lines = "\n".join(f"    {frame}" for frame in frames)
    return f'Process 71: VLLM::EngineCore\nPython v3.12.3 (python)\n\nThread 71 (active): "MainThread"\n{lines}\n'


IDLE = spied("wait (threading.py:359)", "get (queue.py:180)", "_process_input_queue (vllm/v1/engine/core.py:1190)")

HANGS = {
    "a stopped engine": ([SERVER, worker(state="T")], "stands-stopped"),
    "a device that does not answer": ([worker(state="D")], "hangs-in-kernel"),
    "a collective": ([worker(spied("all_reduce (torch/distributed/distributed_c10d.py:2810)"))], "hangs-at-nccl"),
    "a kernel": ([worker(spied("synchronize (torch/cuda/streams.py:231)", "get_output (x.py:1)"))], "hangs-at-gpu"),
    "a grammar": ([worker(spied("compile_json_schema (xgrammar/compiler.py:190)"))], "hangs-at-grammar"),
    "an engine that only waits": ([SERVER, worker(IDLE)], None),
}


@pytest.mark.parametrize(("processes", "expected"), HANGS.values(), ids=HANGS)
def test_a_ready_server_hangs_at(processes: list[Process], expected: str | None) -> None:
    place = hung_at(processes, StartFacts())
    assert (place and place.id) == expected
    assert place is None or place.hint
