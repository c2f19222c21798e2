"""Hints: compilers and limits of the pod's system, and crashes."""

from __future__ import annotations

from pi.vllm.hint import Hint
from pi.vllm.hints_start import APT, INSTALL, SETUP

TOOLKIT = f"install the CUDA toolkit: run {SETUP} again"

NO_FLASHINFER = ("--set attention-backend=FLASH_ATTN --env VLLM_USE_FLASHINFER_SAMPLER=0", TOOLKIT)

HINTS = (
    # Compilers and linkers
    Hint(
        "nvcc-missing",
        r"[Cc]ould not find nvcc|nvcc: (?:command )?not found|No such file or directory: '(?:/\S{0,200}/)?(?:nvcc"
        r"|cicc|ptxas)'"
        r"|CUDA_HOME environment variable is not set|/nvcc: not found|nvcc: No such file",
        "vLLM wants to compile a kernel, and the pod has no nvcc",
        NO_FLASHINFER,
    ),
    Hint(
        "toolkit-incomplete",
        r"fatal error: (?:cuda|cu|nv|cub|curand|cublas|cusparse|cusolver|cufft|thrust"
        r"|nccl)[\w/.]{0,40}\.h(?:pp)?: No such"
        r"|cannot find -l(?:cudart|cublas|curand|nvrtc|cusparse)",
        "the pod's CUDA toolkit is incomplete",
        (f"{APT}cuda-toolkit", *NO_FLASHINFER[:1]),
    ),
    Hint(
        "python-headers-missing",
        r"fatal error: Python\.h",
        "Python's headers are missing",
        (f"{APT}python3-dev", f"{SETUP} with uv's Python"),
    ),
    Hint(
        "compiler-missing",
        r"Failed to find C compiler|InvalidCxxCompiler|No working C\+\+ compiler"
        r"|(?:No such file or directory: '|^)(?:/\S{0,200}/)?(?:gcc|g\+\+|cc|c\+\+|clang|x86_64-linux-gnu-g(?:cc"
        r"|\+\+))"
        r"(?:'|: (?:command )?not found)|sh: .{0,40}\b(?:gcc|g\+\+|cc|c\+\+): (?:command )?not found"
        r"|cc1plus.{0,20}No such",
        "the pod has no compiler",
        (f"{APT}build-essential",),
    ),
    Hint(
        "ninja-missing",
        r"(?:No such file or directory: '(?:/\S{0,200}/)?ninja'|ninja: (?:command )?not found|Ninja is required)",
        "the pod has no ninja",
        (f"{INSTALL}ninja",),
    ),
    Hint(
        "compiler-too-new",
        r"unsupported GNU version|unsupported Microsoft|host compiler",
        "the pod's compiler is newer than its CUDA toolkit allows: install an older one, such as g++-12",
        NO_FLASHINFER[:1],
    ),
    # Limits
    Hint(
        "too-many-threads",
        r"can't start new thread|pthread_create failed|[Tt]hread creation failed|Resource temporarily unavailable"
        r"|unable to (?:create|start) .{0,20}thread|Could not create.{0,20}thread|fork: retry",
        "the pod's limit of processes and threads is reached: raise it (ulimit -u, --pids-limit of the container)",
        ("--env OMP_NUM_THREADS=1", "stop other programs there"),
    ),
    Hint(
        "infiniband-failed",
        r"\bibv_\w+.{0,80}(?:fail|error|Cannot)|Call to ibv_|NET/IB.{0,80}(?:fail|error)",
        "NCCL cannot use the pod's InfiniBand",
        (
            "--env NCCL_IB_DISABLE=1",
            "raise the limit of locked memory (ulimit -l unlimited, --ulimit memlock=-1 of the container)",
        ),
    ),
    Hint(
        "too-many-files",
        r"Too many open files",
        "the pod's limit of open files is reached: raise it with ulimit -n 65536 in the pod's ~/.profile",
    ),
    # Processes
    Hint(
        "fork-after-cuda",
        r"Cannot re-initialize CUDA in forked",
        "a process used CUDA before it was copied",
        ("--env VLLM_WORKER_MULTIPROC_METHOD=spawn",),
    ),
    Hint(
        "build-locked",
        r"(?:Timed out waiting for|[Cc]ould not acquire|Failed to acquire).{0,40}lock\W"
        r".{0,40}?(/[\w.+/-]{1,300}\.lock)",
        "another process builds the same, or one that was killed left its lock: wait, or on the pod, rm {0}",
    ),
    Hint(
        "cache-damaged",
        r"corrupted compilation artifact|(?:torch_compile_cache|torchinductor|inductor_cache|\.triton/cache"
        r"|cached_ops)[\s\S]{0,400}"
        r"(?:EOFError|UnpicklingError|BadZipFile|FileNotFoundError|JSONDecodeError|file too short|invalid ELF)"
        r"|(?:EOFError|UnpicklingError|FileNotFoundError|file too short)[\s\S]{0,200}"
        r"(?:torch_compile_cache|torchinductor|\.triton/cache|cached_ops)",
        "a cache of compiled kernels is damaged: on the pod,"
        " rm -rf ~/.cache/vllm/torch_compile_cache ~/.cache/flashinfer ~/.triton /tmp/torchinductor_*",
    ),
    Hint(
        "engine-too-slow",
        r"Timed out waiting for engine core|did not (?:start|become ready) within|READY_TIMEOUT",
        "the engine needed longer than vLLM waits",
        ("--env VLLM_ENGINE_READY_TIMEOUT_S=3600",),
    ),
)

