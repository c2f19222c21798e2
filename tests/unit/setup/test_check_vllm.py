"""The test of the installed PyTorch and vLLM, with stand-ins for both: architectures against GPUs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import pi
from pi.on_pod import archs

PROGRAM = Path(pi.__file__).parent / "setup" / "templates" / "check_vllm.py"
sys.modules["archs"] = archs  # on a pod, its file is beside the program
CHECK = runpy.run_path(str(PROGRAM))

CUDA_13 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_110", "sm_120", "compute_120")

# built architectures, the capability of a GPU, whether code runs on it
SERVES = [
    (CUDA_13, (7, 5), True),
    (CUDA_13, (7, 0), False),
    (CUDA_13, (6, 1), False),
    (CUDA_13, (8, 9), True),
    (CUDA_13, (9, 0), True),
    (CUDA_13, (10, 3), True),
    (CUDA_13, (12, 1), True),
    (CUDA_13, (13, 0), True),
    (("sm_90a",), (9, 0), True),
    (("sm_100a",), (10, 3), False),
    (("sm_100f",), (10, 3), True),
    (("sm_80",), (9, 0), False),
    (("sm_86",), (8, 0), False),
    (("compute_80",), (9, 0), True),
    (("gfx90a", "nonsense"), (9, 0), False),
]


@pytest.mark.parametrize(("built", "capability", "serves"), SERVES)
def test_code_runs_on_its_own_and_on_newer_gpus(
    built: tuple[str, ...], capability: tuple[int, int], serves: bool
) -> None:
    assert archs.serves(built, capability) is serves


def torch(*capabilities: tuple[int, int]) -> Any:
    return SimpleNamespace(
        __version__="2.14.0",
        cuda=SimpleNamespace(
            is_available=lambda: True,
            get_arch_list=lambda: list(CUDA_13),
            device_count=lambda: len(capabilities),
            get_device_name=lambda index: f"card {index}",
            get_device_capability=lambda index: capabilities[index],
        ),
    )


def test_gpus_without_code_are_printed_or_stop_the_setup(capsys: pytest.CaptureFixture[str]) -> None:
    CHECK["check_cards"](torch((9, 0), (7, 0)))
    built, old = capsys.readouterr().out.splitlines()
    assert built == "archs\t" + " ".join(CUDA_13)
    assert old == "old\tcard 1 (compute capability 7.0)"
    with pytest.raises(SystemExit, match=r"PyTorch 2\.14\.0 has no code for card 0 \(compute capability 7\.0\)"):
        CHECK["check_cards"](torch((7, 0)))
    CHECK["check_cards"](torch())


def test_a_vllm_for_another_device_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    platforms: Any = ModuleType("vllm.platforms")
    platforms.current_platform = SimpleNamespace(device_type="cpu", import_kernels=lambda: None)
    vllm: Any = ModuleType("vllm")
    vllm.__version__, vllm.platforms, vllm.__path__ = "0.33.0", platforms, []
    for name, module in (("torch", torch((9, 0))), ("vllm", vllm), ("vllm.platforms", platforms)):
        monkeypatch.setitem(sys.modules, name, module)
    CHECK["main"]("cpu")
    with pytest.raises(SystemExit, match=r"vLLM 0\.33\.0 was built for 'cpu', not cuda"):
        CHECK["main"]("cuda")
    assert "archs\t" in capsys.readouterr().out
