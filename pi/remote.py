"""What pi has pods do: each function is one call over a link, with what it needs and what comes back as types."""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from pi import gpus, venvs
from pi.audit import row
from pi.calls import INSTALL_PYTHON, Call, Listener, call
from pi.connection import Link
from pi.errors import Interrupted, PiError, UnreachableError
from pi.events import Event
from pi.failures import explain
from pi.gpus import Gpu
from pi.plans import GpuProcess, LaunchPlan, PodFacts
from pi.pods import Deployment, Owner
from pi.text import one_line
from pi.vllm import command as serve_command
from pi.vllm import environment as serve_environment

BIND = "0.0.0.0"  # noqa: S104
"""Where servers listen: reachable from outside, with every route but /health behind the key (pi_guard.py)."""

LOOPBACK = "127.0.0.1"
"""Where private servers listen: reachable over SSH alone."""


def render(template: str, **values: Any) -> str:
    """A file of `pi/setup/templates` with values put in; its `quote` filter makes any value one shell word."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - shell, not HTML
    environment.filters["quote"] = shlex.quote
    text = (files("pi.setup") / "templates" / template).read_text("utf-8")
    return environment.from_string(text).render(**values)


# --- setup


@dataclass(frozen=True)
class SetupRequest:
    """What a setup is to do. `mount` is the mount command as words, with the directory it mounts on."""

    hf_token: str | None
    api_key: str
    vllm: str = "release"
    vllm_version: str | None = None
    packages: tuple[str, ...] = ()
    """What a model needs besides vLLM, as pip requirements."""
    mount: tuple[str, ...] = ()
    mount_target: str | None = None
    models_path: str | None = None
    upgrade: bool = False
    beside: bool = False
    """Whether this vLLM goes into a venv beside ~/venv, which stays as it is."""
    mirrors: dict[str, str] = field(default_factory=dict)
    """PIP_* and UV_* settings of the machine that pi runs on."""


@dataclass(frozen=True)
class SetupFacts:
    gpus: tuple[Gpu, ...]
    skipped_gpu_lines: tuple[str, ...]
    vllm_version: str | None
    """Of the vLLM in ~/venv."""
    beside: dict[str, str]
    """Versions of the vLLMs beside it, by folder."""
    models_path: str | None
    python: str | None
    boot: str
    """The machine and its boot: pods that share it are one machine."""


def setup(link: Link, name: str, request: SetupRequest, listen: Listener) -> SetupFacts:
    """Set a pod up, which pi calls `name`; returns what it has. Raises SetupError naming the step that failed."""
    environment = {
        "PI_MARK": secrets.token_hex(12),
        "PI_VLLM": request.vllm,
        "PI_VLLM_VERSION": request.vllm_version or "",
        "PI_PACKAGES": json.dumps(request.packages),
        "PI_MOUNT_ARGV": json.dumps(request.mount) if request.mount else "",
        "PI_MOUNT_TARGET": request.mount_target or "",
        "PI_MODELS_PATH": request.models_path or "",
        "PI_UPGRADE": "1" if request.upgrade else "0",
        "PI_BESIDE": "1" if request.beside else "0",
        **request.mirrors,
    }
    result = call(
        link,
        "setup",
        "setup",
        {"name": name, "environment": environment, "files": _setup_files(request)},
        listen,
        preparation=INSTALL_PYTHON,
        outlives=True,
    )
    found, skipped = gpus.parse("\n".join(result.get("gpu", [])))
    return SetupFacts(
        gpus=tuple(found),
        skipped_gpu_lines=tuple(skipped),
        vllm_version=_first(result.get("vllm_version")),
        beside=_beside(dict(line.partition(" ")[::2] for line in result.get("beside", []))),
        models_path=_first(result.get("models_path")),
        python=_first(result.get("python")),
        boot=str(result["boot"]),
    )


def _setup_files(request: SetupRequest) -> dict[str, str]:
    folder = files("pi.setup")
    return {
        "env.sh": render("environment.sh.j2", hf_token=request.hf_token, api_key=request.api_key),
        "setup/pod_setup.sh": (folder / "pod_setup.sh").read_text("utf-8"),
        "guard/pi_guard.py": (folder / "templates" / "pi_guard.py").read_text("utf-8"),
    }


def _beside(told: dict[str, str]) -> dict[str, str]:
    """Venvs beside ~/venv, without folders that setup does not make."""
    return {folder: version for folder, version in told.items() if venvs.is_beside(folder)}


def _first(values: list[str] | None) -> str | None:
    return values[0] if values else None


# --- models


def look(link: Link, model: str | None = None, *, ask_hub: bool = False) -> PodFacts:
    """What the pod has and what is in use; with a model, its files there (or on the hub) too. Nothing is touched."""
    return facts(call(link, "survey", "look", {"model": model, "ask_hub": ask_hub, "gpu_query": gpus.QUERY}))


@dataclass(frozen=True)
class Started:
    deployment: Deployment
    public: dict[str, str]
    """How the provider maps the pod's ports (see `pi.endpoint`)."""
    side_doors: tuple[int, ...]
    """Ports besides its own where its processes listen to the network, asking nobody for a key."""


