"""The JSON of plans and refusals: its keys and types for every model on every kind of machine."""

from __future__ import annotations

import json
import types
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.errors import InputError, PiError
from pi.model_id import ModelId
from pi.planning import catalog, planner
from pi.planning.gpu_kinds import KINDS
from pi.planning.machines import Machine, idle_pod, parse
from pi.planning.plan_json import PlanJson, RefusalJson, as_json, refusal_as_json
from pi.planning.types import Request
from pi.vllm.arguments import Arguments

CATALOG = catalog.load()

MODELS = st.sampled_from([ModelId(spec.id) for spec in CATALOG.models] + [ModelId("org/unknown")])

MACHINES = st.builds(Machine, st.sampled_from(KINDS), st.integers(1, 16)) | st.builds(
    Machine, st.none(), st.just(0), st.integers(8, 512)
)


def conforms(value: Any, shape: Any) -> bool:
    """Return whether a value has exactly the keys and types of a TypedDict, or is of another type."""
    origin = get_origin(shape)
    if is_typeddict(shape):
        hints = get_type_hints(shape)
        return set(value) == set(hints) and all(conforms(value[key], hints[key]) for key in hints)
    if origin in (Union, types.UnionType):
        return any(conforms(value, part) for part in get_args(shape))
    if origin is list:
        return isinstance(value, list) and all(conforms(part, get_args(shape)[0]) for part in value)
    if origin is dict:
        return all(isinstance(key, str) and conforms(part, get_args(shape)[1]) for key, part in value.items())
    return type(value) is shape


def planned(model: str, machine: str, **wishes: Any) -> PlanJson:
    request = Request(ModelId(model), "m", **wishes)
    return as_json(planner.plan(request, idle_pod(parse(machine), CATALOG, {}), CATALOG), request)


KEYS = [
    *("model", "checkpoint", "variant", "gpus", "tensor_parallel", "pipeline_parallel", "data_parallel", "args", "env"),
    *("context", "max_num_seqs", "download_gb", "memory", "estimated", "why", "warnings"),
]
MEMORY_KEYS = ["weights_gib", "kv_gib", "overhead_gib", "allowed_gib", "kv_tokens", "state_blocks"]


def test_plan_has_these_keys_in_this_order() -> None:
    made = planned("Qwen/Qwen3-32B", "2x RTX 4090")
    assert (list(made), list(made["memory"])) == (KEYS, MEMORY_KEYS)


def test_plan_has_the_facts_of_the_plan() -> None:
    made = planned("Qwen/Qwen3-32B", "2x RTX 4090", variant="fp8", context=8192)
    assert (made["model"], made["checkpoint"], made["variant"]) == ("Qwen/Qwen3-32B", "Qwen/Qwen3-32B-FP8", "fp8")
    assert (made["gpus"], made["tensor_parallel"], made["pipeline_parallel"], made["data_parallel"]) == (
        [0, 1],
        2,
        1,
        1,
    )
    assert made["args"][:2] == ["--tensor-parallel-size", "2"]
    assert made["env"] == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert (made["context"], made["estimated"]) == (8192, True)
    assert made["memory"]["allowed_gib"] == pytest.approx(0.92 * 23.52, abs=0.01)


def test_raw_arguments_are_read_for_sizes() -> None:
    raw = Arguments.parse(
        ["-tp", "2", "--pipeline-parallel-size=2", "--max-num-seqs", "7", "--data-parallel-size", "x"]
    )
    made = planned("org/unknown", "4x H100 80GB", vllm_args=raw)
    assert (made["tensor_parallel"], made["pipeline_parallel"], made["data_parallel"]) == (2, 2, 1)
    assert (made["max_num_seqs"], made["variant"], made["download_gb"]) == (7, None, None)
    assert set(made["memory"].values()) == {None}


def test_variable_that_models_toml_may_not_set_is_rejected() -> None:
    entry = {"parameters": 1, "env": {"LD_PRELOAD": "x"}, "variants": {"bf16": {"precision": "bf16"}}}
    known = catalog.read({"model": {"a/b": entry}})
    request = Request(ModelId("a/b"), "m")
    with pytest.raises(InputError) as caught:
        planner.plan(request, idle_pod(parse("h100"), known, {}), known)
    assert caught.value.id == "catalog-variable-refused"


def test_refusal_has_message_and_hint() -> None:
    assert refusal_as_json(InputError("x", "too large", "use 2 GPUs")) == {
        "refused": {"message": "too large", "hint": "use 2 GPUs"}
    }
    assert refusal_as_json(InputError("x", "too large"))["refused"]["hint"] is None


@given(MODELS, MACHINES, st.sampled_from([None, 4096]), st.sampled_from([None, 0.5]))
def test_every_answer_conforms_and_survives_json(
    model: ModelId, machine: Machine, context: int | None, memory: float | None
) -> None:
    request = Request(model, "m", context=context, memory=memory)
    facts = idle_pod(machine, CATALOG, {})
    answer: Any
    shape: Any
    try:
        plan = planner.plan(request, facts, CATALOG)
    except PiError as error:
        assert error.exit_code == 2, "nothing is busy on an idle machine"
        answer, shape = refusal_as_json(error), RefusalJson
    else:
        answer, shape = as_json(plan, request), PlanJson
        assert Arguments.parse(answer["args"]) == plan.args
        assert set(answer["gpus"]) <= {gpu.id for gpu in facts.gpus}
        assert model.lower() in (answer["model"].lower(), answer["checkpoint"].lower())
    assert conforms(answer, shape), answer
    assert json.loads(json.dumps(answer)) == answer
