"""The figures of `pi top`: rates, percentiles, and what happens if a server starts again."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from pi.calls.top import Bucket, Metrics, Sample
from pi.steps.top import History, percentiles
from pi.steps.top_screen import drawing, sparkline


def buckets(*counts: float) -> list[Bucket]:
    bounds: list[float | None] = [0.1, 0.2, 0.4, None]
    return [{"le": bound, "count": count} for bound, count in zip(bounds, counts, strict=True)]


def metrics(tokens: float, **others: Any) -> Metrics:
    found: dict[str, Any] = {
        "running": 1.0,
        "waiting": 0.0,
        "kv_share": 0.5,
        "prompt_tokens": 10 * tokens,
        "generation_tokens": tokens,
        "prefix_queries": 0.0,
        "prefix_hits": 0.0,
        "ttft": buckets(0, 0, 0, 0),
        "itl": buckets(0, 0, 0, 0),
    }
    made: Metrics = {**found, **others}  # type: ignore[typeddict-item]
    return made


def key(name: str | None, requests: int, added: str | None = None) -> Any:
    return {"name": name, "added": added, "requests": requests, "used_s_ago": 3.5 if requests else None}


def sample(
    at: float, found: Metrics | None, name: str = "qwen", state: str = "running", keys: tuple[Any, ...] = ()
) -> Sample:
    card: Any = {"index": 0, "used_mib": 1024.0, "memory_mib": 2048.0, "use": at, "celsius": None, "watts": 99.6}
    model: Any = {"name": name, "state": state, "metrics": found}
    return {"at": at, "models": [model], "gpus": [card], "keys": [*keys], "problem": None}


def history(*samples: Sample) -> History:
    made = History()
    for each in samples:
        made.add(each)
    return made


def test_tokens_per_second_are_of_the_last_five_seconds() -> None:
    seen = history(*(sample(at, metrics(100 * at if at < 10 else 1000 + 10 * (at - 10))) for at in range(0, 20)))
    [load] = seen.loads()
    assert (load.output_per_s, load.prompt_per_s) == (10, 100)
    assert seen.output_rates("qwen")[-1] == 10 and seen.output_rates("qwen")[0] == 100


def test_one_sample_has_no_rates_yet() -> None:
    [load] = history(sample(5, metrics(100))).loads()
    assert (load.output_per_s, load.running, load.kv_share, load.prefix_share) == (None, 1, 0.5, None)


def test_a_server_that_was_started_again_counts_from_there() -> None:
    [load] = history(sample(0, metrics(5000)), sample(1, metrics(0)), sample(2, metrics(30))).loads()
    assert load.output_per_s == 30


def test_requests_of_each_key_are_counted() -> None:
    seen = history(
        sample(0, None, keys=(key(None, 10), key("ann", 900, "2026-01-01"))),
        sample(10, None, keys=(key(None, 40), key("ann", 0, "2026-02-02"))),
        sample(30, None, keys=(key(None, 40), key("ann", 1, "2026-02-02"), key("new", 5))),
    )
    assert [each.row() for each in seen.key_loads()] == [
        ("(PI_API_KEY)", "40", "1", "4 s ago"),
        ("ann", "1", "0.05", "4 s ago"),
        ("new", "5", "-", "4 s ago"),
    ]
    console = Console(width=80, markup=False)
    with console.capture() as drawn:
        console.print(drawing({"box": seen}, {}, 80))
    assert "(PI_API_KEY)  40        1      4 s ago" in drawn.get()


def test_samples_older_than_a_minute_are_dropped() -> None:
    seen = history(*(sample(at, metrics(at)) for at in range(100)))
    assert len(seen.samples) == 61


@pytest.mark.parametrize(
    ("counts", "p50", "p95"),
    [
        ((10, 10, 10, 10), 0.05, 0.095),
        ((0, 10, 10, 10), 0.15, 0.195),
        ((5, 5, 10, 10), 0.1, 0.38),
        ((0, 0, 0, 10), 0.4, 0.4),
        ((0, 0, 0, 0), None, None),
    ],
)
def test_percentiles_are_linear_inside_a_bucket(
    counts: tuple[float, ...], p50: float | None, p95: float | None
) -> None:
    found = percentiles(buckets(*counts), buckets(0, 0, 0, 0))
    assert [found.p50, found.p95] == pytest.approx([p50, p95])


def test_percentiles_are_of_new_requests_or_else_of_all() -> None:
    old, new = buckets(10, 10, 10, 10), buckets(10, 10, 20, 20)
    assert percentiles(new, old).p50 == pytest.approx(0.3)
    assert percentiles(old, old).p50 == pytest.approx(0.05)
    assert percentiles([], []).p50 is None


def test_prefix_hits_are_of_the_last_minute() -> None:
    first = metrics(0, prefix_queries=1000.0, prefix_hits=0.0)
    then = metrics(1, prefix_queries=1100.0, prefix_hits=50.0)
    [load] = history(sample(0, first), sample(1, then)).loads()
    assert load.prefix_share == 0.5


def text_of(seen: History, errors: dict[str, str] | None = None, columns: int = 200) -> str:
    console = Console(width=columns, markup=False, color_system=None)
    with console.capture() as shown:
        console.print(drawing({"box": seen}, errors or {}, columns))
    return shown.get()


def test_a_narrow_screen_has_two_tables_and_whole_figures() -> None:
    name = "a-name-of-" + "m" * 50
    busy = metrics(1, prompt_tokens=123456.0, itl=buckets(0, 0, 10, 10))
    lines = text_of(history(sample(0, metrics(0), name), sample(1, busy, name)), columns=80).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["MODEL", lines[2].split()[0], "MODEL", lines[4].split()[0]]
    assert "…" in lines[2].split()[0] and lines[2].split()[1:3] == ["running", "1"] and "123,456" in lines[2]
    assert "300 ms / 390 ms" in lines[4] and "OUT/S, LAST SAMPLES" in lines[3]


def test_the_screen_has_a_line_for_each_model_and_gpu_and_no_markup() -> None:
    hostile = "[red]x[/red]\x1b[31m"
    shown = text_of(history(sample(0, metrics(0)), sample(1, None, "glm", hostile)), {"box": "pi: lost [bold]it"})
    lines = shown.splitlines()
    assert lines[0] == "box" and lines[1] == "pi: lost [bold]it"
    assert "\x1b[31m" not in shown and "[red]x[/red]" in shown
    assert next(line for line in lines if line.startswith("glm")).split()[2:6] == ["-", "-", "-", "-"]
    assert "1.0 of 2.0 GB" in shown and "100 W" in shown


def test_a_pod_that_was_not_heard_of_is_being_asked() -> None:
    assert "asking the pod" in text_of(History())


@pytest.mark.parametrize(
    ("values", "highest", "bars"),
    [
        ([], None, ""),
        ([0, 0], None, "▁▁"),
        ([1, 2, 4], None, "▃▅█"),
        ([50, 100], 100, "▅█"),
        ([1] * 99, None, "█" * 16),
    ],
)
def test_sparklines(values: list[float], highest: float | None, bars: str) -> None:
    assert sparkline(values, highest) == bars
