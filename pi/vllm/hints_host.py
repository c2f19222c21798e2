"""Hints: compilers, libraries, Python packages and limits of the pod's system, and crashes."""

from __future__ import annotations

import re

from pi.vllm.hint import Hint, Values
from pi.vllm.hints_start import SETUP

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


INSTALL = "on the pod, uv pip install -p ~/{venv} "

APT = "on the pod as root, apt-get install -y "

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
    # Packages
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
        "user-without-name",
        r"getpwuid\(\): uid not found",
        "the user that runs vLLM has no name there: add a line for it to /etc/passwd",
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
        r"cannot import name '\w+' from 'transformers|module transformers\S* has no attribute|from 'transformers\.",
        "{vllm} and transformers on the pod do not belong together",
        (f"run {SETUP} again", f"{INSTALL}-U transformers"),
    ),
    Hint(
        "fork-after-cuda",
        r"Cannot re-initialize CUDA in forked",
        "a process used CUDA before it was copied",
        ("--env VLLM_WORKER_MULTIPROC_METHOD=spawn",),
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
        r"^in \S*(?:flash|Flash|attention|Attention)|flash_attn|flashinfer",
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
        "ended-silently",
        r"unexpectedly$|exit code: None|wrote no reason",
        "the log has no reason; dmesg on the pod shows whether the kernel ended it",
        ("--env VLLM_LOGGING_LEVEL=DEBUG",),
    ),
)
