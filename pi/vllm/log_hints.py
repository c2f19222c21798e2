"""Hints for failed starts, by the words in vLLM's log."""

from __future__ import annotations

import re
from typing import NamedTuple


class Advice(NamedTuple):
    """A known kind of failure, by its stable id, and what to do about it."""

    id: str
    hint: str


def advice_for(text: str, venv: str) -> Advice | None:
    for id, pattern, hint in HINTS:
        if match := re.search(pattern, text):
            return Advice(id, hint.format(*match.groups(), venv=venv))
    return None


_SETUP = 'pi pods setup NAME "ssh ..."'

_THE_TOKEN = "HF_TOKEN (pi pods setup NAME sends a new one)"  # noqa: S105 - its name

HINTS = (
    # Command line and its files
    (
        "rejected-arguments",
        r"^vllm[ \w]*: error: ",
        "check the words after --vllm, or the arguments in pi plan; on the pod, vllm serve --help=all explains them",
    ),
    ("unknown-parser", r"invalid (?:tool call|reasoning) parser", "after --vllm, name a parser that this vLLM has"),
    ("tool-parser-missing", r"requires --tool-call-parser", "add --tool-call-parser NAME after --vllm"),
    ("template-missing", r"appears path-like, but doesn't exist", "give the path of a template that is on the pod"),
    ("port-taken", r"[Aa]ddress already in use", "another process took the port meanwhile: start again"),
    # Hugging Face
    (
        "gated-repository",
        r"gated repo[\s\S]{0,300}?https://huggingface\.co/([\w.-]+/[\w-]+(?:\.[\w-]+)*)",
        f"accept the licence at https://huggingface.co/{{0}} and check {_THE_TOKEN}",
    ),
    (
        "gated-repository",
        r"Access denied\. Model '([\w.-]+/[\w.-]+)' requires approval",
        f"accept the licence at https://huggingface.co/{{0}} and check {_THE_TOKEN}",
    ),
    (
        "gated-repository",
        r"gated repo",
        f"accept the licence on the model's page at Hugging Face and check {_THE_TOKEN}",
    ),
    (
        "hub-token-rejected",
        r"Invalid (?:credentials in Authorization header|user token|username or password)",
        f"Hugging Face rejects HF_TOKEN: set a valid one and run {_SETUP} again",
    ),
    (
        "hub-rate-limit",
        r"429 Too Many Requests|429 Client Error",
        f"too many requests: try again in a few minutes, with {_THE_TOKEN}",
    ),
    (
        "no-such-repository",
        r"is not a valid model identifier|Repository Not Found|^Error: Model .{1,200} not found",
        f"no such model at Hugging Face, or it is private: check the id and {_THE_TOKEN}",
    ),
    (
        "hub-offline",
        r"outgoing traffic has been disabled|offline mode is enabled",
        "HF_HUB_OFFLINE on the pod prevents the download: unset it, or give a path on the pod",
    ),
    (
        "hub-unreachable",
        r"couldn't connect to 'http|LocalEntryNotFoundError|Local entry not found",
        "the pod cannot reach Hugging Face: check its network and proxy, or give a path on the pod",
    ),
    ("no-such-directory", r"Repo id must be in the form", "the pod does not have this directory: check the path"),
    ("config-missing", r"a file named config\.json", "config.json is missing: check the path or the repository"),
    # Disks and shared memory
    (
        "shared-memory-full",
        r"'/psm_|/dev/shm|shared memory segment|Bus error",
        "the pod's /dev/shm is too small: run its container with --shm-size=16g or --ipc=host",
    ),
    (
        "disk-full",
        r"No space left on device|Not enough free disk space|Disk quota exceeded",
        f"the pod's disk is full: free space, or keep models on another disk: {_SETUP} --models-path PATH",
    ),
    (
        "read-only-disk",
        r"Read-only file system",
        f"the pod cannot write where its models are kept: mount it for writing, or {_SETUP} --models-path PATH",
    ),
    # Context and GPU memory
    (
        "context-over-memory",
        r"estimated maximum model length is (\d{1,12})",
        "pi start ... --context {0}, or more memory for it: --memory 90% or --gpus 2",
    ),
    (
        "context-over-model",
        r"derived max_model_len \([a-z_]+=(\d{1,12})",
        "the model's context is shorter: pi start ... --context {0}",
    ),
    (
        "too-many-sequences",
        r"exceeds available Mamba cache blocks \((\d{1,9})\)",
        "serve fewer requests at a time: --set max-num-seqs={0}",
    ),
    (
        "warm-up-out-of-memory",
        r"out of memory occurred when warming up .{1,80}with (\d{1,9}) dummy requests",
        "serve fewer requests at a time: --set max-num-seqs=N, with N below {0}",
    ),
    (
        "batch-below-context",
        r"is smaller than max_model_len \((\d{1,9})\)",
        "give a batch as many tokens as the context: --set max-num-batched-tokens={0}",
    ),
    (
        "batch-below-sequences",
        r"max_num_batched_tokens \((\d{1,9})\) must be greater than or equal to max_num_seqs",
        "each sequence needs a token of a batch: --set max-num-seqs={0}",
    ),
    (
        "batch-below-image",
        r"max_tokens_per_mm_item \((\d{1,9})\) is larger than max_num_batched_tokens",
        "give a batch as many tokens as an image: --set max-num-batched-tokens={0}",
    ),
    (
        "no-room-for-cache",
        r"No available memory for the cache blocks|Cannot auto-fit max_model_len|available KV cache memory",
        "no memory is left after the weights: pi start ... --memory 90%, or --gpus 2",
    ),
    (
        "memory-in-use",
        r"is less than desired (?:GPU|CPU) memory utilization|on kv cache allocation",
        "another process uses that memory: pi stop it, or use less: pi start ... --memory 50%",
    ),
    (
        "gpu-out-of-memory",
        r"CUDA out of memory|CUDA error: out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        "the GPU is full: use more GPUs (--gpus 2) or a shorter --context, or pi stop another model",
    ),
    # GPUs, drivers, links between GPUs
    ("too-few-gpus", r"number of available GPUs \((\d{1,4})\)", "pi start ... --gpus {0}, or a pod with more GPUs"),
    (
        "heads-not-divisible",
        r"attention heads \((\d{1,6})\) must be divisible",
        "pi start ... --gpus N, where N divides {0}",
    ),
    (
        "driver-too-old",
        r"NVIDIA driver on your system is too old",
        "the pod's NVIDIA driver is older than this vLLM needs: choose an image with a newer driver",
    ),
    (
        "fabric-down",
        r"Error 802|system not yet initialized",
        "the GPUs' fabric is down: start nvidia-fabricmanager on the pod, or reboot it",
    ),
    (
        "driver-mismatch",
        r"Error 80[34]|Driver/library version mismatch",
        "the pod's NVIDIA driver and libraries differ: reboot it, or choose another image",
    ),
    (
        "no-gpu-visible",
        r"No CUDA GPUs are available|no CUDA-capable device|infer device type|cudaGetDeviceCount|libcuda\.so",
        f"vLLM sees no GPU: look at nvidia-smi on the pod, then run {_SETUP} again",
    ),
    ("bfloat16-unsupported", r"--dtype[= ]half", "pi start ... --vllm --dtype half"),
    (
        "gpu-too-new",
        r"no kernel image is available",
        f"this vLLM is not built for the pod's GPU: {_SETUP} --vllm nightly, or another GPU",
    ),
    (
        "format-unsupported",
        r"not supported for the current GPU|compute capability",
        "the pod's GPU cannot run this format: choose another variant of the model, or a newer GPU",
    ),
    (
        "nccl-failed",
        r"NCCL error|nccl\w+Error",
        "the GPUs cannot talk to each other: try --gpus 1; in a container, /dev/shm may be too small",
    ),
    # The model
    (
        "packages-missing",
        r"not found in your environment: .{1,200}? Run `pip install ([\w. -]{1,100})`",
        "the model's code needs more packages: on the pod, uv pip install -p ~/{venv} {0}",
    ),
    (
        "trust-remote-code",
        r"trust_remote_code",
        "the model contains Python code; if you trust it: pi start ... --vllm --trust-remote-code",
    ),
    (
        "architecture-unknown",
        r"does not recognize this architecture|Model architectures .{1,300} are not supported",
        f"this vLLM does not know the model: {_SETUP} --vllm nightly",
    ),
    (
        "wrong-quantization",
        r"Unknown quantization method|Cannot find the config file for \w+",
        "the model is not in that format: leave --quantization out after --vllm",
    ),
    (
        "gguf-unsupported",
        r"\.gguf' is not a valid JSON",
        "vLLM does not read GGUF files: choose the model in safetensors format",
    ),
    (
        "damaged-weights",
        r"SafetensorError|Error while deserializing header|parse_safetensors_file_metadata",
        "a weights file is damaged or incomplete: remove the model from the pod's cache and start again",
    ),
    (
        "no-weights",
        r"Cannot find any model weights",
        "there are no *.safetensors files there: check the path or the repository",
    ),
    # vLLM itself and its machine
    (
        "vllm-incomplete",
        r"No module named|PackageNotFoundError|undefined symbol|cannot open shared object|torchvision::nms",
        f"vLLM on the pod is incomplete: run {_SETUP} again",
    ),
    (
        "main-memory-full",
        r"Cannot allocate memory|^MemoryError|DefaultCPUAllocator",
        "the pod's main memory is full: choose a smaller model, or a pod with more memory",
    ),
    (
        "processor-too-old",
        r"SIGILL|Illegal instruction",
        "this vLLM needs a newer processor than the pod has: choose another pod",
    ),
    (
        "killed",
        r"^killed from outside|unexpectedly$|exit code: -9\)",
        "dmesg on the pod shows what the kernel killed; a smaller model or --context needs less memory",
    ),
)
"""Id, pattern and hint; the first match applies. In a hint, {0} is the pattern's group and {venv} the folder of vLLM's
venv."""
