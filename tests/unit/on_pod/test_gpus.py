"""The answers of `nvidia-smi` on the pod, with a stand-in that prints recorded outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi.on_pod import gpus
from pi.pods.gpus import QUERY, parse
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
