"""What pi has pods do: each function is one call over a link, its work done on the pod by `pi.pod`.

A call sends one constant command, then on stdin the program, the request and (for `start`) pi's plan. No
user's text and no secret is ever part of a command line.
"""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from pi import gpus
from pi.connection import Link, Silence, Stream
from pi.errors import BusyError, Interrupted, NotReadyError, PiError, RemoteError, UnreachableError
from pi.events import Event, Reader
from pi.failures import explain
from pi.gpus import Gpu
from pi.planner import LaunchPlan, PodFacts
from pi.state import Deployment
from pi.vllm import command as serve_command
from pi.vllm import environment as serve_environment

SILENCE_S = 20
"""A pod sends a heartbeat each 5 s (`pi.pod.wire`); this much silence is a lost connection."""

CANCEL_PATIENCE_S = 45
"""How long an interrupted call may take to end what it started on the pod."""

MODULES = (
    "wire",
    "process",
    "records",
    "survey",
    "health",
    "logs",
    "download",
    "start",
    "stop",
    "status",
    "setup",
)
"""Modules of `pi.pod` in the order in which they import each other."""

RUN = 'exec "$p" -I -S -c "import sys;i=sys.stdin.buffer;exec(i.read(int(i.readline())))"'
FIND_PYTHON = f'for p in "$HOME/venv/bin/python" python3; do command -v "$p" >/dev/null 2>&1 && {RUN}; done; '
INSTALL_PYTHON = (
    'command -v python3 >/dev/null 2>&1 || { s=; [ "$(id -u)" = 0 ] || s="sudo -n"; '
    "echo installing python3 with apt-get; export DEBIAN_FRONTEND=noninteractive; "
    "$s apt-get -qq update && $s apt-get -qq install -y --no-install-recommends python3; } >&2; "
)
NO_PYTHON = "pi-found-no-python"

Listener = Callable[[Event], None]


def _shell_command(preparation: str = "") -> str:
    """The whole command line of a call; free of single quotes inside, so that any login shell passes it on."""
    return f"exec bash --noprofile --norc -c '{preparation}{FIND_PYTHON}echo {NO_PYTHON}; exit 127'"


@cache
def _program() -> str:
    """Python source that makes `pi.pod` out of its modules' texts, runs one verb of it and ends."""
    sources = [(f"pi.pod.{name}", (files("pi.pod") / f"{name}.py").read_text()) for name in MODULES]
    return "\n".join(
        [
            "import json, sys, types",
            f"for name, source in {[('pi', ''), ('pi.pod', ''), *sources]!r}:",
            "    module = sys.modules[name] = types.ModuleType(name)",
            "    exec(compile(source, name, 'exec'), module.__dict__)",
            "call = json.loads(sys.stdin.buffer.readline())",
            "verb = getattr(sys.modules['pi.pod.' + call['module']], call['verb'])",
            "sys.modules['pi.pod.wire'].run(verb, call['mark'], call['request'])",
        ]
    )


class Call:
    """One verb at work on a pod: its events, and the answers that it waits for."""

    def __init__(
        self, link: Link, module: str, verb: str, request: dict[str, Any], preparation: str = ""
    ) -> None:
        mark = secrets.token_hex(12)
        self._reader = Reader(mark)
        self._stream: Stream = link.run(_shell_command(preparation))
        program = _program().encode()
        message = json.dumps({"module": module, "verb": verb, "mark": mark, "request": request})
        self._stream.send(b"%d\n%s%s\n" % (len(program), program, message.encode()))

    def answer(self, message: dict[str, Any]) -> None:
        self._stream.send(json.dumps(message).encode() + b"\n")

    def events(self) -> Iterator[Event]:
        """Events up to and with the one that ends the call: `done`, `failed` or `cancelled`."""
        while True:
            try:
                chunk = self._stream.receive(SILENCE_S)
            except Silence:
                raise UnreachableError(
                    f"the pod has been silent for {SILENCE_S} s; the connection is lost"
                ) from None
            except (OSError, EOFError):
                chunk = b""
            if not chunk:
                raise self._cut_off()
            for event in self._reader.feed(chunk):
                if event.kind != "alive":
                    yield event
                if event.kind in ("done", "failed", "cancelled"):
                    return

    def cancel(self) -> Event:
        """Have the pod end what this call started; the event that closed the call."""
        with suppress(PiError):
            self.answer({"cancel": True})
        *_, last = self.events()
        return last

    def close(self) -> None:
        self._stream.close()

    def _cut_off(self) -> PiError:
        noise = self._reader.noise.decode("utf-8", "replace").strip()
        if NO_PYTHON in noise:
            return RemoteError("the pod has no python3", 'set it up first: pi pods setup NAME "ssh ..."')
        last = noise.splitlines()[-1][:300] if noise else "the connection was lost"
        return UnreachableError(f"the pod ended the call: {last}")


