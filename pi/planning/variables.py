"""Environment variables of vLLM's server: which ones users and the catalog may set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from pi.errors import InputError
from pi.vllm.raw_arguments import unusable

RESERVED = re.compile(
    r"PATH|HOME|IFS|ENV|SHELLOPTS|BASH\w*|LD_\w*|PYTHON\w*|PI_\w*|HF_TOKEN|HF_HUB_OFFLINE|HUGGING_FACE_HUB_TOKEN|"
    r"VLLM_(API_KEY|HOST_IP|PORT|SERVER_DEV_MODE|ALLOW_RUNTIME_LORA_UPDATING|PLUGINS)"
)
"""Variables that neither models.toml nor a user may set: pi sets them, or they select programs or open the server."""

FAMILIES = {
    "CUBLAS": "cuBLAS",
    "CUDA_": "CUDA",
    "CUDNN_": "cuDNN",
    "DG_": "DeepGEMM",
    "FLASHINFER_": "FlashInfer",
    "FLASH_ATTENTION_": "FlashAttention",
    "GLOO_": "Gloo",
    "HF_HUB_": "the hub's library",
    "HF_XET_": "the hub's downloads",
    "KMP_": "OpenMP",
    "MAX_JOBS": "compilers of kernels",
    "MKL_": "MKL",
    "NCCL_": "NCCL",
    "NVIDIA_TF32_OVERRIDE": "CUDA",
    "NVSHMEM_": "NVSHMEM",
    "OMP_": "OpenMP",
    "PYTORCH_": "PyTorch",
    "SAFETENSORS_": "safetensors",
    "TIKTOKEN_": "tiktoken",
    "TOKENIZERS_": "tokenizers",
    "TORCH": "PyTorch",
    "TRANSFORMERS_": "Transformers",
    "TRITON_": "Triton",
    "VLLM_": "vLLM",
}
"""Beginnings of the variables that `--env` allows, and who reads them."""

CHOOSES_CODE = re.compile(
    r"\w+_(PLUGINS?|SO_PATH|INCLUDE_PATH|LIB_PATH|PTXAS_PATH|NVDISASM_PATH|CUOBJDUMP_PATH|LIBCUDA_PATH|REPOSITORY)|"
    r"\w*(PTXAS|NVCC|COMPILER|CXX)\w*|TRITON_\w+_PATH|CUDA_(HOME|PATH|INJECTION\w*)|NCCL_CONF_FILE|"
    r"TORCH_EXTENSIONS_DIR|TORCH_DEVICE_BACKEND_AUTOLOAD|TORCHINDUCTOR_(CACHE_DIR|CUDA_CPP\w*)|"
    r"VLLM_(LOGGING_CONFIG_PATH|RUST_FRONTEND_PATH|CUDA_COMPATIBILITY_PATH|CONFIG_ROOT|CACHE_ROOT|MEDIA_CONNECTOR|"
    r"MODEL_REDIRECT_PATH|USE_MODELSCOPE|TARGET_DEVICE)|TRANSFORMERS_CACHE|HF_HUB_CACHE"
)
"""Variables that choose a program, a library, or where code and models come from."""

OPENS_SERVER = re.compile(
    r"VLLM_(USE_RUST_FRONTEND|ALLOW_INSECURE_SERIALIZATION|LOOPBACK_IP|RPC_BASE_PATH|ELASTIC_EP\w*|RAY_\w*|DP_\w*|"
    r"TORCH_PROFILER\w*|\w+_SIDE_CHANNEL_(HOST|PORT)|MOONCAKE_BOOTSTRAP_PORT|LORA_RESOLVER\w*)|NCCL_COMM_ID|"
    r"(NCCL|GLOO)_SOCKET_\w*IFNAME|CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER|TORCHELASTIC\w*"
)
"""Variables that open or replace the server, or set up the processes and GPUs that pi sets up."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)


def parse(texts: Sequence[str]) -> dict[str, str]:
    """Return the variables of all `--env`; the last of two values wins. Raises InputError for one that is refused."""
    return dict(map(_variable, texts))


def _variable(text: str) -> tuple[str, str]:
    name, joined, value = text.partition("=")
    if not joined or not NAME.fullmatch(name):
        raise InputError(
            "env-invalid", f"invalid --env {text[:80]!r}", "use --env NAME=VALUE such as --env VLLM_LOGGING_LEVEL=DEBUG"
        )
    if reason := _refusal(name):
        raise InputError("env-refused", f"--env may not set {name}: {reason[0]}", reason[1])
    if unusable(value):
        raise InputError("env-value-invalid", f"--env {name} contains {unusable(value)}", "use one line of text")
    return name, value


def of_catalog(model: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a model in models.toml. Raises InputError for one that `--env` may not set either."""
    for name in variables:
        if reason := _refusal(name):
            raise InputError(
                "catalog-variable-refused",
                f"{model}: models.toml may not set the variable {name!r}: {reason[0]}",
                "remove it from the model's env",
            )
    return dict(variables)


def _refusal(name: str) -> tuple[str, str] | None:
    """Return why a variable may not be set, and what to do instead."""
    if name in INSTEAD:
        return INSTEAD[name]
    if RESERVED.fullmatch(name) or OPENS_SERVER.fullmatch(name):
        return "pi sets it, or it would open the server", "remove it"
    if CHOOSES_CODE.fullmatch(name):
        return "it chooses programs, libraries or where models come from", "remove it"
    if not NAME.fullmatch(name) or not name.startswith(tuple(FAMILIES)):
        close = get_close_matches(name.partition("_")[0] + "_", FAMILIES, 1, 0.75)
        meant = f"did you mean {close[0]}...? " if close else ""
        return "it is not a variable of vLLM or its libraries", f"{meant}docs/models.md lists the families"
    return None


INSTEAD = {
    "CUDA_VISIBLE_DEVICES": ("pi chooses the GPUs", "use --gpus N"),
    "HF_TOKEN": ("a process list would show the token", "export HF_TOKEN, then run pi pods setup"),
    "VLLM_API_KEY": ("pi passes the key itself", "export PI_API_KEY"),
}
"""Refused variables with a way of their own."""
