"""Hints: libraries of the pod's system and Python packages."""

from __future__ import annotations

import re

from pi.vllm.hint import Hint, Values
from pi.vllm.hints_start import APT, INSTALL, SETUP

LIBRARIES = {
    "libGL": "libgl1",
    "libGLdispatch": "libglvnd0",
    "libEGL": "libegl1",
    "libSM": "libsm6",
    "libX11": "libx11-6",
    "libXext": "libxext6",
    "libXrender": "libxrender1",
    "libavcodec": "ffmpeg",
    "libavdevice": "ffmpeg",
    "libavfilter": "ffmpeg",
    "libavformat": "ffmpeg",
    "libavutil": "ffmpeg",
    "libswscale": "ffmpeg",
    "libswresample": "ffmpeg",
    "libglib-2.0": "libglib2.0-0",
    "libgthread-2.0": "libglib2.0-0",
    "libgomp": "libgomp1",
    "libibverbs": "libibverbs1",
    "libmlx5": "ibverbs-providers",
    "libmpi": "libopenmpi3",
    "libnuma": "libnuma1",
    "libopenblas": "libopenblas0",
    "librdmacm": "librdmacm1",
    "libsndfile": "libsndfile1",
    "libssl": "libssl3",
    "libstdc++": "libstdc++6",
    "libtcmalloc": "libgoogle-perftools4",
    "libtcmalloc_minimal": "libtcmalloc-minimal4",
    "libxcb": "libxcb1",
    "libz": "zlib1g",
}
"""Debian's package of each library that Python packages expect from the system."""

MODULES = {
    "PIL": "pillow",
    "av": "vllm[audio]",
    "causal_conv1d": "causal-conv1d",
    "cv2": "opencv-python-headless",
    "fla": "flash-linear-attention",
    "flash_attn": "flash-attn",
    "google.protobuf": "protobuf",
    "librosa": "vllm[audio]",
    "mamba_ssm": "mamba-ssm",
    "mistral_common": "mistral-common",
    "fastsafetensors": "vllm[fastsafetensors]",
    "runai_model_streamer": "vllm[runai]",
    "tensorizer": "vllm[tensorizer]",
    "qwen_vl_utils": "qwen-vl-utils",
    "resampy": "vllm[audio]",
    "scipy.signal": "vllm[audio]",
    "sklearn": "scikit-learn",
    "soundfile": "vllm[audio]",
    "soxr": "vllm[audio]",
    "terratorch": "vllm[terratorch]",
    "yaml": "pyyaml",
}
"""The package of each Python module that has another name."""

OF_SETUP = frozenset(
    ["flashinfer", "huggingface_hub", "numpy", "tokenizers", "torch", "transformers", "triton", "vllm"]
)
"""Modules that setup installs, so running it again repairs them."""


def _library(match: re.Match[str]) -> Values:
    name = re.sub(r"[-.]?\d[\d.]*$", "", match[1]) if match[1] not in LIBRARIES else match[1]
    return {"package": LIBRARIES.get(match[1]) or LIBRARIES.get(name) or _python_library(match[1])}


def _python_library(name: str) -> str | None:
    return name.lower() if re.fullmatch(r"libpython3\.\d{1,2}", name) else None


def _module(match: re.Match[str]) -> Values:
    module = match[1]
    first = module.partition(".")[0]
    package = MODULES.get(module) or MODULES.get(first) or first.replace("_", "-")
    own = first in OF_SETUP or first.startswith("_")
    return {"package": None if own else package, "setup": f"run {SETUP} again" if own else None}