def start(
    link: Link,
    *,
    model: str,
    name: str,
    key: str,
    decide: Callable[[PodFacts], LaunchPlan],
    listen: Listener,
    ask_hub: bool = False,
    private: bool = False,
    leave: Callable[[], bool] = lambda: False,
    timeout_s: int | None = None,
) -> Started:
    """Start a model and wait until it is ready.

    `decide` makes the plan from what the pod has at that moment, while the pod's lock is held; with `ask_hub`,
    also from what the hub says of a model that is not there yet. Raises BusyError, NotReadyError with the cause
    from vLLM's log, Interrupted, or what `decide` raised: nothing is left running then. It is, and may become
    ready, after UnreachableError, and after LeftRunning, which Ctrl+C raises where `leave()` says so.
    """
    instance = secrets.token_hex(8)
    public: dict[str, str] = {}

    def answer(event: Event, running: Call) -> None:
        try:
            plan = decide(facts(event["facts"]))
        except PiError:
            running.cancel()
            raise
        public.update(event["facts"]["public"])
        running.answer(_launch(plan, instance, key, private, timeout_s))

    request = {"model": model, "ask_hub": ask_hub, "name": name, "gpu_query": gpus.QUERY}
    record = call(link, "start", "start", request, listen, decide=answer, outlives=True, leave=leave)
    return Started(deployment(record), public, tuple(record["side_doors"]))


GUARD = ("--middleware", "pi_guard.Guard", "--disable-fastapi-docs")
"""Closes every route but /health to callers without the key; before the plan's own words, which may hold a `--`."""


def server(plan: LaunchPlan, private: bool = False) -> tuple[dict[str, str], list[str]]:
    """Environment and words of the server that a plan starts, the key aside; a private one binds loopback only.

    The weights are on the pod before vLLM starts, so it runs with the hub switched off and without the token.
    """
    command = serve_command(plan, LOOPBACK if private else BIND)
    words = command[: len(command) - len(plan.args)]
    return {**serve_environment(plan), "HF_HUB_OFFLINE": "1"}, [*words, *GUARD, *plan.args]


def _launch(plan: LaunchPlan, instance: str, key: str, private: bool, timeout_s: int | None) -> dict[str, Any]:
    """The answer to a survey: what to reserve, and the files of the launch."""
    environment, argv = server(plan, private)
    owner = Owner.this()
    values = {"name": plan.name, "instance": instance, "venv": plan.venv, "environment": environment, "argv": argv}
    return {
        "record": {
            "name": plan.name,
            "model": plan.model,
            "port": plan.port,
            "gpus": list(plan.gpus),
            "memory_share": plan.memory_share,
            "api": plan.api,
            "private": private,
            "venv": plan.venv,
            "instance": instance,
            "by": f"pid {owner.pid} on {owner.host}",
        },
        "files": {"launch.sh": render("launch.sh.j2", **values), "key": key},
        "key": key,
        "timeout_s": timeout_s,
    }


def facts(survey: dict[str, Any]) -> PodFacts:
    """A pod's survey as the planner wants it."""
    found, unread = _gpus(survey["gpus"])
    model = survey["model"] or {}
    living = [record for record in survey["records"] if record["state"] in ("running", "starting")]
    return PodFacts(
        gpus=tuple(found),
        taken_ports=frozenset(survey["ports"]) | {record["port"] for record in living},
        deployments=tuple(deployment(record) for record in living),
        processes=_gpu_processes(survey["gpu_processes"], found),
        unread_gpus=unread,
        vllm_version=survey["vllm_version"],
        beside=_beside(survey["beside"]),
        memory_mib=survey["memory_mib"],
        cpus=survey["cpus"],
        disk_free_gib=survey["disk_free_bytes"] / 2**30,
        config=model.get("config"),
        weights_bytes=model.get("weights_bytes"),
        model_at=model.get("where"),
        device="cuda" if found else "cpu",
    )


def _gpus(answer: dict[str, Any]) -> tuple[list[gpus.Gpu], tuple[str, ...]]:
    """The GPUs that a pod's nvidia-smi described, and its lines that describe none, or why it has no answer."""
    found, unread = gpus.parse(answer["text"])
    if not answer["text"].strip() and answer["error"]:
        unread = [one_line(answer["error"])]
    return found, tuple(unread)


def _gpu_processes(told: list[dict[str, Any]], cards: list[Gpu]) -> tuple[GpuProcess, ...]:
    ids = {card.uuid: card.id for card in cards}
    return tuple(
        GpuProcess(process["pid"], ids[process["uuid"]], process["mib"], process["name"])
        for process in told
        if process["uuid"] in ids
    )


def deployment(record: dict[str, Any]) -> Deployment:
    """A pod's record of a deployment as pods.json keeps it."""
    return Deployment(
        name=str(record["name"]),
        model=str(record["model"]),
        port=int(record["port"]),
        gpus=tuple(int(gpu) for gpu in record["gpus"]),
        pid=int(record.get("pid", 0)),
        status=str(record["status"]),
        started=int(record.get("started", 0)),
        boot_id=str(record.get("boot_id", "")),
        instance=str(record["instance"]),
        memory_share=record.get("memory_share"),
        extra=_extra(record),
    )


