"""Hints: GPUs, their drivers, and the links between them."""

from __future__ import annotations

import re

from pi.vllm.hint import Hint, Values
from pi.vllm.hints_start import SETUP


def _divisor(match: re.Match[str]) -> Values:
    heads = int(match[1])
    return {"divisor": next((size for size in (8, 4, 2, 1) if heads % size == 0), None)}


NO_P2P = "--env NCCL_P2P_DISABLE=1 --set disable-custom-all-reduce"

OTHER_POD = "use another pod, because this hardware is broken"

KERNELS = (
    "--set attention-backend=TRITON_ATTN",
    "--set enforce-eager",
    f"install a newer vLLM: {SETUP} --vllm nightly",
)

HINTS = (
    Hint(
        "too-few-gpus",
        r"number of available GPUs \((\d{1,4})\)|invalid device ordinal",
        "vLLM sees fewer GPUs than it should use (nvidia-smi -L on the pod lists them)",
        ("--gpus {0}", "--gpus {fewer_gpus}", "use a pod with more GPUs"),
    ),
    Hint(
        "heads-not-divisible",
        r"attention heads \((\d{1,6})\) must be divisible",
        "the number of GPUs must divide {0}",
        ("--gpus {divisor}",),
        _divisor,
    ),
    Hint(
        "one-gpu-only",
        r"[Tt]ensor.{0,10}parallel\w* (?:is )?(?:currently )?not supported",
        "vLLM cannot split this model",
        ("--gpus 1", "use another variant of the model"),
    ),
    Hint(
        "weights-not-divisible",
        r"exceeds dimension size|heads % (?:self\.)?tp_size|% (?:self\.)?tp_size == 0|is not divisible by"
        r" (?:\d+|weight quantization block_|min_thread_|the number of|tensor|tp_size)"
        r"|divisible by tp|not aligned with the quantized weight shape|too large tensor parallel size"
        r"|must be divisible by .{0,30}block",
        "the weights cannot be split over so many GPUs",
        ("--gpus {fewer_gpus}", "--set enable-expert-parallel", "--variant {smaller}", "use another number of GPUs"),
    ),
    Hint(
        "hardware-broken",
        r"uncorrectable (?:ECC|NVLink) error|fallen off the bus|GPU is lost|GPU requires reset|hardware stack error"
        r"|Xid.{0,40}: (?:48|63|64|74|79|94|95),|row remap",
        "a GPU is broken: report it to the provider, and use another pod",
    ),
    Hint(
        "gpu-busy",
        r"devices? ?(?:\(s\) is/are|are|is) busy or unavailable",
        "another process uses {card} alone, or a broken driver blocks it: nvidia-smi on the pod shows which",
        ("pi stop it", "reboot the pod", OTHER_POD),
    ),
    Hint(
        "driver-too-old",
        r"NVIDIA driver on your system is too old|unsupported toolchain|unsupported PTX"
        r"|driver version is insufficient|not supported in the installed CUDA driver"
        r"|cudaErrorInsufficientDriver|PTX JIT compil",
        "the pod's NVIDIA driver is older than the CUDA of {vllm}: choose an image or a pod with a newer driver",
    ),
    Hint(
        "fabric-down",
        r"Error 802|system not yet initialized",
        "the GPUs' fabric is down: start nvidia-fabricmanager on the pod, or reboot it",
    ),
    Hint(
        "driver-mismatch",
        r"Error 80[34]|LibRmVersionMismatch|NVML/RM version|Driver/library version mismatch|unsupported display driver"
        r"|forward compatibility was attempted",
        "the pod's NVIDIA driver and libraries differ: reboot it, or choose another image",
    ),
    Hint(
        "link-missing",
        r"cannot find -lcuda\b|undefined reference to .cu[A-Z]",
        "the linker finds no libcuda.so: on the pod, as root: ldconfig; ln -s libcuda.so.1 beside it as libcuda.so"
        "; if there is none, run the container with the driver (NVIDIA_DRIVER_CAPABILITIES=all)",
    ),
    Hint(
        "nvml-unsupported",
        r"NVMLError_(?:NotSupported|NoPermission|Unknown)",
        "this driver does not tell vLLM about {card}, as on Jetson, DGX Spark or a virtual GPU",
        (f"install a newer vLLM: {SETUP} --vllm nightly", "use a pod with a whole GPU of a data centre"),
    ),
    Hint(
        "slice-by-name",
        r"'MIG-[0-9a-f-]{8,60}'",
        "{vllm} takes slices of a GPU (MIG) by number: CUDA_VISIBLE_DEVICES=0 in the pod's own environment",
    ),
    Hint(
        "no-gpu-visible",
        r"No HIP GPUs|hipErrorNoDevice|amdsmi",
        "vLLM sees no GPU: look at rocm-smi on the pod; its container needs /dev/kfd and /dev/dri",
    ),
    Hint(
        "no-gpu-visible",
        r"No CUDA GPUs are available|no CUDA-capable device|infer device type|cudaGetDeviceCount|libcuda\.so"
        r"|NVML.{0,40}(?:not found|Not Found|Uninit)|0 active drivers",
        f"vLLM sees no GPU: look at nvidia-smi on the pod, then run {SETUP} again",
    ),
    Hint(
        "bfloat16-unsupported",
        r"--dtype[= ]half|[Bb]float16 is only supported",
        "{card} has no bfloat16",
        ("--set dtype=half",),
    ),
    Hint(
        "toolkit-too-old",
        r"[Uu]nsupported gpu architecture|is not defined for option '?gpu-name|No supported CUDA architectures"
        r"|unrecognized.{0,20}sm_\d+|does not support \.target",
        "the pod's CUDA toolkit is older than {card}: choose an image with a newer toolkit",
        ("--set attention-backend=FLASH_ATTN", f"install a newer vLLM: {SETUP} --vllm nightly"),
    ),
    Hint(
        "gpu-too-new",
        r"no kernel image is available|invalid value for --gpu-architecture|device kernel image is invalid",
        f"{{vllm}} is not built for {{card}}: {SETUP} --vllm nightly, or another GPU",
    ),
    Hint(
        "cache-format-unsupported",
        r"kv_cache_dtype=fp8.{0,400}kv_cache_dtype not supported|[Ff][Pp]8 (?:KV|kv).?cache.{0,40}not (?:yet )?support",
        "{card} cannot keep the context in this format",
        ("--set kv-cache-dtype=auto",),
    ),
    Hint(
        "attention-unsupported",
        r"MLA\w{0,30} (?:\w{1,30} )?(?:is )?not supported|_flashmla",
        "this attention does not run on {card}",
        ("--set attention-backend=TRITON_MLA", f"install a newer vLLM: {SETUP} --vllm nightly"),
    ),
    Hint(
        "attention-unsupported",
        r"FlashAttention (?:\d )?(?:forward )?only supports|only supported in FlashAttention"
        r"|[Hh]ead ?dim\w* .{0,20}at most",
        "FlashAttention does not run this model on {card}",
        ("--set attention-backend=TRITON_ATTN", "--set attention-backend=FLASHINFER"),
    ),
    Hint(
        "attention-unsupported",
        r"Selected backend .{1,80} is not valid|No valid attention backend|[Hh]ead ?size .{1,40} not supported"
        r"|FlashInfer .{0,60}not support|[Ss]inks? .{0,40}not supported|attention backend",
        "this attention does not run on {card}",
        ("--set attention-backend=TRITON_ATTN", "--set attention-backend=FLASH_ATTN"),
    ),
    Hint(
        "kernel-too-large",
        r"OutOfResources|out of resource: shared memory|too many resources requested",
        "a kernel needs more than {card} has",
        ("--set attention-backend=FLASH_ATTN", "--set enforce-eager", "--variant {smaller}", "use a newer GPU"),
    ),
    Hint(
        "format-unsupported",
        r"not implemented for (?:Blackwell|Hopper|Ada|SM)|Marlin does not support"
        r"|No compressed-tensors compatible scheme|No \w{1,20} (?:MoE|linear) backend"
        r"|Failed to find a kernel that can implement|Unsupported quantization config",
        "{vllm} has no kernel for this format on {card}",
        ("--variant {smaller}", "use another variant of the model", f"install a newer vLLM: {SETUP} --vllm nightly"),
    ),
    Hint(
        "format-unsupported",
        r"not supported for the current GPU|compute capability|fp8e4nv not supported|not supported on .{0,20}sm_?\d+",
        "{card} cannot run this format",
        ("--variant {smaller}", "use another variant of the model", "use a newer GPU"),
    ),
    Hint(
        "capture-failed",
        r"stream is capturing|during capture|StreamCapture|cudaGraph\w*(?:Error|Fail)",
        "CUDA graphs do not work with this model here",
        ("--set enforce-eager", f"install a newer vLLM: {SETUP} --vllm nightly"),
    ),
    Hint(
        "moe-kernel-failed",
        r"TensorRT-LLM\]|TMA WS|trtllm\w*moe|cutlass_fused_moe|grouped gemm",
        "FlashInfer's kernel for experts does not run on {card}",
        ("--set moe-backend=marlin", "--set moe-backend=triton", f"install a newer vLLM: {SETUP} --vllm nightly"),
    ),
    Hint(
        "library-shadowed",
        r"CUBLAS_STATUS_(?:INVALID_VALUE|NOT_SUPPORTED)",
        "cuBLAS rejects a call, mostly because an older one comes first on the pod",
        ("remove LD_LIBRARY_PATH from its environment", f"run {SETUP} again"),
    ),
    Hint(
        "offload-unsupported",
        r"UVA is not available|UVA.{0,40}not supported",
        "the GPU cannot use main memory here, as under WSL: leave --cpu-offload-gb out",
    ),
    # Links between GPUs
    Hint(
        "fused-allreduce-failed",
        r"SymmDeviceMemory|mnnvl|allreduce_fusion|trtllm_allreduce",
        "the GPUs have no switch that FlashInfer's all-reduce needs",
        ("--env VLLM_ALLREDUCE_USE_FLASHINFER=0", "--gpus 1"),
    ),
    Hint(
        "same-gpu-twice",
        r"Duplicate GPU detected",
        "two of vLLM's processes use the same GPU, as with slices of one GPU (MIG)",
        ("--gpus 1", "use a pod with whole GPUs"),
    ),
    Hint(
        "nccl-sharing-failed",
        r"ncclCuMem|cuMem(?:Create|Host|Import|Map)|cuMem\w* (?:failed|error)|NCCL_CUMEM",
        "NCCL cannot share memory between the GPUs here",
        ("--env NCCL_CUMEM_ENABLE=0 --env NCCL_CUMEM_HOST_ENABLE=0", "--env NCCL_P2P_DISABLE=1", "--gpus 1"),
    ),
    Hint(
        "nccl-multicast-failed",
        r"NVLS|nvls|[Mm]ulticast",
        "NCCL cannot use the switch between the GPUs",
        ("--env NCCL_NVLS_ENABLE=0", "start nvidia-fabricmanager on the pod"),
    ),
    Hint(
        "symmetric-memory-failed",
        r"pidfd_getfd|SymmetricMemory|SymmMem|symm_mem|^in rendezvous",
        "the container forbids its processes to share GPU memory",
        ("--env VLLM_ALLREDUCE_USE_SYMM_MEM=0", "run it with --cap-add=SYS_PTRACE"),
    ),
    Hint(
        "peers-unreachable",
        r"peer access|custom_all_reduce|custom_ar|CustomAllreduce|mapping of buffer object"
        r"|[Ww]atchdog caught collective"
        r"|collective operation timeout|No available shared memory broadcast block|cudaIpc|P2P|p2p",
        "the GPUs cannot reach each other's memory",
        (NO_P2P, "--gpus 1", "use a pod whose GPUs have NVLink"),
    ),
    Hint(
        "worker-too-slow",
        r"RPC call to \S+ timed out|wait timeout after \d+ms",
        "a worker did not answer in time: it hangs, or it works longer than vLLM waits",
        (NO_P2P, "--env VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS=1800"),
    ),
    Hint(
        "interface-missing",
        r"Unable to find address for: ?([\w.-]{1,40})",
        "the pod has no network interface {0}: unset GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME in its environment",
    ),
    Hint(
        "processes-apart",
        r"connectFullMesh|gloo/transport|client socket has (?:failed|timed out)|seconds waiting for clients",
        "vLLM's processes cannot reach each other: the name that hostname prints on the pod must lead to 127.0.0.1 in"
        " /etc/hosts",
    ),
    Hint(
        "nccl-network",
        r"no socket interface found|socketStartConnect|No route to host|Net/Socket|socketPollConnect",
        "NCCL finds no network between vLLM's processes: the pod needs a loopback interface that is up",
    ),
    Hint(
        "nccl-failed",
        r"NCCL error|nccl\w+Error|NCCL WARN|Cuda failure",
        "the GPUs cannot talk to each other; --env NCCL_DEBUG=INFO shows more",
        (NO_P2P, "--gpus 1", "give the container a larger /dev/shm"),
    ),
    Hint(
        "gpu-kernel-crashed",
        r"illegal memory access|device-side assert|misaligned address|illegal instruction was"
        r"|unspecified launch failure"
        r"|CUDA error \(|CUBLAS_STATUS_(?:EXECUTION_FAILED|INTERNAL_ERROR)|CUDNN_STATUS|cudaErrorLaunch"
        r"|invalid argument$",
        "a GPU kernel crashed; if it happens with every model, the GPU is broken",
        KERNELS,
    ),
    Hint(
        "gpu-failed",
        r"CUDA (?:driver )?error|cudaError\w+",
        "the GPU or its driver failed: look at nvidia-smi and dmesg on the pod, reboot it, or use another pod",
    ),
)