HINTS = (
    Hint(
        "packages-differ",
        r"flashinfer-(cubin|jit-cache) version \(([\w.+]{1,40})\) does not match"
        r" flashinfer version \(([\w.+]{1,40}?)(?:\+\w+)?\)",
        "two packages of FlashInfer differ",
        (f"{INSTALL}flashinfer-{{0}}=={{2}}", f"run {SETUP} again", "--env FLASHINFER_DISABLE_VERSION_CHECK=1"),
    ),
    Hint(
        "packages-missing",
        r"not found in your environment: .{1,200}? Run `pip install ([\w. -]{1,100})`",
        "the model's code needs more packages: on the pod, uv pip install -p ~/{venv} {0}",
    ),
    Hint(
        "system-too-old",
        r"version [`']GLIBC_[\d.]+' not found",
        "the pod's system is older than {vllm} needs: choose an image with Ubuntu 22.04 or newer",
    ),
    Hint(
        "system-library-shadowed",
        r"version [`'](?:GLIBCXX|CXXABI)_[\d.]+' not found",
        "an old libstdc++ comes first on the pod",
        ("remove LD_LIBRARY_PATH from its environment", f"{APT}libstdc++6"),
    ),
    Hint(
        "package-of-another-torch",
        r"flash_attn_\w*cuda[\s\S]{0,80}undefined symbol",
        "this flash-attn is made for another PyTorch, and vLLM has its own: on the pod, uv pip uninstall -p ~/{venv}"
        " flash-attn",
    ),
    Hint(
        "library-shadowed",
        r"undefined symbol: (?:nccl[A-Z]|cu(?:da|blas|dnn|sparse|fft|rand|solver|pti)?[A-Z]|__nv)",
        "an older CUDA library comes first on the pod",
        ("remove LD_LIBRARY_PATH from its environment", f"run {SETUP} again"),
    ),
    Hint(
        "user-without-name",
        r"getpwuid\(\): uid not found",
        "the user that runs vLLM has no name there: add a line for it to /etc/passwd",
    ),
    Hint(
        "library-missing",
        r"failed to open lib(?:nv|cu)\w+",
        "CUDA's libraries on the pod are incomplete",
        (f"run {SETUP} again", "remove LD_LIBRARY_PATH from its environment"),
    ),
    Hint(
        "library-missing",
        r"\b(libcu(?:dart|blas|blasLt|dnn|fft|rand|solver|sparse|sparseLt|pti|file)|libnv[\w]*|libnccl"
        r"|libtorch\w*|libc10\w*)"
        r"[\w.-]*\.so[\w.]*: cannot open shared object",
        f"vLLM and its CUDA libraries in ~/{{venv}} do not belong together: run {SETUP} again",
    ),
    Hint(
        "library-missing",
        r"\b(lib(?!cuda\.)[\w+-]+(?:-\d\.\d|3\.\d{1,2})?)\.so[\w.]*: cannot open shared object",
        "a library of the pod's system is missing",
        (f"{APT}{{package}}", "its package, which apt-file search {0}.so names"),
        _library,
    ),
    Hint(
        "numpy-too-new",
        r"compiled using NumPy 1|numpy\.(?:dtype|ufunc) size changed|NumPy 2",
        "a package needs an older NumPy",
        (f"{INSTALL}'numpy<2'", f"run {SETUP} again"),
    ),
    Hint(
        "aiter-missing",
        r"No module named '?aiter",
        "AMD's kernels are not installed",
        ("--env VLLM_ROCM_USE_AITER=0", "use AMD's own image of vLLM"),
    ),
    Hint(
        "all-to-all-missing",
        r"deep_ep|DeepEP|pplx",
        "the kernels for experts on several GPUs are not installed",
        ("--set all2all-backend=allgather_reducescatter",),
    ),
    Hint(
        "kernels-unreachable",
        r"[Ff]ailed to (?:download|fetch|get) .{0,40}cubin",
        "the pod cannot fetch FlashInfer's kernels from NVIDIA",
        ("--set attention-backend=FLASH_ATTN --env VLLM_USE_FLASHINFER_SAMPLER=0", f"{INSTALL}flashinfer-cubin"),
    ),
    Hint(
        "packages-missing",
        r"sndfile library not found",
        "a library of the pod's system is missing",
        (f"{APT}libsndfile1",),
    ),
    Hint(
        "packages-missing",
        r"libtorchcodec|FFmpeg is not properly installed",
        "FFmpeg is missing",
        (f"{APT}ffmpeg",),
    ),
    Hint(
        "code-of-model-missing",
        r"No module named '?transformers_modules",
        "the model's own code is not in the cache",
        ("--set trust-remote-code", "on the pod, rm -rf ~/.cache/huggingface/modules, and start again"),
    ),
    Hint(
        "module-missing",
        r"No module named '?([A-Za-z_][\w.]{0,60})",
        "vLLM on the pod lacks a Python module",
        (f"{INSTALL}'{{package}}'", "{setup}"),
        _module,
    ),
    Hint(
        "packages-differ",
        r"Descriptors cannot be created directly",
        "a package and protobuf do not belong together",
        (f"run {SETUP} again",),
    ),
    Hint(
        "transformers-too-new",
        r"all_special_tokens_extended|Tokenizer\w* (?:object )?has no attribute",
        "transformers on the pod is newer than {vllm} knows",
        (f"run {SETUP} again", f"{INSTALL}'transformers<5'"),
    ),
    Hint(
        "packages-missing",
        r"NIXL is not available",
        "a Python package is missing",
        (f"{INSTALL}nixl",),
    ),
    Hint(
        "packages-missing",
        r"need to have sentencepiece or tiktoken|Converting from Tiktoken failed",
        "the model's tokenizer needs sentencepiece or tiktoken, or its own files are incomplete",
        (f"{INSTALL}sentencepiece tiktoken",),
    ),
    Hint(
        "transformers-mismatch",
        r"cannot import name '\w+' from 'transformers|module transformers\S* has no attribute|from 'transformers\."
        r"|'\w+Config' object has no attribute|Unrecognized processing class",
        "{vllm} and transformers on the pod do not belong together",
        (f"run {SETUP} again", f"{INSTALL}-U transformers"),
    ),
)
