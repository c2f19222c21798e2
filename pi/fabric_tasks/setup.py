"""`pi pods setup`: make a machine a pod."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import replace
from typing import Any

from pi import config, screen
from pi.calls.failures import SetupError
from pi.calls.setup import SetupFacts, SetupRequest, set_up
from pi.calls.status import read_status
from pi.errors import InputError, Interrupted, PiError
from pi.fabric_tasks.verb import verb
from pi.planning import catalog
from pi.planning.catalog import ModelSpec, Variant
from pi.pods import changes, state
from pi.pods.types import Pod, State, check_name
from pi.setup import mounts
from pi.ssh import target
from pi.ssh.link import Link
from pi.steps import keys, reconcile, where
from pi.steps.reports import SetupReport
from pi.steps.states import gpu_summary
from pi.vllm.versions import NIGHTLY

VLLM_CHOICES = ("release", "nightly", "gpt-oss")


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
    kind, floor, packages = _wanted(vllm, for_)
    if beside and for_ is None:
        raise InputError("--beside says nothing without --for", f"pi pods setup {name} --for MODEL --beside")
    pod = _known_or_new(check_name(name, "pod"), ssh or (where.ssh_of(c) if where.under_fab(c) else None))
    place = target.parse(pod.ssh)
    mounted = mounts.parse(mount) if mount else None
    request = SetupRequest(
        hf_token=keys.hf_token(),
        api_key=keys.new_api_key() if generate_key else keys.api_key(),
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
    with where.linked(c, pod, named=ssh is not None, new_host_key=new_host_key) as link, changes.change("setup", name):
        report = SetupReport()
        try:
            facts = set_up(link, name, request, report.hear)
        except SetupError as error:
            report.quote(error.tail)
            raise
        except Interrupted as stop:
            stop.hint = f"run it again to go on from there: {again}"
            raise
        try:
            with where.noted(
                f"{name} is set up, but that is not written down", f"run it again, which is quick now: {again}"
            ):
                known = _remember(pod, facts, link.host_key)
            screen.say(f"{name} is ready after {screen.seconds(time.monotonic() - began)}: {_summary(facts)}")
        finally:
            if generate_key:
                screen.say("the key of your models, shown this once; keep it, and set it wherever you call them:")
                screen.reveal(f"  export PI_API_KEY={request.api_key}")
        _adopt(link, known)


def _command(pod: Pod, choices: dict[str, str | None], switches: dict[str, bool]) -> str:
    """What to type to set a pod up in the same way again."""
    words = ["pi", "pods", "setup", pod.name, pod.ssh]
    for flag, value in choices.items():
        words += [flag, value] if value else []
    return shlex.join(words + [flag for flag, is_on in switches.items() if is_on])


def _adopt(link: Link, pod: Pod) -> None:
    """Take over the models that run on a pod and are not in pods.json."""
    try:
        reconcile.reconcile(pod, read_status(link))
    except PiError as error:
        screen.note(f"which models run there could not be asked: {error.message}; pi list asks again")


def _wanted(kind: str | None, model: str | None) -> tuple[str, str | None, tuple[str, ...]]:
    """Which vLLM a setup installs, the oldest that it may be, and packages: what a model of the catalog needs."""
    if kind is not None and kind not in VLLM_CHOICES:
        raise InputError(f"--vllm {kind!r} is not known", f"choose one of {', '.join(VLLM_CHOICES)}")
    if model is None:
        return kind or "release", None, ()
    spec, variant = _known(model)
    if variant.min_vllm != NIGHTLY:
        return kind or "release", variant.min_vllm, spec.packages
    if kind not in (None, NIGHTLY):
        raise InputError(f"no release of vLLM serves {model} yet", f"leave out --vllm {kind}")
    return NIGHTLY, None, spec.packages


def _known(model: str) -> tuple[ModelSpec, Variant]:
    known = catalog.load(config.config_dir()).find(model)
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
    def edit(known: State) -> State:
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
