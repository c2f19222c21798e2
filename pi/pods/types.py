"""The types of pods.json: pods, and the models on them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pi.errors import InputError
from pi.on_pod import record_check
from pi.pods.gpus import Gpu

NAME = record_check.NAME
"""The name of a pod or deployment (use fullmatch); it becomes a file name on the pod."""


Status = Literal["starting", "running"]

KEEP_POD = "keep-pod"
"""Value of `--on-idle` for a model whose pod has another setting."""


@dataclass(frozen=True)
class Provider:
    """A provider that a pod can ask to stop it, "runpod" or "vast", and the provider's id of the pod."""

    name: str
    id: str


@dataclass(frozen=True)
class Owner:
    """The pi that starts a model: its process id, its machine, and its start (seconds since 1970)."""

    pid: int
    host: str
    since: float
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def this(cls) -> Owner:
        return cls(os.getpid(), os.uname().nodename, time.time())

    def is_gone(self) -> bool:
        """Return whether its process has ended; False if it runs on another machine."""
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
class Move:
    """A model on its way to another pod; `is_done` if requests go there already."""

    to: str
    is_done: bool = False


@dataclass(frozen=True)
class Span:
    """One model over several pods: the names of its pods, the head first, and the place of one of them.

    `group` is the same on all pods of one start. `machines` are the pods' ids, by which another pi knows them.
    """

    rank: int
    members: tuple[str, ...]
    machines: tuple[str, ...] = ()
    group: str = ""

    @property
    def head(self) -> str:
        return self.members[0]


@dataclass(frozen=True)
class Deployment:
    """A model with the name that the user gave it.

    `pid` is vLLM's API server on the pod. Together with `started` (clock ticks since boot, /proc/PID/stat
    field 22) and `boot_id`, it identifies one process. In status `starting` the deployment is a reservation:
    `owner` starts it, and the pid is 0 until the pod reports one.
    """

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
    """Share of each GPU's memory, 0 to 1; None if the model's own arguments set it."""
    owner: Owner | None = None
    api: str = "chat"
    """What it answers to, a key of `pi.pods.apis.APIS`; "responses" if the chat API lacks tools or reasoning."""
    private: bool = False
    """True if it listens only on the pod's loopback."""
    venv: str = ""
    """Folder of the extra venv that it runs from; empty for ~/venv."""
    adapters: tuple[str, ...] = ()
    """Names of the LoRA adapters that it serves too."""
    replica_of: str = ""
    """Name of the endpoint in front of it, if it is a replica."""
    elsewhere: tuple[str, ...] = ()
    """Pods to whose replicas of the same model its endpoint passes requests on, too."""
    span: Span | None = None
    """Its pods, if several serve it together."""
    options: dict[str, Any] = field(default_factory=dict)
    """How it was started, by the names of the flags of `pi start`; empty if unknown. It contains no secret."""
    move: Move | None = None
    """Where `pi move` takes it; None unless it moves."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Unknown keys of pods.json."""

    @property
    def rank(self) -> int:
        """Its pod's place among those that serve it together; 0 for the head, and for a model on one pod."""
        return self.span.rank if self.span else 0

    @property
    def is_part(self) -> bool:
        """Whether requests go to another deployment: the endpoint of a replica, or the head of a model over pods."""
        return bool(self.replica_of) or self.rank > 0


