"""`pi pods`: the machines that pi knows."""

from __future__ import annotations

import os
import shlex
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pi import screen, state
from pi.errors import BusyError, InputError, Interrupted, PiError
from pi.fabric_tasks.verb import verb
from pi.gpus import memory_label
from pi.state import Pod

if TYPE_CHECKING:
    from pi.catalog import ModelSpec, Variant
    from pi.connection import Link
    from pi.events import Event
    from pi.remote import SetupFacts

VLLM_CHOICES = ("release", "nightly", "gpt-oss")


@verb(name="list", default=True)
def show(c: Any) -> None:
    """List the pods; `*` marks the active one."""
    known = state.load()
    if not known.pods:
        screen.say('no pods yet; add one: pi pods setup NAME "ssh root@HOST"')
        return
    rows = [("", "POD", "GPUS", "MODELS", "VLLM", "SSH")]
    firsts: dict[str, str] = {}
    for name, pod in known.pods.items():
        mark = "*" if name == known.active else ""
        first = firsts.setdefault(pod.boot, name) if pod.boot else name
        cards = gpu_summary(pod) if first == name else f"same machine as {first}"
        rows.append((mark, name, cards, str(len(pod.models) or "-"), _versions(pod), pod.ssh))
    screen.columns(rows)


@verb(
    "name [ssh]",
    'NAME "ssh ..."|local [--mount "..."] [--models-path P] [--vllm release|nightly|gpt-oss]'
    " [--for MODEL [--beside]] [--upgrade] [--new-host-key] [--generate-key]",
    details={
        "mount": "command that mounts shared storage for models, as the provider shows it",
        "models_path": "directory on the pod where models are kept (default: the mount, else ~/.cache/huggingface)",
        "vllm": "which vLLM: release, nightly or gpt-oss",
        "for_": "a vLLM new enough for this model of the catalog, and the packages that it needs besides",
        "beside": "put that vLLM into a venv beside ~/venv, which stays as it is; pi start uses it where it is needed",
        "upgrade": "bring vLLM and the rest up to date",
        "generate_key": "make the key that guards your models, and print it once (when PI_API_KEY is not set)",
        "new_host_key": "trust the pod's new host key (a new machine at an old address)",
    },
)
def setup(
    c: Any,
    name: str,
    ssh: str | None = None,
    mount: str | None = None,
    models_path: str | None = None,
    vllm: str | None = None,
    for_: str | None = None,
    beside: bool = False,
    upgrade: bool = False,
    new_host_key: bool = False,
    generate_key: bool = False,
) -> None:
    """Set a machine up as a pod (vLLM and all it needs) and remember it; run again to repair or upgrade."""
    from pi import audit, mounts, remote, target
    from pi.calls import SetupError
    from pi.fabric_tasks import target as targets

    kind, floor, packages = _wanted(vllm, for_)
    if beside and for_ is None:
        raise InputError("--beside says nothing without --for", f"pi pods setup {name} --for MODEL --beside")
    pod = _known_or_new(state.check_name(name, "pod"), ssh or (targets.ssh_of(c) if targets.under_fab(c) else None))
    place = target.parse(pod.ssh)
    mounted = mounts.parse(mount) if mount else None
    request = remote.SetupRequest(
        hf_token=targets.hf_token(),
        api_key=targets.new_api_key() if generate_key else targets.api_key(),
        vllm=kind,
        vllm_version=floor,
        packages=packages,
        beside=beside,
        mount=mounted.words if mounted else (),
        mount_target=mounted.target if mounted else None,
        models_path=mounts.directory(models_path, "--models-path") if models_path else None,
        upgrade=upgrade,
        mirrors={key: value for key, value in os.environ.items() if key.startswith(("PIP_", "UV_"))},
    )
    for notice in getattr(place, "notices", ()):
        screen.note(notice)
    screen.say(f"setting up {name}: {getattr(place, 'label', 'this machine')}")
    again = _command(
        pod,
        {"--mount": mount, "--models-path": models_path, "--vllm": vllm, "--for": for_},
        {"--beside": beside, "--upgrade": upgrade, "--generate-key": generate_key},
    )
    began = time.monotonic()
    with targets.linked(c, pod, named=ssh is not None, new_host_key=new_host_key) as link, audit.change("setup", name):
        report = SetupReport()
        try:
            facts = remote.setup(link, name, request, report.hear)
        except SetupError as error:
            report.quote(error.tail)
            raise
        except Interrupted as stop:
            stop.hint = f"run it again to go on from there: {again}"
            raise
        try:
            with targets.noted(
                f"{name} is set up, but that is not written down", f"run it again, which is quick now: {again}"
            ):
                known = _remember(pod, facts, link.host_key)
            screen.say(f"{name} is ready after {screen.seconds(time.monotonic() - began)}: {_summary(facts)}")
        finally:
            if generate_key:
                screen.say("the key of your models, shown this once; keep it, and set it wherever you call them:")
                screen.reveal(f"  export PI_API_KEY={request.api_key}")
        _adopt(link, known)


