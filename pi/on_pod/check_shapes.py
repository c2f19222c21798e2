"""Shapes of a check of a machine before its setup (see `pi.on_pod.shapes`)."""

from __future__ import annotations

from typing import Dict, List, Literal, Optional, TypedDict

from pi.on_pod.shapes import NvidiaSmi, Provider

Rights = Literal["root", "sudo", "none"]
"""How setup may install packages of the system."""


class CheckRequest(TypedDict):
    """`models_path` is the requested folder for models; `addresses` are pages whose host pi measures."""

    gpu_query: str
    models_path: Optional[str]
    addresses: List[str]


class FolderFacts(TypedDict):
    """`problem` says why the folder cannot be used; `runs` is false if programs in it do not run."""

    path: str
    free_bytes: int
    problem: Optional[str]
    runs: bool


class VenvFacts(TypedDict):
    """The version of its Python, None if that does not run, and whether pi made the venv."""

    python: Optional[str]
    made_by_pi: bool


class LineFacts(TypedDict):
    """How fast bytes come from a host (None: not measured), or why none come."""

    host: str
    bytes_per_s: Optional[int]
    problem: Optional[str]


class _CheckOption(TypedDict, total=False):
    provider: Optional[Provider]


class CheckAnswer(_CheckOption):
    """What a machine has before its setup.

    `cuda` is the newest CUDA that the driver supports, `package_lock` the process that installs packages now,
    `time_s` the pod's clock in seconds since 1970. `hides_variables`: the container's variables cannot be read.
    `provider` can stop the pod.
    """

    gpus: NvidiaSmi
    cuda: Optional[str]
    system: str
    arch: str
    glibc: Optional[str]
    python: str
    user: str
    rights: Rights
    memory_mib: int
    cpus: int
    home: FolderFacts
    temporary: FolderFacts
    models: FolderFacts
    programs: List[str]
    has_apt: bool
    package_lock: Optional[str]
    time_s: float
    vllm_version: Optional[str]
    venv: Optional[VenvFacts]
    hub_variables: Dict[str, str]
    ports: List[int]
    public: Dict[str, str]
    hides_variables: bool
    lines: List[LineFacts]
    boot: str
    machine: str
