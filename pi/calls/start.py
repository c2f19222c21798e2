"""`start` on the pod: the request, the launch, its correction, and the deployment that came up."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pi.calls.call import Call, Listener, call
from pi.calls.events import Checked, Exited, Question
from pi.calls.launch import hub_environment, load_format, repositories_beside
from pi.calls.plan import argument_check
from pi.calls.records import deployment
from pi.calls.span import Member
from pi.calls.survey import facts, survey_request
from pi.calls.templates import render
from pi.calls.validation import WrongAnswerError
from pi.errors import PiError
from pi.on_pod.shapes import Compiling, Launch, Relaunch, StartAnswer, StartRequest
from pi.planning.as_measured import card_of, digest_of_start
from pi.planning.serve import server
from pi.planning.types import LaunchPlan, PodFacts
from pi.pods.types import Deployment, Owner

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class Started:
    """A model that is ready."""

    deployment: Deployment
    public: dict[str, str]
    """How the provider maps the pod's ports (see `pi.addresses`)."""
    side_doors: tuple[int, ...]
    """Other ports on which its processes listen to the network without a key."""
    context: int | None = None
    """Its longest context in tokens, as its server reports it."""


@dataclass(frozen=True)
class Upkeep:
    """What the launcher of a model does while it runs."""

    restarts: int = 0
    """How often it starts a server again that failed."""
    idle_s: int | None = None
    """After how long without a request it ends the server; None: never."""
    watch: bool = True
    """Whether it notices that the server hangs."""
    on_idle: str | None = None
    """What the pod does after that, if it has no other model: STOP_POD, or a command; None: nothing."""

    def way(self, facts: PodFacts) -> str:
        """Return how the pod is stopped, as `pi_stop_pod.py` reads it; empty if it is not."""
        if self.on_idle == STOP_POD:
            return facts.provider.name if facts.provider else ""
        return "command" if self.on_idle else ""


NO_UPKEEP = Upkeep()

PEERS_WAIT_S = 600
"""How long a rank waits for its peers: vLLM's imports on a busy pod take minutes, and PyTorch waits as long."""

STOP_POD = "stop-pod"
"""Value of `--on-idle`: the pod asks its provider to stop it."""


def start_model(
    connection: Connection,
    *,
    model: str,
    name: str,
    key: str,
    decide: Callable[[PodFacts], LaunchPlan],
    correct: Callable[[LaunchPlan, Exited], LaunchPlan | None] = lambda plan, exited: None,
    listen: Listener,
    ask_hub: bool = False,
    checkpoints: Sequence[str] = (),
    adapters: Sequence[str] = (),
    private: bool = False,
    upkeep: Upkeep = NO_UPKEEP,
    options: Mapping[str, Any] | None = None,
    timeout_s: int | None = None,
    alone: bool = False,
    replica_of: str = "",
    member: Member | None = None,
) -> Started:
    """Start a model and wait until it is ready. `adapters` are the repositories or paths of its LoRA adapters.

    `decide` plans with the pod's present facts while pi holds the pod's lock. If vLLM exits before it is ready,
    `correct` may return a plan for a second try. With `ask_hub`, the hub describes a model that is not on the pod.
    `checkpoints` are ids to be sized for the plan. `alone` means that `listen` will raise and leave the pod alone.
    The pod keeps `options`, to start the model again in the same way. A replica joins its endpoint. Of several pods,
    each is a `member`; those behind the head return when their processes run.

    Raises:
        BusyError, NotReadyError, Interrupted, or what `decide` and `correct` raise: nothing is left running.
        UnreachableError, UnprovenError: the model may still run and become ready.
    """
    instance = secrets.token_hex(8)
    public: dict[str, str] = {}
    plans: list[LaunchPlan] = []
    cards: list[str] = []
    ways = [""]

    def answer(event: Question, running: Call) -> None:
        try:
            if isinstance(event, Exited):
                plan = correct(plans[-1], event) if plans else None
                again = _relaunch(plan, Launcher(instance, private, upkeep, ways[-1]), cards[-1]) if plan else None
                running.answer_retry({"relaunch": again})
                return
            if isinstance(event, Checked):  # only a setup asks it
                raise WrongAnswerError("a question of another verb")
            known = facts(event.facts)
            plans.append(decide(known))
            cards.append(card_of(plans[-1], known))
            ways.append(upkeep.way(known))
        except PiError:
            running.cancel()
            raise
        public.update(event.facts["public"])
        launcher = Launcher(instance, private, upkeep, ways[-1], member)
        launch = _launch(plans[-1], launcher, key, timeout_s, alone, cards[-1])
        launch["files"]["options.json"] = json.dumps(dict(options or {}))
        if replica_of:
            launch["record"]["replica_of"] = replica_of
        running.answer(launch)

    request: StartRequest = {**survey_request(model, ask_hub, checkpoints, adapters), "name": name}
    answered = call(connection, "start", "start", request, StartAnswer, listen, decide=answer, outlives=True)
    record = answered["record"]
    return Started(deployment(record), public, tuple(answered["side_doors"]), record.get("context"))


