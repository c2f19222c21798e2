"""Shapes of `pull` and `cache`, which work on the hub's cache of a pod (see `pi.on_pod.shapes`)."""

from __future__ import annotations

from typing import Dict, List, Optional, TypedDict

from pi.on_pod.shapes import Repository


class PullRequest(TypedDict):
    """`name` is the requested model, for the log of changes; `hub_environment` are variables of the downloads."""

    name: str
    repositories: List[Repository]
    hub_environment: Dict[str, str]


class PulledRepository(TypedDict):
    """A repository that is whole on the pod now, and whether it was there before."""

    model: str
    was_there: bool
    size_bytes: int


class CacheRequest(TypedDict):
    """The model or compiled code to delete; None only lists."""

    name: Optional[str]


class CachedModel(TypedDict):
    """A repository in the hub's cache.

    `unfinished_bytes` of its `size_bytes` are files of downloads that did not end. `used_by` are deployments that run
    with it; `fetched_by` are processes that download it.
    """

    model: str
    size_bytes: int
    unfinished_bytes: int
    used_s_ago: Optional[float]
    used_by: List[str]
    fetched_by: List[int]


class CompiledCode(TypedDict):
    """What vLLM compiled for one vLLM, PyTorch, CPU and kind of GPU. `used_by` are deployments that run with it.

    `code` is the name of its folder.
    """

    code: str
    folder: str
    size_bytes: int
    used_s_ago: Optional[float]
    used_by: List[str]


class CacheAnswer(TypedDict):
    """The repositories of the hub's cache, its folder, the free space of its disk, and compiled code."""

    folder: str
    free_bytes: int
    models: List[CachedModel]
    compiled: List[CompiledCode]


class RemovedAnswer(TypedDict):
    """A model or a folder of compiled code that is gone."""

    model: str
    size_bytes: int
