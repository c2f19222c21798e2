"""Pods and the models on them, as pi knows them: the types of pods.json."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pi.errors import InputError
from pi.pods.gpus import Gpu

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What a pod or deployment may be called (matched whole); it becomes a file name on the pod."""


Status = Literal["starting", "running"]


@dataclass(frozen=True)
class Owner:
    """The pi that starts a model: its process, the machine it runs on, and since when (seconds since 1970)."""

    pid: int
    host: str
    since: float
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def this(cls) -> Owner:
        return cls(os.getpid(), os.uname().nodename, time.time())

    def is_gone(self) -> bool:
        """Whether it certainly no longer runs; of another machine's processes nothing is known."""
        if self.host != os.uname().nodename:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


@dataclass(frozen=True)
class Deployment:
    """A model started under a name. `pid` is vLLM's API server on the pod; with `started` (clock ticks since
    boot, /proc/PID/stat field 22) and `boot_id` it names one process and no other. In status `starting` it is a
    reservation: `owner` starts it, and the pid is 0 until the pod has told it."""

    name: str
    model: str
    port: int
    gpus: tuple[int, ...]
    pid: int
    status: Status = "running"
    started: int = 0
    boot_id: str = ""
    instance: str = ""
    memory_share: float | None = None
    """Share of each GPU's memory it was given, 0 to 1; None when its own arguments decide."""
    owner: Owner | None = None
    api: str = "chat"
    """Which API serves it: "responses" if its chat API lacks tools or reasoning, else "chat"."""
    private: bool = False
    """Whether it listens on the pod's loopback alone."""
    venv: str = ""
    """The folder of the extra venv that it runs from; empty for ~/venv."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Keys of pods.json that this pi does not know."""


@dataclass(frozen=True)
class Pod:
    """A machine that pi knows: its ssh string as the user gave it (or `local`) and what setup found there."""

    name: str
    ssh: str
    gpus: tuple[Gpu, ...] = ()
    models: dict[str, Deployment] = field(default_factory=dict)
    models_path: str | None = None
    vllm_version: str | None = None
    """Version of vLLM in the pod's `~/venv`, such as "0.32.0" or "0.32.0+cpu"."""
    beside: dict[str, str] = field(default_factory=dict)
    """Versions of the vLLMs in venvs beside it, by the name of their folder."""
    extra: dict[str, Any] = field(default_factory=dict)
    host_key: str = ""
    """Type and SHA256 fingerprint of the key that the machine showed at its setup; empty for this machine."""
    boot: str = ""
    """The machine and its boot (see `pi.on_pod.process.boot`) when pi last looked: pods that share it are one."""

    def with_model(self, deployment: Deployment) -> Pod:
        return replace(self, models={**self.models, deployment.name: deployment})

    def without_models(self, names: set[str]) -> Pod:
        return replace(self, models={name: model for name, model in self.models.items() if name not in names})


@dataclass(frozen=True)
class State:
    """All that pods.json says. Unknown keys of the file are kept in the `extra` fields."""

    pods: dict[str, Pod] = field(default_factory=dict)
    active: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def pod(self, name: str | None = None) -> Pod:
        """The named pod, or the active one. Raises InputError saying what to do where there is none."""
        if name is None:
            if not self.pods:
                raise InputError("no-pods", "no pods yet", 'add one: pi pods setup NAME "ssh root@HOST"')
            if self.active is None:
                raise InputError(
                    "no-active-pod",
                    f"no active pod; you have {', '.join(self.pods)}",
                    "choose one: pi pods active NAME",
                )
            return self.pods[self.active]
        if name not in self.pods:
            known = f"you have {', '.join(self.pods)}" if self.pods else "there are none yet"
            raise InputError("unknown-pod", f"no pod {name!r}", f"{known}; see: pi pods")
        return self.pods[name]

    def with_pod(self, pod: Pod) -> State:
        return replace(self, pods={**self.pods, pod.name: pod})

    def without_pod(self, name: str) -> State:
        pods = {key: pod for key, pod in self.pods.items() if key != name}
        return replace(self, pods=pods, active=None if self.active == name else self.active)


def check_name(name: str, what: str) -> str:
    """The name itself. Raises InputError where it may not name a pod or a deployment."""
    if not NAME.fullmatch(name):
        raise InputError(
            "name-invalid",
            f"{name!r} cannot be the name of a {what}",
            "use letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit",
        )
    return name
