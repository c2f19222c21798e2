"""Plans with what vLLM measured at an earlier start, and the text of measurements.json."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.model_id import ModelId
from pi.planning import catalog, measurements, planner
from pi.planning.as_measured import digest_of_start, with_measurement
from pi.planning.estimate import MemorySum
from pi.planning.measurements import MOST, Measurement, Setting
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.vllm.arguments import Arguments
from pi.vllm.measured import Measured
from tests.pods import cpu_pod, pod

CATALOG = catalog.load()
MODEL = ModelId("Qwen/Qwen3-8B")
POD = replace(pod("h100", 2), vllm_version="0.33.0")
FIGURES = Measured(loading_gib=15.27, kv_gib=4.92, kv_tokens=35792, context=35792, fitted_context=35792)
DAY = "2026-11-29"


def plan(facts: PodFacts = POD, model: ModelId = MODEL, **wishes: Any) -> LaunchPlan:
    return planner.plan(Request(model, "m", **wishes), facts, CATALOG)


def measured(
    facts: PodFacts = POD, figures: Measured = FIGURES, model: ModelId = MODEL, **corrections: str
) -> PodFacts:
    """Return the facts after a start of the plan for them, with these figures and corrections."""
    setting = plan(facts, model).setting
    assert setting
    options = {f"--{name.replace('_', '-')}": value for name, value in corrections.items()}
    return replace(facts, measurements={setting: Measurement(figures, options, DAY)})


def test_the_sum_of_the_next_plan_is_the_measured_one() -> None:
    before, after = plan(), plan(measured())
    assert before.memory and after.memory and before.predicted is None
    assert after.predicted == before.memory
    assert after.measured_on == DAY
    assert after.memory.weights_gib == FIGURES.loading_gib
    assert after.memory.kv_cache_gib == FIGURES.kv_gib
    assert after.memory.needed_gib == pytest.approx(after.memory.allowed_gib)
    assert after.context == after.memory.longest == 35792
    assert [sentence for sentence in after.why if sentence.startswith("context")] == [
        f"context of 35792 tokens, as vLLM measured on {DAY}"
    ]


def test_another_pod_with_the_same_card_plans_with_the_figures() -> None:
    other = replace(pod("h100", 1), vllm_version="0.33.0", measurements=measured().measurements)
    assert plan(other).predicted


@pytest.mark.parametrize(
    ("facts", "wishes"),
    [
        (replace(pod("h200", 2), vllm_version="0.33.0"), {}),
        (replace(POD, vllm_version="0.33.1"), {}),
        (POD, {"gpus": 2}),
        (POD, {"memory": 0.8}),
        (POD, {"model": ModelId("Qwen/Qwen3-4B")}),
        (replace(POD, vllm_version=None), {}),
    ],
    ids=["card", "vLLM", "split", "share", "checkpoint", "unknown vLLM"],
)
def test_another_setting_has_no_figures(facts: PodFacts, wishes: dict[str, Any]) -> None:
    facts = replace(facts, measurements=measured().measurements)
    assert plan(facts, **wishes).predicted is None


def test_the_users_context_stays_and_its_cache_is_a_part_of_the_room() -> None:
    after = plan(measured(), context=8192)
    assert after.memory and after.predicted
    assert after.context == after.memory.context == 8192
    assert after.memory.kv_cache_gib == pytest.approx(4.92 * 8192 / 35792)
    assert "context of 8192 tokens, as requested" in after.why


def test_figures_of_a_shorter_context_do_not_shorten_the_next() -> None:
    short = replace(FIGURES, context=8192, fitted_context=None)
    before, after = plan(), plan(measured(figures=short))
    assert before.memory and before.memory.longest
    assert after.context == min(before.memory.longest, 35792)


def test_a_value_that_vllm_required_is_set_from_the_start() -> None:
    facts = measured(max_num_seqs="90")
    after = plan(facts)
    assert after.args.get("--max-num-seqs") == "90"
    assert f"--max-num-seqs 90: vLLM required it at a start on {DAY}" in after.why
    assert after.setting == plan().setting


def test_the_users_context_is_stronger_than_a_correction() -> None:
    after = plan(measured(max_model_len="8192"), context=16384)
    assert after.args.get("--max-model-len") == "16384"


@pytest.mark.parametrize("value", ["", "-1", "auto", "9" * 10, "1; reboot"])
def test_a_correction_that_is_not_a_number_is_ignored(value: str) -> None:
    assert plan(measured(max_num_seqs=value)).args == plan().args


def test_an_option_that_pi_never_corrects_is_ignored() -> None:
    assert plan(measured(middleware="1")).args == plan().args


def test_raw_arguments_stay_as_they_are() -> None:
    raw = Arguments.parse(["--max-model-len", "8192"])
    setting = plan(vllm_args=raw).setting
    assert setting
    facts = replace(POD, measurements={setting: Measurement(FIGURES, {"--max-num-seqs": "90"}, DAY)})
    assert plan(facts, vllm_args=raw).args == raw


def test_a_path_with_other_weights_is_another_checkpoint() -> None:
    path = ModelId("/models/mine")
    facts = replace(POD, config={"num_hidden_layers": 2}, weights_bytes=10**9, model_at="path")
    known = measured(facts, model=path)
    assert plan(known, path).predicted
    assert plan(replace(known, weights_bytes=10**9 + 1), path).predicted is None
    assert plan(replace(known, weights_bytes=None), path).setting is None


def test_a_cpu_pod_keeps_its_figures_too() -> None:
    setting = plan(cpu_pod(24), ModelId("Qwen/Qwen3-0.6B")).setting
    assert setting and setting.card == "CPU"


SUM = MemorySum(15.3, 4.0, 2.6, 21.6, 24.0, 23.5, 30000, 30000, 0.1)


@pytest.mark.parametrize(
    ("figures", "weights", "kv", "overhead", "longest"),
    [
        (Measured(), 15.3, 4.0, 2.6, 30000),
        (Measured(loading_gib=16.0), 16.0, 4.0, 2.6, 30000),
        (Measured(kv_gib=3.0), 15.3, 3.0, 3.3, 30000),
        (Measured(kv_gib=3.0, kv_tokens=20000), 15.3, 3.0, 3.3, 20000),
        (Measured(kv_gib=6.0, kv_tokens=60000, context=4096), 15.3, 3.0, 0.3, 30000),
        (Measured(loading_gib=20.0, kv_gib=3.0, kv_tokens=1), 20.0, 3.0, 0.0, 1),
        (Measured(kv_gib=5.0, kv_tokens=50000, fitted_context=40960), 15.3, 4.096, 1.3, 40960),
        (Measured(allowed_gib=21.2, kv_gib=3.0), 15.3, 3.0, 2.9, 30000),
    ],
)
def test_figures_replace_their_terms_of_the_sum(
    figures: Measured, weights: float, kv: float, overhead: float, longest: int
) -> None:
    memory = with_measurement(SUM, figures, None)
    assert (memory.weights_gib, memory.kv_cache_gib, memory.longest) == pytest.approx((weights, kv, longest))
    assert memory.overhead_gib == pytest.approx(overhead)


# ------------------------------------------------------------------------------------------ text

SETTING = Setting(str(MODEL), "RTX 4090, 24 GiB", 1, 1, 1, "0.33.0", 0.9, "128", "", "0123456789abcdef")


def test_the_digest_of_a_start_knows_all_that_decides_its_memory() -> None:
    """vLLM would give a model with half of a GPU the KV cache of one with the whole GPU."""
    usual = plan()
    others = [plan(memory=0.4), plan(context=16384), replace(usual, env={"VLLM_X": "1"}), replace(usual, gpus=(0, 1))]
    assert len({digest_of_start(each) for each in (usual, *others)}) == len(others) + 1
    assert digest_of_start(replace(usual, name="other", port=9000, why=())) == digest_of_start(usual)


def test_what_is_written_is_read_again() -> None:
    starts = {
        SETTING: Measurement(FIGURES, {"--max-num-seqs": "90"}, DAY),
        replace(SETTING, share=None): Measurement(Measured(), {}, DAY),
    }
    assert measurements.read(measurements.written(starts).encode()) == starts


def test_only_the_newest_are_kept() -> None:
    starts = {replace(SETTING, tensor=number): Measurement(FIGURES, {}, DAY) for number in range(MOST + 10)}
    kept = measurements.read(measurements.written(starts).encode())
    assert [setting.tensor for setting in kept] == list(range(10, MOST + 10))


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in parts for place in [(*above, key), *places(part, (*above, key))]]


DOCUMENT = json.loads(measurements.written({SETTING: Measurement(FIGURES, {"--max-num-seqs": "90"}, DAY)}))


@pytest.mark.parametrize("place", places(DOCUMENT), ids=lambda place: ".".join(map(str, place)))
@pytest.mark.parametrize("wrong", ['["x"]', "true", "-1", "1e400", '"\\u001b[2J"', "NaN", "[" * 5000, '"' + "x" * 5000])
def test_a_wrong_value_is_an_invalid_file_or_harmless(place: tuple[Any, ...], wrong: str) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    target = document
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = "@WRONG@"
    text = json.dumps(document).replace('"@WRONG@"', wrong)
    try:
        starts = measurements.read(text.encode())
    except ValueError:
        return
    for setting, start in starts.items():
        plan(replace(POD, measurements={setting: start}))
        assert measurements.read(measurements.written({setting: start}).encode()) == {setting: start}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_invalid(raw: bytes) -> None:
    try:
        measurements.read(raw)
    except ValueError:
        return
