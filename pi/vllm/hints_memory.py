"""Hints: the context, GPU memory and main memory."""

from __future__ import annotations

import re

from pi.vllm.hint import Hint, Values
from pi.vllm.start_facts import FEWEST_SEQUENCES, LEAST_SHARE


def _fewer(match: re.Match[str]) -> Values:
    tried = int(match[1])
    return {"fewer": max(FEWEST_SEQUENCES, tried // 4) if tried > FEWEST_SEQUENCES else None}


def _at_least_one(match: re.Match[str]) -> Values:
    return {"blocks": int(match[1]) or None}


def _half_of_it(match: re.Match[str]) -> Values:
    return {"half": int(float(match[1]) / 2) or None}


def _free_share(match: re.Match[str]) -> Values:
    free, total = float(match[1]), float(match[2])
    percent = int(100 * free / total) if total else 0
    return {"free": percent if percent >= 100 * LEAST_SHARE / 2 else None, "gib": match[1]}


BIGGER_POD = "use a pod with more GPU memory"

HINTS = (
    Hint(
        "context-over-memory",
        r"estimated maximum model length is (\d{1,12})",
        "the context needs more memory than is left",
        ("--context {0}", "--memory {more_memory}%", "--gpus {more_gpus}", "--set kv-cache-dtype=fp8"),
    ),
    Hint(
        "context-over-model",
        r"derived max_model_len \([a-z_]+=(\d{1,12})",
        "the model's context is shorter",
        ("--context {0}",),
    ),
    Hint(
        "too-many-sequences",
        r"exceeds available Mamba cache blocks \((\d{1,9})\)",
        "serve fewer requests at a time, or give them more memory",
        ("--set max-num-seqs={blocks}", "--memory {more_memory}%", "--gpus {more_gpus}"),
        _at_least_one,
    ),
    Hint(
        "warm-up-out-of-memory",
        r"out of memory occurred when warming up .{1,80}with (\d{1,9}) dummy requests",
        "serve fewer requests at a time, or leave more memory free",
        ("--set max-num-seqs={fewer}", "--memory {less_memory}%", "--gpus {more_gpus}"),
        _fewer,
    ),
    Hint(
        "batch-below-context",
        r"is smaller than max_model_len \((\d{1,9})\)",
        "give a batch as many tokens as the context",
        ("--set max-num-batched-tokens={0}",),
    ),
    Hint(
        "batch-below-block",
        r"block_size \((\d{1,9})\) must be <= max_num_batched_tokens",
        "give a batch as many tokens as a block of the cache",
        ("--set max-num-batched-tokens={0}",),
    ),
    Hint(
        "batch-below-sequences",
        r"max_num_batched_tokens \((\d{1,9})\) must be greater than or equal to max_num_seqs",
        "each sequence needs a token of a batch",
        ("--set max-num-seqs={0}",),
    ),
    Hint(
        "batch-below-image",
        r"max_tokens_per_mm_item \((\d{1,9})\) is larger than max_num_batched_tokens",
        "give a batch as many tokens as an image",
        ("--set max-num-batched-tokens={0}",),
    ),
    Hint(
        "no-room-for-cache",
        r"requested memory for kv \(-|No available memory for the cache blocks|Cannot auto-fit max_model_len"
        r"|available KV cache memory",
        "no memory is left for the context after the weights",
        (
            "--memory {more_memory}%",
            "--gpus {more_gpus}",
            "--variant {smaller}",
            "--set kv-cache-dtype=fp8",
            BIGGER_POD,
        ),
    ),
    Hint(
        "memory-in-use",
        r"\((\d{1,6}(?:\.\d{1,4})?)/(\d{1,6}(?:\.\d{1,4})?) GiB\) on startup is less than desired",
        "another process uses that memory, and {gib} GB are free",
        ("pi stop it", "--memory {free}%"),
        _free_share,
    ),
    Hint(
        "cache-over-memory",
        r"\((\d{1,6}(?:\.\d{1,4})?)/[\d.]{1,12} GiB\) on kv cache allocation is less than requested memory for kv"
        r" \([\d.]{1,12} GiB\)",
        "the main memory has no room for such a KV cache",
        ("--env VLLM_CPU_KVCACHE_SPACE={half}", "--context {shorter_context}", "use a pod with more main memory"),
        _half_of_it,
    ),
    Hint(
        "memory-in-use",
        r"on kv cache allocation",
        "another process uses that memory",
        ("pi stop it", "--memory 50%"),
    ),
    Hint(
        "memory-freed",
        r"Error in memory profiling",
        "another process freed GPU memory while vLLM measured it: start again when none starts or ends there",
    ),
    Hint(
        "graphs-out-of-memory",
        r"(?:out of memory|OutOfMemoryError)[\s\S]*^in (?:capture_model|profile_cudagraph_memory"
        r"|_?capture_(?:graph|cudagraph|end)\w*)",
        "no memory is left for CUDA graphs",
        ("--memory {less_memory}%", "--set max-num-seqs={fewer_sequences}", "--set enforce-eager"),
    ),
    Hint(
        "weights-over-memory",
        r"(?:out of memory|OutOfMemoryError)[\s\S]*^in (?:load_model|create_weights|load_weights"
        r"|process_weights_after_loading)"
        r"|Failed to load model - not enough GPU memory",
        "the weights do not fit on the GPU",
        ("--gpus {more_gpus}", "--variant {smaller}", BIGGER_POD),
    ),
    Hint(
        "encoder-over-memory",
        r"(?:out of memory|OutOfMemoryError)[\s\S]*^in (?:embed_multimodal|get_multimodal_embeddings"
        r"|_process_(?:image|video|audio)_input)",
        "the GPU is full when vLLM tries its largest image (--text-only loads no encoder)",
        ("--set max-num-seqs={fewer_sequences}", "--gpus {more_gpus}", BIGGER_POD),
    ),
    Hint(
        "activations-over-memory",
        r"(?:out of memory|OutOfMemoryError)[\s\S]*^in (?:profile_run|_dummy_run|determine_available_memory)",
        "the GPU is full when vLLM tries its largest batch",
        ("--set max-num-batched-tokens=2048", "--set max-num-seqs={fewer_sequences}", "--gpus {more_gpus}", BIGGER_POD),
    ),
    Hint(
        "gpu-out-of-memory",
        r"(?:CUDA|HIP) out of memory|CUDA error: out of memory|OutOfMemoryError|CUBLAS_STATUS_(?:ALLOC_FAILED"
        r"|NOT_INIT)"
        r"|Cuda failure 2? ?'out of memory'|cudaErrorMemoryAllocation|CUDNN_STATUS_ALLOC_FAILED",
        "the GPU is full",
        ("--gpus {more_gpus}", "--memory {less_memory}%", "--variant {smaller}", "pi stop another model"),
    ),
    Hint(
        "build-killed",
        r"Killed signal terminated program|died due to signal 9|(?:^|: )Killed$[\s\S]*(?:[Nn]inja|nvcc|non-zero exit)",
        "a compiler was killed, mostly for lack of main memory",
        ("--env MAX_JOBS=1", "use a pod with more main memory"),
    ),
    Hint(
        "main-memory-full",
        r"Cannot allocate memory|^MemoryError(?! in parse_safetensors)|DefaultCPUAllocator|main memory was full"
        r"|std::bad_alloc|cudaHostAlloc"
        r"|unable to mmap",
        "the pod's main memory is full: choose a smaller model, or a pod with more memory",
    ),
)
