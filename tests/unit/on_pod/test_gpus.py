"""The answers of `nvidia-smi` on the pod, with a stand-in that prints recorded outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi.on_pod import gpus
from pi.pods.gpus import QUERY, Gpu, lost, parse
from tests.rig.cases import CASES


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for nvidia-smi that prints `rows` to a query, `list` to -L and `table` otherwise."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\ncd {tmp_path}\ncase $1 in --query-*) cat rows ;; -L) touch asked; cat list ;; *) cat table ;; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(gpus, "NVIDIA_SMI", (str(program),))
    return tmp_path


def answer(driver: Path, name: str) -> None:
    lines = (CASES / "gpus" / f"{name}.csv").read_text().splitlines(keepends=True)
    parts = {"rows": ("0", "1"), "list": ("GPU ", "  MIG "), "table": ("|",)}
    for part, beginnings in parts.items():
        (driver / part).write_text("".join(line for line in lines if line.startswith(beginnings)))


def test_slices_follow_their_gpus(driver: Path) -> None:
    answer(driver, "mig_slices")
    found, skipped = parse(gpus.described(QUERY)["text"])
    assert [(gpu.id, gpu.memory_mib) for gpu in found] == [(0, 40448), (1, 81559), (101, 9984)]
    assert skipped == []


def test_unified_memory_is_the_machines(driver: Path) -> None:
    answer(driver, "unified_memory_with_meminfo")
    [gpu] = parse(gpus.described(QUERY)["text"])[0]
    total_kb = int(Path("/proc/meminfo").read_text().split()[1])
    assert gpu.memory_mib == total_kb // 1024
    assert 0 < gpu.used_mib <= gpu.memory_mib


@pytest.mark.parametrize(("name", "asked"), [("rtx_4090_2", False), ("h100_8", True), ("mig_one_slice", True)])
def test_only_cards_that_may_have_slices_are_asked_for_them(driver: Path, name: str, asked: bool) -> None:
    answer(driver, name)
    parse(gpus.described(QUERY)["text"])
    assert (driver / "asked").exists() == asked


def test_amd_gpus_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "NVIDIA_SMI", ())
    monkeypatch.setattr(gpus, "VRAM", str(tmp_path / "card*"))
    assert gpus.described(QUERY)["error"] == "nvidia-smi not found"
    (tmp_path / "kfd").touch()
    monkeypatch.setattr(gpus, "KFD", str(tmp_path / "kfd"))
    assert gpus.described(QUERY)["error"] == gpus.AMD
    (tmp_path / "card0").write_text("536870912\n")
    assert gpus.described(QUERY)["error"] == "nvidia-smi not found"
    (tmp_path / "card1").write_text("206141652992\n")
    assert gpus.described(QUERY)["error"] == gpus.AMD


def program(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    monkeypatch.setattr(gpus, "NVIDIA_SMI", (str(path),))


OLD = "0, Tesla T4, 15360, 0, GPU-1f0c0e3a-0000-0000-0000-000000000002"


@pytest.mark.parametrize("unknown", ["mig.mode.current", "compute_cap"])
def test_an_old_driver_is_asked_for_the_columns_that_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unknown: str
) -> None:
    refusal = f"echo 'Field \"{unknown}\" is not a valid field to query.'; exit 2"
    program(tmp_path, f"case $1 in *{unknown}*) {refusal} ;; --query-*) echo '{OLD}' ;; esac", monkeypatch)
    [gpu] = parse(gpus.described(QUERY)["text"])[0]
    assert (gpu.name, gpu.memory_mib) == ("Tesla T4", 15360)


HEADERS = [
    ("| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   CUDA Version: 13.0 |", "13.0"),
    ("| CUDA UMD Version: 13.1 |", "13.1"),
    ("| CUDA Version: N/A |", None),
    ("", None),
]


@pytest.mark.parametrize(("header", "cuda"), HEADERS)
def test_the_newest_cuda_of_a_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str, cuda: str | None
) -> None:
    program(tmp_path, f"echo '{header}'", monkeypatch)
    assert gpus.cuda_version() == cuda


SLICED = "0, NVIDIA A100-SXM4-80GB, 81920, 45, GPU-1f0c0e3a-0000-0000-0000-000000000001, 8.0, 550.90.07, Enabled"


def test_a_sliced_gpu_without_slices_has_no_memory_for_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, f"case $1 in --query-*) echo '{SLICED}' ;; esac", monkeypatch)
    found, skipped = parse(gpus.described(QUERY)["text"])
    assert (found, skipped) == ([], [SLICED])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pi waits for no wedged nvidia-smi
def test_a_slow_answer_is_silence_and_not_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "sleep 9", monkeypatch)
    monkeypatch.setattr(gpus, "paced", lambda seconds: 0.1)
    answer = gpus.described(QUERY)
    assert answer == {"text": "", "error": "nvidia-smi did not answer within 60 s"}
    known = [Gpu(0, "H20", 97871)]
    assert lost(known, [], [str(answer["error"])]) == []
    assert lost(known, [], ["No devices were found"]) == ["GPU 0 lost (nvidia-smi: No devices were found)"]
    check = gpus.MemoryCheck.__new__(gpus.MemoryCheck)
    check._ids, check._fall = [0], {0: 1000}
    assert check.missing() == f"pi cannot tell whether its GPU memory is free: {answer['error']}"


def test_devices_without_nvidia_smi_are_not_a_pod_without_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "NVIDIA_SMI", ())
    for name in ("nvidia0", "dxg"):
        device = tmp_path / name
        device.touch()
        monkeypatch.setattr(gpus, "NVIDIA", (str(device),))
        assert gpus.described(QUERY)["error"] == f"NVIDIA devices without nvidia-smi: {device}"
