"""Machines as people write them: which GPUs they are, and what pi answers to the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.errors import InputError
from pi.planning import catalog, hardware, machines
from pi.planning.gpu_words import kind_named
from pi.planning.machines import Machine, idle_pod, newest_vllm, parse
from pi.pods.gpus import is_slice
from tests.pods import FIXTURE

CATALOG = catalog.load()

NAMED = {
    "2x RTX 4090": (2, "rtx_4090"),
    "RTX 4090": (1, "rtx_4090"),
    "2 4090": (2, "rtx_4090"),
    "4090": (1, "rtx_4090"),
    "4090x2": (2, "rtx_4090"),
    "RTX 4090 x 2": (2, "rtx_4090"),
    "L40Sx2": (2, "l40s"),
    "2× RTX 4090": (2, "rtx_4090"),
    "2*4090": (2, "rtx_4090"),
    "rtx_4090": (1, "rtx_4090"),
    "rtx4090": (1, "rtx_4090"),
    " 2X  rtx-4090 ": (2, "rtx_4090"),
    "2x RTX 4090 24GB": (2, "rtx_4090"),
    "2x RTX 4090 (24 GB)": (2, "rtx_4090"),
    "1x NVIDIA GeForce RTX 4090": (1, "rtx_4090"),
    "h100": (1, "h100"),
    "8xH100 80GB": (8, "h100"),
    "8 x H100 SXM5": (8, "h100"),
    "4x 80 GB H100": (4, "h100"),
    "1x H100 80GB HBM3": (1, "h100"),
    "H100 SXM": (1, "h100"),
    "16x B200 192GB": (16, "b200"),
    "8×H200 141GB": (8, "h200"),
    "a100 80gb": (1, "a100_80gb"),
    "a100_80gb": (1, "a100_80gb"),
    "A100-SXM4-80GB": (1, "a100_80gb"),
    "A100 40GB PCIe": (1, "a100"),
    "A6000": (1, "a6000"),
    "A10G": (1, "a10"),
    "H800": (1, "h100"),
    "A800 80GB": (1, "a100_80gb"),
    "RTX 6000 Ada Generation": (1, "rtx_6000_ada"),
    "pro 6000": (1, "rtx_pro_6000"),
    "RTX PRO 6000 Blackwell Server Edition": (1, "rtx_pro_6000"),
    "DGX Spark": (1, "dgx_spark_gb10"),
}


@pytest.mark.parametrize(("text", "count", "kind"), [(text, *machine) for text, machine in NAMED.items()])
def test_machine_has_these_gpus(text: str, count: int, kind: str) -> None:
    assert parse(text) == Machine(hardware.by_name(kind), count)


@pytest.mark.parametrize(("text", "memory_gb"), [("CPU", 64), ("cpu 32 GB", 32), ("1x CPU", 64), ("128GB CPU", 128)])
def test_machine_is_a_cpu(text: str, memory_gb: int) -> None:
    assert parse(text) == Machine(None, 0, memory_gb)


SLICES = {
    "H100 MIG 3g.40gb": (1, "h100", 40, "3g.40gb"),
    "2x A100-SXM4-80GB MIG 2g.20gb": (2, "a100_80gb", 20, "2g.20gb"),
    "B200 1c.3g.90gb x4": (4, "b200", 90, "1c.3g.90gb"),
}


@pytest.mark.parametrize(("text", "slices"), SLICES.items(), ids=SLICES)
def test_machine_has_slices_of_a_gpu(text: str, slices: tuple[int, str, int, str]) -> None:
    count, kind, gb, profile = slices
    machine = parse(text)
    assert machine == Machine(hardware.by_name(kind), count, gb, profile) == parse(machine.title)
    gpus = idle_pod(machine, CATALOG, {}).gpus
    assert len(gpus) == count and all(is_slice(gpu) for gpu in gpus)
    assert 0.9 * gb < gpus[0].memory_mib / 1024 < gb


REJECTED = {
    "": ("machine-invalid", "2x RTX 4090"),
    "x" * 101: ("machine-invalid", "2x RTX 4090"),
    "RTX\u202e 4090": ("machine-invalid", "2x RTX 4090"),
    "8 CPU": ("machine-invalid", "CPU 64GB"),
    "2x2 H100": ("machine-of-pods", "2x h100"),
    "2x 2x H100": ("machine-of-pods", "2x h100"),
    "2x H100x2": ("machine-of-pods", "2x h100"),
    "1x H100 + 1x A100": ("machine-mixed", "one kind"),
    "RTX 4090, RTX 3090": ("machine-mixed", "one kind"),
    "0x H100": ("machine-size-invalid", "1 to 16"),
    "17x H100": ("machine-size-invalid", "1 to 16"),
    "24GB": ("gpu-not-named", "RTX 4090"),
    "2x 24 GB": ("gpu-not-named", "RTX 3090"),
    "1234GB": ("gpu-not-named", "B200"),
    "2x GPU": ("gpu-not-named", "H100 80GB"),
    "RTX 4900": ("gpu-unknown", "RTX 4090"),
    "4900": ("gpu-unknown", "RTX 4090"),
    "RTX 4090 Ultra": ("gpu-unknown", "RTX 4090"),
    "RTX": ("gpu-unknown", "use one of "),
    "RX 4090": ("gpu-unknown", "RTX 4090"),
    "RTX 5090 Laptop": ("gpu-unknown", "RTX 5090"),
    "8xMI300X": ("gpu-not-nvidia", "NVIDIA"),
    "2x AMD Instinct MI355X": ("gpu-not-nvidia", "NVIDIA"),
    "RX 7900 XTX": ("gpu-not-nvidia", "NVIDIA"),
    "Arc B580": ("gpu-not-nvidia", "NVIDIA"),
    "M3 Ultra": ("gpu-not-nvidia", "NVIDIA"),
    "TPU v5e": ("gpu-not-nvidia", "NVIDIA"),
    "1g.10gb": ("slice-of-what", "H100 MIG 1g.10gb"),
    "T4 MIG 3g.40gb": ("gpu-memory-wrong", ""),
    "two H100": ("gpu-unknown", "H100 80GB"),
    "A100": ("gpu-ambiguous", "A100 80GB or A100 40GB"),
    "6000": ("gpu-ambiguous", "RTX PRO 6000 or RTX 6000 Ada"),
    "RTX 4090 96GB": ("gpu-memory-wrong", "use RTX 4090"),
    "A100 60GB": ("gpu-memory-wrong", "A100 80GB or A100 40GB"),
}


@pytest.mark.parametrize(("text", "error_id", "hint"), [(text, *error) for text, error in REJECTED.items()])
def test_machine_is_rejected(text: str, error_id: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert (caught.value.id, hint in (caught.value.hint or "")) == (error_id, True), caught.value.render()


@pytest.mark.parametrize("kind", hardware.KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_found_by_its_title(kind: hardware.Kind) -> None:
    machine = parse(f"3x {kind.title}")
    assert machine == Machine(kind, 3) == parse(machine.title)
    assert kind_named(kind.title) == kind
    [*gpus] = idle_pod(machine, CATALOG, {}).gpus
    assert [gpu.id for gpu in gpus] == [0, 1, 2]
    assert hardware.kind(gpus[0]) == kind, "the planner reads the title as another kind"


@pytest.mark.parametrize("kind", FIXTURE["gpus"])
def test_names_in_nvidia_smi_are_found(kind: str) -> None:
    assert parse(FIXTURE["gpus"][kind]["name"]).kind == hardware.by_name(kind)


def test_cpu_is_found_by_its_title() -> None:
    assert parse(Machine(None, 0, 48).title) == Machine(None, 0, 48)


@given(st.text(max_size=40) | st.lists(st.sampled_from([*"x ×*_-+.", "2", "16", "4090", "GB", "80GB", "H100", "CPU"])))
def test_any_text_is_a_machine_or_one_line(text: str | list[str]) -> None:
    written = text if isinstance(text, str) else "".join(text)
    try:
        machine = parse(written)
    except InputError as error:
        assert "\n" not in error.render() and error.render().isprintable()
    else:
        assert parse(machine.title) == machine


def test_idle_pod_has_the_newest_vllm_of_the_catalog_and_older_ones_for_models_that_need_them() -> None:
    facts = idle_pod(Machine(hardware.by_name("h100"), 2), CATALOG, {"h100": 2.0})
    assert (facts.vllm_version, facts.prices) == (newest_vllm(CATALOG), {"h100": 2.0})
    assert {spec.max_vllm for spec in CATALOG.models} - {None} == set(facts.extra_venvs.values())
    assert facts.device == "cuda" and not facts.deployments and facts.gpus[0].used_mib == 0
    cpu = idle_pod(Machine(None, 0, 32), CATALOG, {})
    assert (cpu.is_cpu, cpu.memory_mib, cpu.cpus, cpu.gpus) == (True, 32768, machines.CPU_CORES, ())


def test_newest_vllm_is_a_release() -> None:
    tables = {"family": {}, "model": {"a/b": _entry("nightly"), "a/c": _entry("0.9.2"), "a/d": _entry("0.10.0")}}
    assert newest_vllm(catalog.read(tables)) == "0.10.0"


def _entry(min_vllm: str) -> dict[str, object]:
    return {"parameters": 1, "floor": min_vllm, "variants": {"bf16": {"precision": "bf16"}}}