def call(
    link: Link,
    module: str,
    verb: str,
    request: dict[str, Any],
    listen: Listener = lambda event: None,
    *,
    decide: Callable[[Event, Call], None] | None = None,
    preparation: str = "",
) -> Any:
    """Run one verb of `pi.pod` and return its result.

    `listen` is told every event, `decide` answers a `survey`. Ctrl+C ends the work on the pod, then raises
    Interrupted; a failure is raised as the PiError that its kind calls for.
    """
    running = Call(link, module, verb, request, preparation)
    try:
        for event in running.events():
            if event.kind == "survey" and decide:
                decide(event, running)
            listen(event)
            if event.kind == "done":
                return event["result"]
            if event.kind == "failed":
                raise _error(event)
        raise Interrupted("stopped; what ran on the pod has been ended")
    except KeyboardInterrupt as stop:
        last = running.cancel()
        if last.kind == "done":
            return last["result"]
        raise Interrupted("interrupted; what ran on the pod has been ended", *stop.args) from None
    finally:
        running.close()


def _error(event: Event) -> PiError:
    """The failure of a pod in pi's words: the cause from the log where there is one, and the way on."""
    kind, message, detail = event["kind"], event["message"], event["detail"]
    if kind in ("busy", "name_taken"):
        return BusyError(message, "pi list shows what runs; pi stop NAME frees it")
    if kind == "lost":
        return UnreachableError(message)
    if kind in ("exited", "launch_failed"):
        failure = explain(detail["log"], detail.get("exit"))
        return NotReadyError(failure.cause, failure.hint)
    if kind == "timeout":
        lines = detail["log"].strip().splitlines()
        return NotReadyError(f"{message}; its log ends with: {lines[-1][:300] if lines else 'nothing'}")
    if kind == "not_ours":
        return NotReadyError(message)
    if kind == "download_failed":
        failure = explain(detail["log"], None)
        return RemoteError(f"the download failed: {failure.cause}", failure.hint)
    if kind == "setup_failed":
        return SetupError(detail["step"], message, detail["tail"])
    if kind == "unexpected":
        return RemoteError(
            f"pi's own program failed on the pod ({detail['at']}): {message}", "please report this"
        )
    return RemoteError(message)


class SetupError(RemoteError):
    """A step of the setup failed; `tail` holds its last lines of output."""

    def __init__(self, step: str, message: str, tail: list[str]) -> None:
        cause, _, way_on = message.partition(" -- ")
        super().__init__(
            f"setup failed at step {step!r}: {cause}", way_on or "mend it, then run the setup again"
        )
        self.step = step
        self.tail = tail


def render(template: str, **values: Any) -> str:
    """A file of `pi/setup/templates` with values put in; its `quote` filter makes any value one shell word."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - shell, not HTML
    environment.filters["quote"] = shlex.quote
    text = (files("pi.setup") / "templates" / template).read_text()
    return environment.from_string(text).render(**values)


# --- setup


@dataclass(frozen=True)
class SetupRequest:
    """What a setup is to do. `mount` is the mount command as words, with the directory it mounts on."""

    hf_token: str | None
    api_key: str
    vllm: str = "release"
    vllm_version: str | None = None
    mount: tuple[str, ...] = ()
    mount_target: str | None = None
    models_path: str | None = None
    upgrade: bool = False
    mirrors: dict[str, str] = field(default_factory=dict)
    """PIP_* and UV_* settings of the machine that pi runs on."""


@dataclass(frozen=True)
class SetupFacts:
    gpus: tuple[Gpu, ...]
    skipped_gpu_lines: tuple[str, ...]
    vllm_version: str | None
    models_path: str | None
    python: str | None


def setup(link: Link, request: SetupRequest, listen: Listener) -> SetupFacts:
    """Set a pod up; returns what it has. Raises SetupError naming the step that failed."""
    environment = {
        "PI_MARK": secrets.token_hex(12),
        "PI_VLLM": request.vllm,
        "PI_VLLM_VERSION": request.vllm_version or "",
        "PI_MOUNT_ARGV": json.dumps(request.mount) if request.mount else "",
        "PI_MOUNT_TARGET": request.mount_target or "",
        "PI_MODELS_PATH": request.models_path or "",
        "PI_UPGRADE": "1" if request.upgrade else "0",
        **request.mirrors,
    }
    result = call(
        link,
        "setup",
        "setup",
        {"environment": environment, "files": _setup_files(request)},
        listen,
        preparation=INSTALL_PYTHON,
    )
    found, skipped = gpus.parse("\n".join(result.get("gpu", [])))
    return SetupFacts(
        gpus=tuple(found),
        skipped_gpu_lines=tuple(skipped),
        vllm_version=_first(result.get("vllm_version")),
        models_path=_first(result.get("models_path")),
        python=_first(result.get("python")),
    )


def _setup_files(request: SetupRequest) -> dict[str, str]:
    folder = files("pi.setup")
    return {
        "env.sh": render("environment.sh.j2", hf_token=request.hf_token, api_key=request.api_key),
        "setup/pod_setup.sh": (folder / "pod_setup.sh").read_text(),
        "guard/pi_guard.py": (folder / "templates" / "pi_guard.py").read_text(),
    }


def _first(values: list[str] | None) -> str | None:
    return values[0] if values else None


# --- models


@dataclass(frozen=True)
class Started:
    deployment: Deployment
    public: dict[str, str]
    """How the provider maps the pod's ports (see `pi.endpoint`)."""


