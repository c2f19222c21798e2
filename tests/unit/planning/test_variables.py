"""`--env NAME=VALUE`: families that are allowed, and variables that choose programs or open the server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pi.errors import InputError
from pi.planning import catalog, published, variables

ALLOWED = [
    "VLLM_LOGGING_LEVEL=DEBUG", "VLLM_ATTENTION_BACKEND=", "VLLM_USE_DEEP_GEMM=0", "NCCL_DEBUG=INFO", "NCCL_P2P_DISABLE=1",
    "CUDA_LAUNCH_BLOCKING=1", "CUDA_DEVICE_MAX_CONNECTIONS=1", "CUBLAS_WORKSPACE_CONFIG=:4096:8",
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True", "PYTORCH_ALLOC_CONF=a=b", "TORCH_LOGS=+dynamo",
    "TORCHINDUCTOR_COMPILE_THREADS=1", "TRITON_CACHE_DIR=/tmp/x y", "FLASHINFER_DISABLE_VERSION_CHECK=1",
    "HF_HUB_DISABLE_XET=1", "HF_XET_HIGH_PERFORMANCE=1", "OMP_NUM_THREADS=8", "TOKENIZERS_PARALLELISM=false",
    "NVIDIA_TF32_OVERRIDE=0", "DG_JIT_USE_NVRTC=1",
]  # fmt: skip


@pytest.mark.parametrize("text", ALLOWED)
def test_variable_is_allowed(text: str) -> None:
    name, _, value = text.partition("=")
    assert variables.parse([text]) == {name: value}


REFUSED = {
    "programs": ["PATH", "HOME", "ENV", "BASH_ENV", "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "CC", "CUDA_HOME"],
    "libraries": ["VLLM_NCCL_SO_PATH", "VLLM_CUDART_SO_PATH", "NCCL_NET_PLUGIN", "NCCL_TUNER_PLUGIN", "TRITON_PTXAS_PATH",
                  "CUDA_INJECTION64_PATH", "VLLM_PLUGINS", "VLLM_RUST_FRONTEND_PATH", "VLLM_LOGGING_CONFIG_PATH"],
    "places of models": ["HF_HOME", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "VLLM_USE_MODELSCOPE",
                         "FLASHINFER_CUBINS_REPOSITORY", "VLLM_MODEL_REDIRECT_PATH"],
    "an open server": ["VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_USE_RUST_FRONTEND",
                       "VLLM_HOST_IP", "VLLM_DP_MASTER_IP", "VLLM_NIXL_SIDE_CHANNEL_HOST", "GLOO_SOCKET_IFNAME"],
    "pi's own": ["VLLM_API_KEY", "HF_TOKEN", "PI_INSTANCE", "VLLM_PORT", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"],
    "others": ["http_proxy", "AWS_SECRET_ACCESS_KEY", "RAY_ADDRESS", "vllm_logging_level", "LC_ALL"],
}  # fmt: skip


@pytest.mark.parametrize("name", [name for names in REFUSED.values() for name in names])
def test_variable_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=name) as caught:
        variables.parse([f"{name}=1"])
    assert caught.value.id == "env-refused"


OF_LAUNCHERS = ["CC", "CXX", "OPENSSL_CONF", "GCONV_PATH", "HF_ENDPOINT", "VLLM_ALLOW_INSECURE_SERIALIZATION", "here",
                "server", "arguments", "X;touch pwned", "X=1", ""]  # fmt: skip


@pytest.mark.parametrize("name", [*(name for names in REFUSED.values() for name in names), *OF_LAUNCHERS])
def test_variable_is_refused_in_models_toml_too(name: str) -> None:
    with pytest.raises(InputError) as caught:
        variables.of_catalog("a/b", {"VLLM_USE_DEEP_GEMM": "1", name: "1"})
    assert caught.value.id == "catalog-variable-refused"


def test_every_variable_of_the_catalog_is_allowed() -> None:
    for spec in catalog.load(Path("/nowhere")).models:
        for tuning in published._tunings(spec):
            assert variables.of_catalog(spec.id, tuning.env) == dict(tuning.env)


@pytest.mark.parametrize("text", ["", "VLLM_X", "=1", "VLLM X=1", "VLLM-X=1", "1X=1", "VLLM_\u00c4=1"])
def test_a_text_that_is_not_a_variable_is_rejected(text: str) -> None:
    with pytest.raises(InputError) as caught:
        variables.parse([text])
    assert caught.value.id == "env-invalid"


def test_a_value_of_two_lines_is_rejected() -> None:
    with pytest.raises(InputError) as caught:
        variables.parse(["NCCL_DEBUG=a\nb"])
    assert caught.value.id == "env-value-invalid"


def test_the_last_value_wins_and_values_may_have_equals_signs() -> None:
    assert variables.parse(["VLLM_A=1", "VLLM_B=x=y", "VLLM_A=2"]) == {"VLLM_A": "2", "VLLM_B": "x=y"}


def test_a_near_miss_is_named() -> None:
    with pytest.raises(InputError, match="VLM_LOGGING_LEVEL") as caught:
        variables.parse(["VLM_LOGGING_LEVEL=DEBUG"])
    assert "did you mean VLLM_" in caught.value.render()


def test_the_page_lists_every_family() -> None:
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
    [row] = re.findall(r"^`--env` allows (.*?)\n\n", page, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`([^`]+)`", row)) == {f"{name}*" for name in variables.FAMILIES}
