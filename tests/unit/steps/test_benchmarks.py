"""Results of `pi bench` that are compared and plotted."""

from __future__ import annotations

import pytest

from pi.calls.bench import BenchAnswer, Spread
from pi.errors import InputError
from pi.steps import benchmarks
from pi.steps.bench_plot import plot
from pi.steps.benchmarks import Level, Result


def found(rate: float) -> BenchAnswer:
    spread = Spread(p50=1000 / rate, p95=2000 / rate, p99=3000 / rate)
    return {
        "model": "a/b",
        "vllm_version": "0.33.0",
        "completed": 8,
        "failed": 0,
        "duration": 1.0,
        "requests_per_s": rate / 100,
        "output_tokens_per_s": rate,
        "total_tokens_per_s": 5 * rate,
        "ttft": spread,
        "tpot": spread,
        "itl": spread,
    }


def result(*levels: tuple[int, float], tokens: tuple[int, int] = (1024, 256)) -> Result:
    return Result("qwen", "box", tokens, tuple(Level(at_once, found(rate)) for at_once, rate in levels))


def test_shared_levels_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks.compare(result((1, 50), (4, 200)), result((4, 300), (16, 900), tokens=(512, 256)))
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].split()[:4] == ["4", "2.0", "->", "3.0"]
    assert "200 -> 300 (+50 %)" in shown.out and "5.0 -> 3.3 (-33 %)" in shown.out
    assert "16" not in shown.out and "their requests differ" in shown.err


def test_results_without_a_shared_level_are_refused() -> None:
    with pytest.raises(InputError) as error:
        benchmarks.compare(result((1, 50)), result((2, 50)))
    assert error.value.id == "bench-not-comparable"


@pytest.mark.parametrize(("at_once", "requests"), [(1, 8), (2, 8), (4, 16), (64, 256)])
def test_each_level_has_enough_requests(at_once: int, requests: int) -> None:
    assert benchmarks.requests_of(at_once) == requests


def test_a_plot_names_each_level_and_fits_the_terminal() -> None:
    drawn = plot(result((1, 50), (4, 200), (16, 640)), 60)
    assert all(len(line) <= 60 for line in drawn.splitlines())
    assert "output tokens/s" in drawn and "16" in drawn and "\x1b" not in drawn