@verb("name", "NAME")
def active(c: Any, name: str) -> None:
    """Choose the pod that the other verbs work on."""
    from pi import audit

    state.change(lambda known: replace(known, active=known.pod(name).name))
    audit.note("active", name)
    screen.say(f"{name} is active")


@verb("name", "NAME [--force]", details={"force": "also when models run on it; they keep running"})
def remove(c: Any, name: str, force: bool = False) -> None:
    """Forget a pod. Only pi's own notes change; nothing on the pod is touched."""
    from pi import audit

    def edit(known: state.State) -> state.State:
        pod = known.pod(name)
        if pod.models and not force:
            raise BusyError(
                f"{name} still has models: {', '.join(pod.models)}",
                f"stop them (pi stop --pod {name}), or, if the pod is gone: pi pods remove {name} --force;"
                " either way the machine bills until you end it at the provider",
            )
        return known.without_pod(name)

    before = state.load()
    left = state.change(edit)
    audit.note("remove", name)
    screen.say(f"{name} is forgotten; the machine itself still runs (and bills) until you end it at the provider")
    venvs = ", ".join(f"~/{folder}" for folder in ("venv", *before.pod(name).beside))
    screen.say(f"on it stay ~/.pi (with HF_TOKEN and the key, in private files), ~/.vllm_logs, {venvs} and the models")
    with suppress(InputError):  # a pod whose ssh command makes no sense can be forgotten too
        screen.say(f"to take the secrets off it: {_run_there(before.pod(name), 'rm -f ~/.pi/env.sh ~/.pi/run/*/key')}")
    if before.active == name:
        way_on = f"choose one: pi pods active {next(iter(left.pods))}" if left.pods else "none is left"
        screen.say(f"no pod is active now; {way_on}")


def _run_there(pod: Pod, command: str) -> str:
    """What to type to run a command on a pod. Raises InputError."""
    from pi import target

    place = target.parse(pod.ssh)
    return shlex.join(["ssh", *place.ssh_words(), command]) if isinstance(place, target.SshTarget) else command


def _command(pod: Pod, choices: dict[str, str | None], switches: dict[str, bool]) -> str:
    """What to type to set a pod up in the same way again."""
    words = ["pi", "pods", "setup", pod.name, pod.ssh]
    for flag, value in choices.items():
        words += [flag, value] if value else []
    return shlex.join(words + [flag for flag, is_on in switches.items() if is_on])


def _adopt(link: Link, pod: Pod) -> None:
    """Take over the models that run on a pod and are not in pods.json."""
    from pi import remote
    from pi.fabric_tasks import reconcile

    try:
        reconcile.reconcile(pod, remote.status(link))
    except PiError as error:
        screen.note(f"which models run there could not be asked: {error.message}; pi list asks again")


def gpu_summary(pod: Pod) -> str:
    """The pod's GPUs in a few words, such as "2x H100 80GB HBM3 (80GB)" or "none (CPU)"."""
    kinds: dict[tuple[str, int], int] = {}
    for gpu in pod.gpus:
        kinds[gpu.name, gpu.memory_mib] = kinds.get((gpu.name, gpu.memory_mib), 0) + 1
    return ", ".join(f"{n}x {name} ({memory_label(mib)})" for (name, mib), n in kinds.items()) or "none (CPU)"


def _versions(pod: Pod) -> str:
    """Its vLLMs, such as "0.32.0" or "0.32.0, beside it 0.33.0"."""
    return (pod.vllm_version or "-") + "".join(f", beside it {version}" for version in pod.beside.values())


