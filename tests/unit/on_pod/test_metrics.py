"""vLLM's `/metrics` and nvidia-smi's lines, as the pod reads them for `pi top`."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from pi.on_pod import gpu_watch, metrics
from tests.rig.standin_vllm import metrics as text_of


def test_figures_of_a_server() -> None:
    found = metrics.read(text_of(4), parse)
    assert found is not None
    assert (found["running"], found["waiting"], found["kv_share"]) == (2, 1, 0.25)
    assert (found["prompt_tokens"], found["generation_tokens"]) == (48, 12)
    assert found["ttft"] == [{"le": 0.1, "count": 0}, {"le": 0.2, "count": 4}, {"le": None, "count": 4}]
    assert found["itl"][-1] == {"le": None, "count": 12}


def test_tokens_of_probes_are_no_use() -> None:
    found = metrics.read(text_of(4), parse)
    assert found is not None
    now = metrics.without(found, 8, 100)
    assert (now["prompt_tokens"], now["generation_tokens"], now["running"]) == (40, 0, 2)
    assert (found["prompt_tokens"], found["generation_tokens"]) == (48, 12)


def test_engines_are_added_and_their_cache_is_a_mean() -> None:
    second = text_of(2).replace('engine="0"', 'engine="1"').replace("0.25", "0.75")
    found = metrics.read(text_of(4) + second, parse)
    assert found is not None
    assert (found["running"], found["generation_tokens"], found["kv_share"]) == (4, 18, 0.5)
    assert found["ttft"][1] == {"le": 0.2, "count": 6}


def test_only_lines_that_pi_shows_are_parsed() -> None:
    seen: list[str] = []

    def noting(text: str) -> object:
        seen.append(text)
        return parse(text)

    metrics.read("".join(f"other_{at} 1.0\n" for at in range(1000)) + text_of(1), noting)  # type: ignore[arg-type]
    assert "other_" not in seen[0] and "python_info" not in seen[0]


@pytest.mark.parametrize("text", ["", "x 1\n", "vllm:num_requests_running{ 1\n", text_of(1)[:100], "\0" * 50])
def test_other_text_has_no_figures(text: str) -> None:
    assert metrics.read(text, parse) is None


def test_an_answer_that_was_cut_is_read_up_to_its_last_line() -> None:
    text = text_of(4)
    found = metrics.read(text[: text.rindex("inter_token_latency_seconds_sum") + 5], parse)
    assert found is not None and found["itl"][-1]["count"] == 12


def test_infinite_figures_are_left_out() -> None:
    found = metrics.read(text_of(1).replace("} 0.25", "} NaN"), parse)
    assert found is not None and found["kv_share"] is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0, 71424, 81559, 97, 64, 512.31\n", (0, 71424, 81559, 97, 64, 512.31)),
        ("1, [N/A], 81559, [N/A], 30, [Not Supported]\n", (1, None, 81559, None, 30, None)),
        ("No devices were found\n", None),
        ("²,1,1,1,1,1", None),
        ("0, nan, inf, 1, 1, 1", (0, None, None, 1, 1, 1)),
    ],
)
def test_lines_of_nvidia_smi(line: str, expected: tuple[float | None, ...] | None) -> None:
    found = gpu_watch.parsed(line)
    assert (found and tuple(found.values())) == expected