def start(
    link: Link,
    *,
    model: str,
    name: str,
    key: str,
    decide: Callable[[PodFacts], LaunchPlan],
    listen: Listener,
    host: str = "0.0.0.0",  # noqa: S104 - reachable, with every route but /health behind the key (pi_guard.py)
    timeout_s: int | None = None,
) -> Started:
    """Start a model and wait until it is ready.

    `decide` makes the plan from what the pod has at that moment, while the pod's lock is held. Raises
    BusyError, NotReadyError with the cause from vLLM's log, or what `decide` raised; nothing is left running.
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
        running.answer(_launch(plan, instance, key, host, timeout_s))

    request = {"model": model, "name": name, "gpu_query": gpus.QUERY}
    record = call(link, "start", "start", request, listen, decide=answer)
    return Started(deployment(record), public)


def _launch(plan: LaunchPlan, instance: str, key: str, host: str, timeout_s: int | None) -> dict[str, Any]:
    """The answer to a survey: what to reserve, and the files of the launch.

    The weights are on the pod before vLLM starts, so it runs with the hub switched off and without the token.
    """
    script = render(
        "launch.sh.j2",
        name=plan.name,
        instance=instance,
        environment={**serve_environment(plan), "HF_HUB_OFFLINE": "1"},
        argv=[*serve_command(plan, host), "--middleware", "pi_guard.Guard", "--disable-fastapi-docs"],
    )
    return {
        "record": {
            "name": plan.name,
            "model": plan.model,
            "port": plan.port,
            "gpus": list(plan.gpus),
            "memory_share": plan.memory_share,
            "instance": instance,
        },
        "files": {"launch.sh": script, "key": key},
        "key": key,
        "timeout_s": timeout_s,
    }


def facts(survey: dict[str, Any]) -> PodFacts:
    """A pod's survey as the planner wants it."""
    found, _ = gpus.parse(survey["gpus"]["text"])
    model = survey["model"] or {}
    living = [record for record in survey["records"] if record["state"] in ("running", "starting")]
    return PodFacts(
        gpus=tuple(found),
        taken_ports=frozenset(survey["ports"]) | {record["port"] for record in living},
        deployments=tuple(deployment(record) for record in living),
        vllm_version=survey["vllm_version"],
        memory_mib=survey["memory_mib"],
        cpus=survey["cpus"],
        disk_free_gib=survey["disk_free_bytes"] / 2**30,
        config=model.get("config"),
        weights_bytes=model.get("weights_bytes"),
        device="cuda" if found else "cpu",
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
    )


@dataclass(frozen=True)
class Found:
    """One deployment as the pod sees it now. `state` is running, starting, unresponsive, crashed or gone."""

    deployment: Deployment
    state: str
    exit_code: int | None
    cause: str | None
    """Why it crashed, from its log."""
    left: int
    """Processes of it that still live though its server does not."""


@dataclass(frozen=True)
class Status:
    found: tuple[Found, ...]
    gpus: tuple[Gpu, ...]
    vllm_version: str | None
    public: dict[str, str]


def status(link: Link) -> Status:
    """What every deployment of the pod is doing, and its GPUs, in one call."""
    result = call(link, "status", "status", {"gpu_query": gpus.QUERY})
    cards, _ = gpus.parse(result["gpus"]["text"])
    return Status(
        tuple(_found(record) for record in result["deployments"]),
        tuple(cards),
        result["vllm_version"],
        result["public"],
    )


def _found(record: dict[str, Any]) -> Found:
    crashed = record["state"] == "crashed" and record.get("log")
    return Found(
        deployment=deployment(record),
        state=str(record["state"]),
        exit_code=record["exit"],
        cause=explain(record["log"], record["exit"]).cause if crashed else None,
        left=len(record.get("left", [])),
    )


def stop(link: Link, names: list[str], listen: Listener) -> dict[str, str]:
    """Stop deployments (none named: all). Returns only on proof; what was found by name: running, leftovers, nothing."""
    results = call(link, "stop", "stop", {"names": names}, listen)
    return {result["name"]: result["found"] for result in results}


def logs(link: Link, name: str, listen: Listener, *, lines: int = 200, follow: bool = True) -> int | None:
    """Send a deployment's log to `listen` as `log` events. Returns vLLM's exit code once it has ended."""
    result = call(link, "logs", "follow", {"name": name, "lines": lines, "follow": follow}, listen)
    code: int | None = result["exit"]
    return code


def last_log_line(link: Link, name: str) -> str | None:
    """The last line of a deployment's log, or None."""
    texts: list[str] = []
    with suppress(PiError):
        logs(link, name, lambda event: texts.append(event["text"]), lines=1, follow=False)
    return "".join(texts).strip() or None
