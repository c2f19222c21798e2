"""Kinds of GPUs, their labels, and how each computes a number format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pi.planning import hardware
from pi.planning.gpu_kinds import KINDS as PRODUCTS
from pi.planning.hardware import Level
from pi.pods.gpus import Gpu
from tests.pods import KINDS, pod

FIXTURE = Path(__file__).parents[2] / "fixtures" / "gpu_names.json"
NAMES = [tuple(row) for row in json.loads(FIXTURE.read_text())["names"]]


def gpu(name: str, memory_mib: int, capability: str) -> Gpu:
    major, minor = map(int, capability.split("."))
    return Gpu(0, name.removeprefix("NVIDIA "), memory_mib, compute_capability=(major, minor))


@pytest.mark.parametrize(("name", "memory_mib", "capability", "kind"), NAMES, ids=[f"{n}, {m}" for n, m, _, _ in NAMES])
def test_gpu_name_and_memory_give_its_kind(name: str, memory_mib: int, capability: str, kind: str | None) -> None:
    product = hardware.kind(gpu(name, memory_mib, capability))
    assert (product.name if product else None) == kind
    if product:
        assert product.capability == gpu(name, memory_mib, capability).compute_capability


def test_every_kind_is_reached_by_its_own_title_and_memory() -> None:
    named = {kind for _, _, _, kind in NAMES}
    estimated = {"gh200_144gb", "rtx_pro_5000_72gb", "thor", "orin"}
    assert {product.name for product in PRODUCTS} - named == estimated
    for product in PRODUCTS:
        found = hardware.kind(Gpu(0, product.title, product.memory_mib))
        assert found is product


def test_names_of_kinds_are_unique() -> None:
    assert len({product.name for product in PRODUCTS}) == len({product.title for product in PRODUCTS}) == len(PRODUCTS)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_agree_with_nvidia_smi(kind: str) -> None:
    gpu = pod(kind, 1).gpus[0]
    product = hardware.kind(gpu)
    assert product is not None
    assert (product.name, product.memory_mib, product.capability) == (kind, gpu.memory_mib, gpu.compute_capability)


LABELS = {
    ("Tesla T4", 15360, "7.5"): {"nvidia", "turing", "t4"},
    ("NVIDIA L4", 23034, "8.9"): {"nvidia", "ada", "l4"},
    ("NVIDIA H100 PCIe", 81559, "9.0"): {"nvidia", "hopper", "h100_pcie", "h100"},
    ("NVIDIA H100 NVL", 95830, "9.0"): {"nvidia", "hopper", "h100_nvl"},
    ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 40448, "9.0"): {"nvidia", "hopper", "mig"},
    ("NVIDIA GeForce RTX 5090", 32607, "12.0"): {"nvidia", "blackwell_rtx", "rtx_5090"},
    ("NVIDIA Something New", 99999, "13.0"): {"nvidia"},
}


@pytest.mark.parametrize(("card", "labels"), LABELS.items(), ids=[name for name, _, _ in LABELS])
def test_labels_are_kind_and_generation(card: tuple[str, int, str], labels: set[str]) -> None:
    assert hardware.labels(gpu(*card)) == labels


# a format; the lowest kind that computes it natively, one that unpacks it, one that cannot use it
LEVELS = [
    ("bf16", "a100", "t4", "v100"),
    ("fp8", "l4", "rtx_3090", "v100"),
    ("fp8", "rtx_4090", "t4", "v100"),
    ("nvfp4", "b200", "h100", "v100"),
    ("nvfp4", "rtx_5090", "t4", "v100"),
    ("mxfp8", "b200", "a100", "t4"),
    ("mxfp4", "a100", None, "t4"),
    ("int4", "t4", None, "v100"),
    ("int8", "t4", None, "v100"),
]


@pytest.mark.parametrize(("precision", "native", "weight_only", "none"), LEVELS)
def test_format_has_a_level_on_each_gpu(precision: str, native: str, weight_only: str | None, none: str) -> None:
    def level(kind: str) -> Level:
        return hardware.level(pod(kind, 1).gpus[0], precision)

    assert level(native) is Level.NATIVE
    assert weight_only is None or level(weight_only) is Level.WEIGHT_ONLY
    assert level(none) is Level.NONE


def test_nvidias_own_fp8_needs_ampere() -> None:
    t4, a100 = pod("t4", 1).gpus[0], pod("a100", 1).gpus[0]
    assert hardware.level(t4, "fp8", "nvidia/Llama-3.3-70B-Instruct-FP8") is Level.NONE
    assert hardware.level(t4, "fp8", "Qwen/Qwen3-8B-FP8") is Level.WEIGHT_ONLY
    assert hardware.level(a100, "fp8", "nvidia/Llama-3.3-70B-Instruct-FP8") is Level.WEIGHT_ONLY


def test_unknown_gpu_counts_as_ampere() -> None:
    unknown = Gpu(0, "Something New", 24576)
    assert hardware.level(unknown, "bf16") is Level.NATIVE
    assert hardware.level(unknown, "fp8") is Level.WEIGHT_ONLY