class SetupReport:
    """Shows the steps of a setup as they happen, with the time each took; installers' output live on a terminal.

    A step that has nothing to do is one line; one that works says first what it does.
    """

    def __init__(self) -> None:
        self._live = screen.Progress()
        self._began = time.monotonic()
        self._purpose = ""

    def hear(self, event: Event) -> None:
        if event.kind == "log":
            self._announce()
            self._live.show("    " + event["text"].strip())
        elif event.kind == "setup":
            self._live.clear()
            self._step(event["verb"], event["arg"], event["text"])
        elif event.kind in ("reconnecting", "reconnected"):
            self._live.clear()
            screen.reconnecting(event)

    def _step(self, word: str, step: str, text: str) -> None:
        if word == "step":
            self._began = time.monotonic()
            self._purpose = f"- {step}: {text}"
        elif word == "note":
            self._announce()
            screen.say(f"  note: {text}")
        elif word in ("done", "skip"):
            taken = f" ({screen.seconds(time.monotonic() - self._began)})" if word == "done" else ""
            screen.say(f"  {text}{taken}" if not self._purpose else f"- {step}: {text}{taken}")
            self._purpose = ""

    def _announce(self) -> None:
        if self._purpose:
            screen.say(self._purpose)
            self._purpose = ""

    def quote(self, lines: list[str]) -> None:
        self._live.clear()
        for line in lines:
            screen.note("    | " + line)


def _wanted(kind: str | None, model: str | None) -> tuple[str, str | None, tuple[str, ...]]:
    """Which vLLM a setup installs, the oldest that it may be, and packages: what a model of the catalog needs."""
    from pi.vllm import NIGHTLY

    if kind is not None and kind not in VLLM_CHOICES:
        raise InputError(f"--vllm {kind!r} is not known", f"choose one of {', '.join(VLLM_CHOICES)}")
    if model is None:
        return kind or "release", None, ()
    spec, variant = _known(model)
    if variant.floor != NIGHTLY:
        return kind or "release", variant.floor, spec.packages
    if kind not in (None, NIGHTLY):
        raise InputError(f"no release of vLLM serves {model} yet", f"leave out --vllm {kind}")
    return NIGHTLY, None, spec.packages


def _known(model: str) -> tuple[ModelSpec, Variant]:
    from pi import catalog

    known = catalog.load(state.config_dir()).find(model)
    if known is None:
        raise InputError(f"--for {model!r} is not in the catalog", "pi models lists it")
    return known


def _known_or_new(name: str, ssh: str | None) -> Pod:
    """The pod of that name; a new one needs an ssh command, a known one keeps its own."""
    known = state.load().pods.get(name)
    if known is None and ssh is None:
        raise InputError(
            f"how is {name} reached?", f'pi pods setup {name} "ssh root@HOST", or: pi pods setup {name} local'
        )
    if known and ssh not in (None, known.ssh):
        raise InputError(
            f"{name!r} is already the name of another pod ({known.ssh})",
            f"choose another, or: pi pods remove {name}",
        )
    return known or Pod(name, str(ssh))


def _remember(pod: Pod, facts: SetupFacts, host_key: str) -> Pod:
    def edit(known: state.State) -> state.State:
        fresh = replace(
            known.pods.get(pod.name, pod),
            gpus=facts.gpus,
            models_path=facts.models_path,
            vllm_version=facts.vllm_version,
            host_key=host_key,
            boot=facts.boot,
            beside=facts.beside,
        )
        after = known.with_pod(fresh)
        return after if after.active else replace(after, active=pod.name)

    after = state.change(edit)
    twins = [name for name, other in after.pods.items() if other.boot == facts.boot and name != pod.name]
    if twins:
        screen.note(
            f"note: {pod.name} is the same machine as {twins[0]!r} (boot id {facts.boot.partition('/')[0]}):"
            " what one has and runs, the other does, and its GPUs count once"
        )
    if after.active != pod.name:
        screen.say(f"{after.active} stays the active pod; to switch: pi pods active {pod.name}")
    return after.pods[pod.name]


def _summary(facts: SetupFacts) -> str:
    for line in facts.skipped_gpu_lines:
        screen.note(f"nvidia-smi said something that is no GPU, left out: {line}")
    cards = gpu_summary(Pod("", "", gpus=facts.gpus))
    beside = "".join(f"; vLLM {version} in ~/{folder}" for folder, version in facts.beside.items())
    return f"GPUs {cards}, vLLM {facts.vllm_version or 'none'}, Python {facts.python or 'unknown'}{beside}"