def _extra(record: dict[str, Any]) -> dict[str, Any]:
    extra: dict[str, Any] = {"api": "responses"} if record.get("api") == "responses" else {}
    if record.get("private"):
        extra["private"] = True
    if venvs.is_beside(record.get("venv")):
        extra["venv"] = record["venv"]
    return extra


@dataclass(frozen=True)
class Found:
    """One deployment as the pod sees it now. `state` is running, starting, unresponsive, crashed or rebooted."""

    deployment: Deployment
    state: str
    exit_code: int | None
    ended_s_ago: float | None
    """By the pod's uptime: its time of day may be wrong, or be set meanwhile."""
    cause: str | None
    """Why it crashed, from its log, or why a server that answers is not taken for this deployment."""
    last_lines: tuple[str, ...]
    """How the log of a crashed one ends."""
    left: tuple[int, ...]
    """Processes of it that still live though its server does not."""
    held_mib: int
    """GPU memory that they hold, as far as nvidia-smi tells."""
    strangers: tuple[str, ...]
    """Who else listens on its port, such as "pid 77 (python3)"."""
    phase: str | None = None
    """What a starting one is at: downloading or loading."""


@dataclass(frozen=True)
class Status:
    found: tuple[Found, ...]
    gpus: tuple[Gpu, ...]
    unread_gpus: tuple[str, ...]
    """Lines of nvidia-smi that describe no GPU, or why it has no answer."""
    storage: str | None
    """What keeps the pod's models from being reached."""
    vllm_version: str | None
    beside: dict[str, str]
    public: dict[str, str]
    boot_id: str
    boot: str
    """The machine and its boot: pods that share it are one machine."""
    up_s: float
    """Seconds since the pod was started."""


def status(link: Link) -> Status:
    """What every deployment of the pod is doing, and its GPUs, in one call."""
    result = call(link, "status", "status", {"gpu_query": gpus.QUERY})
    cards, unread = _gpus(result["gpus"])
    return Status(
        tuple(_found(record) for record in result["deployments"]),
        tuple(cards),
        unread,
        result["storage"],
        result["vllm_version"],
        _beside(result["beside"]),
        result["public"],
        result["boot_id"],
        str(result["boot"]),
        result["up_s"],
    )


LAST_LINES = 3


def _found(record: dict[str, Any]) -> Found:
    log = record.get("log", "") if record["state"] == "crashed" else ""
    return Found(
        deployment=deployment(record),
        state=str(record["state"]),
        exit_code=record["exit"],
        ended_s_ago=record["ended_s_ago"],
        cause=explain(log, record["exit"]).cause if log else record.get("objection"),
        last_lines=tuple(line for line in log.splitlines() if line.strip())[-LAST_LINES:],
        left=tuple(record.get("left", ())),
        held_mib=sum(record.get("held_mib", {}).values()),
        strangers=tuple(record.get("strangers", ())),
        phase=record.get("phase"),
    )


@dataclass(frozen=True)
class Stopped:
    """How a stop went. `found` is running, starting (not launched yet), leftovers or nothing."""

    name: str
    found: str
    forced_after_s: float | None = None
    """Seconds of waiting after which KILL was sent; None where it ended by itself."""
    memory_proven: bool = True
    """Whether nvidia-smi could be asked if its GPUs' memory is back."""
    strangers: tuple[str, ...] = ()
    """Who else listens on its port now."""


def stop(link: Link, names: list[str], listen: Listener) -> tuple[Stopped, ...]:
    """Stop deployments (none named: all), with proof that processes, port and GPU memory are free."""
    results = call(link, "stop", "stop", {"names": names}, listen)
    return tuple(Stopped(**{**result, "strangers": tuple(result.get("strangers", ()))}) for result in results)


@dataclass(frozen=True)
class LogEnd:
    """Why following a log ended. `how` is exited, stopped (by pi), or None where only the log ended."""

    how: str | None
    exit_code: int | None


def logs(link: Link, name: str, listen: Listener, *, lines: int = 200, follow: bool = True) -> LogEnd:
    """Send a deployment's log to `listen` as `log` events, followed until its server ends."""
    result = call(link, "logs", "follow", {"name": name, "lines": lines, "follow": follow}, listen)
    return LogEnd(result["how"], result["exit"])


def last_log_line(link: Link, name: str) -> str | None:
    """The last line of a deployment's log, or None. Raises UnreachableError when the pod cannot be asked."""
    texts: list[str] = []
    try:
        logs(link, name, lambda event: texts.append(event.data.get("text", "")), lines=1, follow=False)
    except (UnreachableError, Interrupted):
        raise
    except PiError:
        return None
    return "".join(texts).strip() or None


def audit(link: Link, lines: int) -> list[list[str]]:
    """The last changes made to the pod, the newest last: time, who, command, name and result of each."""
    return [row(line) for line in call(link, "audit", "recent", {"lines": lines})]