@dataclass(frozen=True)
class Pod:
    """A machine: its ssh command as the user gave it (or `local`), and what setup found there."""

    name: str
    ssh: str
    gpus: tuple[Gpu, ...] = ()
    models: dict[str, Deployment] = field(default_factory=dict)
    models_path: str | None = None
    vllm_version: str | None = None
    """Version of vLLM in the pod's `~/venv`, such as "0.32.0" or "0.32.0+cpu"."""
    extra_venvs: dict[str, str] = field(default_factory=dict)
    """Versions of vLLM in the extra venvs, by the name of the folder."""
    extra: dict[str, Any] = field(default_factory=dict)
    host_key: str = ""
    """Type and SHA256 fingerprint of the host key at setup; empty for this machine."""
    boot: str = ""
    """Id of the machine's boot (`pi.on_pod.process.boot`); pods with the same id are one machine."""
    machine: str = ""
    """Id of the machine (`pi.on_pod.machine.identity`), the same after a reboot; empty for pods of an older setup."""
    price: float | None = None
    """Price per hour in the user's currency, by `--price`; None if the user gave none."""
    set_up_at: float | None = None
    """When the machine was first set up, in seconds since 1970; None for pods of an older setup."""
    on_idle: str | None = None
    """What it does when its last model has ended for lack of use, by `--on-idle` of the setup (`pi.steps.on_idle`)."""

    @property
    def is_set_up(self) -> bool:
        """Whether a setup has ended on it, or models are known there."""
        return bool(self.boot or self.vllm_version or self.gpus or self.models)

    @property
    def is_unfinished(self) -> bool:
        """Whether its setup began and never ended."""
        was_reached = bool(self.host_key) or self.ssh == "local"
        return was_reached and not self.is_set_up

    @property
    def ends_by(self) -> str | None:
        """The value of `--on-idle` by which it may have ended itself: its own, or that of a model."""
        values = (self.on_idle, *(model.options.get("on-idle") for model in self.models.values()))
        return next((str(value) for value in values if value and value != KEEP_POD), None)

    def serving(self, name: str) -> Deployment | None:
        """Return the deployment that answers to a name: its own, or that of one of its adapters."""
        with_adapter = (model for model in self.models.values() if name in model.adapters)
        return self.models.get(name) or next(with_adapter, None)

    def with_model(self, deployment: Deployment) -> Pod:
        return replace(self, models={**self.models, deployment.name: deployment})

    def without_models(self, names: set[str]) -> Pod:
        return replace(self, models={name: model for name, model in self.models.items() if name not in names})


@dataclass(frozen=True)
class State:
    """The content of pods.json. The `extra` fields keep unknown keys."""

    pods: dict[str, Pod] = field(default_factory=dict)
    active: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def pod(self, name: str | None = None) -> Pod:
        """Return the named pod, or the active one. Raises InputError if it does not exist."""
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
        if name not in self.pods and "," in name:
            first = name.partition(",")[0].strip()
            raise InputError("one-pod", f"this works on one pod at a time, not on {name!r}", f"use one: --pod {first}")
        if name not in self.pods:
            names = f"you have {', '.join(self.pods)}" if self.pods else "you have none yet"
            raise InputError("unknown-pod", f"unknown pod {name!r}", f"{names}; see: pi pods")
        return self.pods[name]

    def with_pod(self, pod: Pod) -> State:
        return replace(self, pods={**self.pods, pod.name: pod})

    def with_name(self, old: str, new: str) -> State:
        """Return the state with another name for a pod, at the same place in the list, and in the models' options."""
        pods = [
            replace(
                pod,
                name=new if pod.name == old else pod.name,
                models={name: _renamed(model, old, new) for name, model in pod.models.items()},
            )
            for pod in self.pods.values()
        ]
        active = new if self.active == old else self.active
        return replace(self, pods={pod.name: pod for pod in pods}, active=active)

    def without_pod(self, name: str) -> State:
        pods = {key: pod for key, pod in self.pods.items() if key != name}
        return replace(self, pods=pods, active=None if self.active == name else self.active)


def _renamed(model: Deployment, old: str, new: str) -> Deployment:
    """Return a model whose options `across` and `address` have another name for a pod."""
    across, addresses = model.options.get("across"), model.options.get("address")
    if not isinstance(across, str):
        return model
    pods = [new if each.strip() == old else each for each in across.split(",")]
    options = {**model.options, "across": ",".join(pods)}
    if isinstance(addresses, list):
        begins = f"{old}="
        texts = map(str, addresses)
        options["address"] = [f"{new}={each[len(begins) :]}" if each.startswith(begins) else each for each in texts]
    return replace(model, options=options)


def check_name(name: str, what: str) -> str:
    """Return the name. Raises InputError if a pod or deployment cannot have it."""
    if not NAME.fullmatch(name):
        raise InputError(
            "name-invalid",
            f"invalid {what} name {name!r}",
            "use at most 63 letters, digits, '.', '_' and '-', and begin with a letter or digit",
        )
    return name