@dataclass(frozen=True)
class Launcher:
    """What the launcher of one start is made of, beside its plan."""

    instance: str
    private: bool
    upkeep: Upkeep
    way: str
    """How the pod is stopped after it (see `Upkeep.way`)."""
    member: Member | None = None
    """The pod's part of a model over several pods."""


def _launch(plan: LaunchPlan, launcher: Launcher, key: str, timeout_s: int | None, alone: bool, card: str) -> Launch:
    """Return the answer to a survey: what to reserve, and the files of the launch."""
    owner = Owner.this()
    launch: Launch = {
        "record": {
            "name": plan.name,
            "model": plan.model,
            "port": plan.port,
            "gpus": list(plan.gpus),
            "memory_share": plan.memory_share,
            "api": plan.api,
            "private": launcher.private,
            "venv": plan.venv,
            "instance": launcher.instance,
            "by": f"pid {owner.pid} on {owner.host}",
            "adapters": list(plan.adapters),
            "idle_s": launcher.upkeep.idle_s,
            "on_idle": launcher.way or None,
        },
        "files": {**_files(plan, launcher), "key": key},
        "key": key,
        "timeout_s": timeout_s,
        "check": argument_check(plan, launcher.private) if plan.reads_words else None,
        "revision": plan.args.get("--revision"),
        "load_format": load_format(plan),
        "repositories": repositories_beside(plan),
        "hub_environment": hub_environment(plan),
        "alone": alone,
        "compiling": _compiling(plan, card),
    }
    if member := launcher.member:
        record = launch["record"]
        record["rank"], record["group"], record["closed"] = member.rank.number, member.span.group, member.closed
        record["members"], record["machines"] = list(member.span.members), list(member.span.machines)
        record["addresses"] = list(member.rank.addresses)
    return launch


def _relaunch(plan: LaunchPlan, launcher: Launcher, card: str) -> Relaunch:
    return {
        "files": _files(plan, launcher),
        "memory_share": plan.memory_share,
        "compiling": _compiling(plan, card),
    }


def _compiling(plan: LaunchPlan, card: str) -> Compiling:
    return {"card": card, "digest": digest_of_start(plan)}


def _files(plan: LaunchPlan, launcher: Launcher) -> dict[str, str]:
    upkeep, way, member = launcher.upkeep, launcher.way, launcher.member
    environment, argv = server(plan, launcher.private, member.rank if member else None)
    values = {
        "name": plan.name,
        "port": plan.port,
        "instance": launcher.instance,
        "venv": plan.venv,
        "environment": environment,
        "argv": argv,
        "restarts": upkeep.restarts,
        "idle_s": upkeep.idle_s,
        "watch": upkeep.watch,
        "on_idle": way,
        "api": plan.api,
        "peers": member.peers if member else [],
        "own": member.rank.addresses[member.rank.number] if member else "",
        "wait_s": PEERS_WAIT_S,
    }
    own = {name: (files("pi.setup") / "templates" / name).read_text("utf-8") for name in OWN_FILES}
    own["pi_stack.py"] = (files("pi.on_pod") / "stack.py").read_text("utf-8")
    command = {"on_idle.sh": f"{upkeep.on_idle}\n"} if way == "command" else {}
    return {"launch.sh": render("launch.sh.j2", **values), **own, **command}


OWN_FILES = (
    *("pi_beside.py", "pi_guard.py", "pi_idle.py", "pi_link.py", "pi_stop_pod.py", "pi_watch.py", "sitecustomize.py"),
)
"""Modules of pi that run within the server or beside it."""
