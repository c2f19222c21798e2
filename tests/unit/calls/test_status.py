"""GPU memory of a deployment, from what nvidia-smi tells."""

from __future__ import annotations

from typing import Any

import pytest

from pi.calls.status import Found, GpuMemory, with_memory
from pi.pods.gpus import Gpu
from pi.pods.types import Deployment

CARDS = [Gpu(place, "H100", 81559, 70000 + place, f"GPU-0000000{place}") for place in range(2)] + [
    Gpu(2, "H100 MIG 3g.40gb", 40320, 100, "")
]


def use(name: str | None, card: int, mib: int) -> Any:
    return {"pid": 7, "uuid": f"GPU-0000000{card}", "mib": mib, "name": name}


@pytest.mark.parametrize(
    ("gpus", "state", "left", "uses", "expected"),
    [
        pytest.param((0,), "running", (), [use("q", 0, 5), use("q", 0, 7)], GpuMemory(12, True), id="its processes"),
        pytest.param((0, 1), "running", (), [use("q", 0, 5), use("q", 1, 7)], GpuMemory(12, True), id="two GPUs"),
        pytest.param((0,), "running", (), [use("q", 1, 5)], GpuMemory(70000, False), id="a pid of another GPU"),
        pytest.param((0,), "running", (), [use("r", 0, 5)], GpuMemory(70000, False), id="another model"),
        pytest.param((0, 1), "starting", (), [], GpuMemory(140001, False), id="hidden processes"),
        pytest.param((2,), "running", (), [], GpuMemory(100, False), id="a slice"),
        pytest.param((0,), "crashed", (), [], None, id="crashed"),
        pytest.param((0,), "crashed", (9,), [use("q", 0, 5)], GpuMemory(5, True), id="leftovers"),
        pytest.param((), "running", (), [], None, id="without a GPU"),
        pytest.param((0, 5), "running", (), [], None, id="a GPU that is lost"),
    ],
)
def test_gpu_memory_of_a_deployment(
    gpus: tuple[int, ...], state: Any, left: tuple[int, ...], uses: list[Any], expected: GpuMemory | None
) -> None:
    found = Found(Deployment("q", "m", 8001, gpus, 1), state, None, None, None, (), left, 0, ())
    assert with_memory(found, CARDS, uses).gpu_memory == expected
