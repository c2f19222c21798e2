"""`setup` on the pod: the request, and what the machine has afterwards."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import TYPE_CHECKING

from pi.calls.bootstrap import INSTALL_PYTHON
from pi.calls.call import Call, Listener, call
from pi.calls.check import check_request, machine_facts
from pi.calls.events import Checked, Question
from pi.calls.templates import render
from pi.calls.validation import WrongAnswerError
from pi.errors import PiError
from pi.on_pod import shapes
from pi.planning.preflight import MachineFacts
from pi.pods.gpus import Gpu
from pi.pods.types import Provider
from pi.vllm.venvs import extra_venvs

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class SetupRequest:
    """What a setup does. `mount` is the mount command as words, `mount_target` the folder that it mounts."""

    hf_token: str | None
    """The hub's token; None keeps the one that the pod has, "none" removes it."""
    api_key: str
    vllm: str = "release"
    vllm_version: str | None = None
    packages: tuple[str, ...] = ()
    """What a model also needs, as pip requirements."""
    mount: tuple[str, ...] = ()
    mount_target: str | None = None
    models_path: str | None = None
    upgrade: bool = False
    extra_venv: bool = False
    """Whether this vLLM goes into an extra venv; ~/venv does not change."""
    mirrors: dict[str, str] = field(default_factory=dict)
    """PIP_* and UV_* settings of the machine that pi runs on."""


@dataclass(frozen=True)
class SetupFacts:
    """What a pod has after its setup."""

    gpus: tuple[Gpu, ...]
    vllm_version: str | None
    """The version in ~/venv."""
    extra_venvs: dict[str, str]
    """Versions of vLLM in the extra venvs, by folder."""
    models_path: str | None
    python: str | None
    boot: str
    """The machine and its boot: pods that share it are one machine."""
    machine: str
    """The machine, whatever its boot and address."""
    provider: Provider | None = None
    """The provider that the pod can ask to stop it."""


def set_up(
    connection: Connection,
    name: str,
    request: SetupRequest,
    listen: Listener,
    judge: Callable[[MachineFacts], None],
) -> SetupFacts:
    """Set up the pod `name` and return what it has. Raises SetupError naming the step that failed.

    `judge` gets the facts of the machine before anything changes, and raises PiError if it cannot be set up.
    """
    machine: list[MachineFacts] = []

    def answer(event: Question, running: Call) -> None:
        if not isinstance(event, Checked):
            return
        facts = machine_facts(event.facts, request.models_path or request.mount_target)
        machine[:] = [replace(facts, installs=request.upgrade or request.extra_venv)]
        try:
            judge(machine[0])
        except PiError:
            running.cancel()
            raise
        running.answer_retry({"proceed": True})

    environment = {
        "PI_MARK": secrets.token_hex(12),
        "PI_VLLM": request.vllm,
        "PI_VLLM_VERSION": request.vllm_version or "",
        "PI_PACKAGES": json.dumps(request.packages),
        "PI_MOUNT_ARGV": json.dumps(request.mount) if request.mount else "",
        "PI_MOUNT_TARGET": request.mount_target or "",
        "PI_MODELS_PATH": request.models_path or "",
        "PI_UPGRADE": "1" if request.upgrade else "0",
        "PI_BESIDE": "1" if request.extra_venv else "0",
        **request.mirrors,
    }
    sent: shapes.SetupRequest = {
        "name": name,
        "check": check_request(request.models_path or request.mount_target, []),
        "environment": environment,
        "keeps_token": request.hf_token is None,
        "files": _setup_files(request),
    }
    answered = call(
        connection,
        "setup",
        "setup",
        sent,
        shapes.SetupAnswer,
        listen,
        decide=answer,
        preparation=INSTALL_PYTHON,
        outlives=True,
    )
    if not machine:
        raise WrongAnswerError("a setup without a check of the machine")
    facts = answered["facts"]
    return SetupFacts(
        gpus=machine[0].gpus,
        vllm_version=_first(facts.get("vllm_version")),
        extra_venvs=extra_venvs(dict(line.partition(" ")[::2] for line in facts.get("beside", []))),
        models_path=_first(facts.get("models_path")),
        python=_first(facts.get("python")),
        boot=answered["boot"],
        machine=answered.get("machine", ""),
        provider=machine[0].provider,
    )


def _setup_files(request: SetupRequest) -> dict[str, str]:
    folder = files("pi.setup")
    return {
        "env.sh": render("environment.sh.j2", hf_token=request.hf_token, api_key=request.api_key),
        "setup/pod_setup.sh": (folder / "pod_setup.sh").read_text("utf-8"),
        "setup/check_vllm.py": (folder / "templates" / "check_vllm.py").read_text("utf-8"),
        "setup/archs.py": (files("pi.on_pod") / "archs.py").read_text("utf-8"),
    }


def _first(values: list[str] | None) -> str | None:
    return values[0] if values else None