LAST = (
    Hint(
        "deep-gemm-failed",
        r"DeepGEMM|deep_gemm",
        "DeepGEMM does not work here",
        ("--env VLLM_USE_DEEP_GEMM=0", f"install a newer vLLM: {SETUP} --vllm nightly"),
    ),
    Hint(
        "packages-differ",
        r"([A-Za-z][\w.-]{0,40}(?:[<>=!~]=?[\w.]{1,20},?){1,4}) is required for a normal functioning of this module",
        "a Python package has another version than transformers needs",
        (f"{INSTALL}'{{0}}'", f"run {SETUP} again"),
    ),
    Hint(
        "packages-missing",
        r"pip3? install (?:-U |--upgrade |-q )?[`'\"]?([A-Za-z][\w.-]{1,40}(?:\[\w{1,20}\])?(?:(?:==|>=|<=|<"
        r"|>)[\w.]{1,20})?)"
        r"(?=[`'\",\s]|\.?$|\.\s)",
        "a Python package is missing or too old",
        (f"{INSTALL}-U '{{0}}'",),
    ),
    Hint(
        "packages-missing",
        r"[Pp]lease install [`'\"]?(?!it\b|them\b|the\b|a\b"
        r"|an\b)([A-Za-z][\w.-]{1,40}(?:\[\w{1,20}\])?)(?=[`'\",.\s]|$)",
        "a Python package is missing",
        (f"{INSTALL}'{{0}}'",),
    ),
    Hint(
        "vllm-incomplete",
        r"PackageNotFoundError|undefined symbol|_OpNamespace|Could not run '_\w+::|not compiled with CUDA"
        r"|cannot open shared object|torchvision::nms|cannot import name"
        r"|vllm\._C",
        f"vLLM on the pod is incomplete, or its packages do not belong together: run {SETUP} again",
    ),
    Hint(
        "build-failed",
        r"Ninja build failed|returned non-zero exit status|NVCC compilation failed|Failed to compile|InductorError"
        r"|Error (?:building extension|compiling)|CompilationError|BackendCompilerFailed|CppCompileError",
        "a kernel could not be compiled here",
        (
            "--set attention-backend=FLASH_ATTN --env VLLM_USE_FLASHINFER_SAMPLER=0",
            "--set enforce-eager",
            "on the pod, rm -rf ~/.cache/flashinfer ~/.cache/vllm ~/.triton",
        ),
    ),
    Hint(
        "stopped-from-outside",
        r"SIG(?:TERM|INT|HUP|QUIT|USR1|USR2)\b",
        "something else on the pod stopped vLLM, such as its provider, a supervisor or another user",
    ),
    Hint(
        "processor-too-old",
        r"SIGILL|Illegal instruction",
        "{vllm} needs a newer processor than the pod has: choose another pod",
    ),
    Hint(
        "killed",
        r"^killed from outside|: killed from outside|exit code: -9\)|^(?:\S+: line \d+: +\d+ )?Killed\b",
        "dmesg on the pod shows what the kernel killed; a smaller model or a pod with more main memory helps",
    ),
    Hint(
        "native-crash",
        r"(?:Segf|SIG[A-Z]{3}|Fatal|Abort|terminate called)[\s\S]*"
        r"(?:^in \S*(?:[Ff]lash|[Aa]ttention)|flash_attn|flashinfer)",
        "native code crashed, not for lack of memory",
        ("--set attention-backend=TRITON_ATTN", "--set enforce-eager", f"install a newer vLLM: {SETUP} --vllm nightly"),
    ),
    Hint(
        "native-crash",
        r"Segfault|SIGSEGV|SIGABRT|SIGFPE|Segmentation fault|Aborted|Fatal Python error|terminate called"
        r"|Assertion .+ failed"
        r"|double free|corrupted (?:size|double)|or corruption|invalid pointer|stack smashing|buffer overflow"
        r"|LLVM ERROR|invalid next size|invalid size"
        r"|unaligned|exit code: -\d",
        "native code crashed, not for lack of memory",
        (
            "--set enforce-eager",
            f"install another vLLM: {SETUP} --vllm nightly",
            "use another pod, if other models crash too",
        ),
    ),
    Hint(
        "attention-failed",
        r"flash_attn|flashinfer",
        "the kernels of FlashAttention or FlashInfer do not work here",
        ("--set attention-backend=TRITON_ATTN", f"run {SETUP} again", f"install a newer vLLM: {SETUP} --vllm nightly"),
    ),
    Hint(
        "ended-silently",
        r"unexpectedly$|exit code: None|wrote no reason",
        "the log has no reason; dmesg on the pod shows whether the kernel ended it",
        ("--env VLLM_LOGGING_LEVEL=DEBUG",),
    ),
)
