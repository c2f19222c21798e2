"""Offers of `pi models` for a pod."""

from __future__ import annotations

import json
from dataclasses import replace

from pi.model_id import ModelId
from pi.planning import catalog, planner
from pi.planning.offers import BUSY, FITS, MORE, offers, possibly
from pi.planning.types import Request
from pi.pods.types import Deployment
from tests.pods import busy, cpu_pod, pod

CATALOG = catalog.load()


def test_every_model_is_offered_once_fitting_ones_first() -> None:
    listed = offers(CATALOG, pod("h100", 2))
    states = [offer.state for offer in listed]
    assert len(listed) == len(CATALOG.models)
    assert states == sorted(states, key=[FITS, BUSY, MORE].index)
    assert {FITS, MORE} == set(states)


def test_an_offer_is_what_start_would_plan() -> None:
    facts = pod("h100", 2)
    for offer in offers(CATALOG, facts):
        if offer.state == FITS:
            made = planner.plan(Request(ModelId(offer.model), "m"), facts, CATALOG)
            assert (offer.serves, offer.gpus, offer.context) == (made.model, len(made.gpus), made.context)


def test_offer_names_what_to_stop() -> None:
    facts = replace(pod("h100", 1), deployments=(Deployment("big", "org/x", 8001, (0,), 1, memory_share=0.9),))
    offer = offers(CATALOG, facts, "Qwen3-8B")[0]
    assert (offer.state, offer.needs) == (BUSY, "stop big")
    halves = (
        Deployment("a", "org/x", 8001, (0,), 1, memory_share=0.45),
        Deployment("b", "org/x", 8002, (0,), 2, memory_share=0.45),
    )
    shared = replace(pod("h100", 1), deployments=halves)
    assert offers(CATALOG, shared, "Qwen3-8B")[0].needs == "stop a"
    assert offers(CATALOG, shared, "gpt-oss-120b")[0].needs == "stop more than one of a, b"
    other = offers(CATALOG, busy(pod("h100", 1), 0, 80_000), "Qwen3-8B")[0]
    assert (other.state, other.needs) == (BUSY, "other processes use the GPUs")


def test_offer_names_pods_that_are_large_enough() -> None:
    offer = offers(CATALOG, pod("h100", 1), "GLM-4.6 glm")[0]
    assert offer.state == MORE
    assert offer.needs.startswith("3x H100 80GB or ")
    huge = offers(CATALOG, pod("l4", 1), "Kimi-K3")[0]
    assert huge.needs == "8x B300"
    dropped = offers(CATALOG, pod("h100", 8), "plamo-2-translate")[0]
    assert (dropped.state, dropped.needs) == (MORE, "vLLM 0.26.0 or older; the pod has 0.32.0")


def test_offers_without_a_pod_name_pods() -> None:
    listed = offers(CATALOG, None, "gpt-oss")
    assert [(offer.model, offer.state) for offer in listed] == [
        ("openai/gpt-oss-120b", MORE),
        ("openai/gpt-oss-20b", MORE),
    ]
    assert listed[1].needs == "1x L4 or 1x A10" or listed[1].needs.startswith("1x ")


def test_offers_for_a_cpu() -> None:
    listed = {offer.model: offer for offer in offers(CATALOG, cpu_pod(24, 2))}
    assert listed["HuggingFaceTB/SmolLM2-135M-Instruct"].state == FITS
    assert listed["HuggingFaceTB/SmolLM2-135M-Instruct"].kind == "CPU"
    assert listed["meta-llama/Llama-3.3-70B-Instruct"].state == MORE


def test_offer_becomes_json() -> None:
    offer = offers(CATALOG, pod("h100", 1), "Qwen3-8B")[0]
    document = json.loads(json.dumps(offer.as_json()))
    assert document["serves"] == "Qwen/Qwen3-8B-FP8"
    assert list(document)[-1] == "floor" and document["floor"] == offer.min_vllm
    assert possibly("org/model").state == "possible"
