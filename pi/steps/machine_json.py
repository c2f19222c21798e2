"""The JSON of `pi pods check`, `pi cache` and `pi doctor`. See pi.steps.json_shapes."""

from __future__ import annotations

from typing import Literal, TypedDict

from pi.steps.json_shapes import ErrorJson


class FindingJson(TypedDict):
    """One thing about a machine that stops its setup or that its user should know."""

    step: str
    text: str
    hint: str


class CardJson(TypedDict):
    """A GPU of a machine that is not a pod yet."""

    id: int
    name: str
    memory_mib: int


class LineJson(TypedDict):
    """How fast a machine reads from an index or a hub; `problem` says why it cannot."""

    host: str
    bytes_per_s: int | None
    problem: str | None


class DiskJson(TypedDict):
    """Free bytes where the home and the models are."""

    home: int
    models: int


class CheckJson(TypedDict):
    """`pi pods check --json`. `setup_s` is about how long setup takes, `fits` are models that run on the machine."""

    ok: bool
    problems: list[FindingJson]
    notes: list[FindingJson]
    device: str
    gpus: list[CardJson]
    cuda: str | None
    system: str
    arch: str
    glibc: str | None
    python: str
    user: str
    rights: Literal["root", "sudo", "none"]
    memory_mib: int
    cpus: int
    disk_free_bytes: DiskJson
    taken_ports: list[int]
    mapped_ports: dict[str, str]
    network: list[LineJson]
    vllm_version: str | None
    download_gb: float
    setup_s: int | None
    fits: list[str]


class PodCheckJson(TypedDict):
    """A check of one of several pods; with `error`, the pod did not answer, or setup would stop there."""

    pod: str
    error: ErrorJson | None
    check: CheckJson | None


class ChecksJson(TypedDict):
    """`pi pods check --json` for several pods."""

    pods: list[PodCheckJson]


class CachedModelJson(TypedDict):
    """A model in a pod's cache.

    `unfinished_bytes` of `size_bytes` are files of downloads that did not end. `used_by` are names of models that run
    with it, `fetched_by_pids` processes that download it now.
    """

    model: str
    size_bytes: int
    unfinished_bytes: int
    used_seconds_ago: float | None
    used_by: list[str]
    fetched_by_pids: list[int]


class CompiledCodeJson(TypedDict):
    """What vLLM compiled for one vLLM, PyTorch, CPU and kind of GPU. `used_by` are models that run with it."""

    name: str
    folder: str
    size_bytes: int
    used_seconds_ago: float | None
    used_by: list[str]


class CacheJson(TypedDict):
    """`pi cache --json`, the largest model first."""

    pod: str
    folder: str
    free_bytes: int
    models: list[CachedModelJson]
    compiled: list[CompiledCodeJson]


class PodCacheJson(TypedDict):
    """The cache of one of several pods; with `error`, the pod did not answer."""

    pod: str
    error: ErrorJson | None
    cache: CacheJson | None


class CachesJson(TypedDict):
    """`pi cache --json` for several pods."""

    pods: list[PodCacheJson]


class CheckedJson(TypedDict):
    """One check of `pi doctor`. `fix` is the command or the step that fixes it."""

    place: Literal["here", "pod"]
    check: str
    level: Literal["ok", "warning", "failure"]
    text: str
    fix: str | None


class DoctorJson(TypedDict):
    """`pi doctor --json`. `ok` is false if a check failed; pi then exits with 1."""

    pod: str | None
    ok: bool
    checks: list[CheckedJson]


class PodDoctorJson(TypedDict):
    """The checks of one of several pods."""

    pod: str
    ok: bool
    checks: list[CheckedJson]


class DoctorsJson(TypedDict):
    """`pi doctor --json` for several pods: the checks of this machine in `here`, and those of each pod."""

    ok: bool
    here: list[CheckedJson]
    pods: list[PodDoctorJson]
