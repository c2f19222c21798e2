"""A second start reads what the first one compiled, also on another pod with the same storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from chores import bench_starts
from tests.e2e.test_main_job import Pods

FEW_LAYERS = ("--load-format", "dummy", "--hf-overrides", '{"num_hidden_layers": 2}')


@pytest.mark.slow
def test_later_starts_compile_nothing_also_on_another_pod(pods: Pods, model: str, tmp_path: Path) -> None:
    with bench_starts.two_pods(tmp_path, pods[0].home / "venv") as (one, two):
        words = (*bench_starts.COMPILED, *FEW_LAYERS)
        first, second, other = (bench_starts.started(each, model, words) for each in (one, one, two))
    assert any(path.suffix == ".so" for path in first.files), "nothing was compiled"
    assert first.folder == second.folder == other.folder
    assert code(second) == code(first) == code(other), "a later start compiled"
    assert second.cpu_s < first.cpu_s and other.cpu_s < first.cpu_s


def code(start: bench_starts.Start) -> set[Path]:
    return {path for path in start.files if path.suffix in (".so", ".cpp")}
