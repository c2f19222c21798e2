"""`pi pods setup`: make a machine a pod."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.calls.failures import SetupError
from pi.calls.setup import SetupFacts, SetupRequest, set_up
from pi.errors import InputError, Interrupted
from pi.fabric_tasks.flags import Options, choice, flag, operand, switch, words_of
from pi.fabric_tasks.verb import verb
from pi.pods import changes
from pi.pods.types import Pod, check_name
from pi.setup import mounts
from pi.ssh import target
from pi.steps import keys, moved, pod_entry, spending, where
from pi.steps.setup_report import SetupReport
from pi.steps.vllm_choice import vllm_for

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class SetupOptions(Options):
    name: str = operand("NAME", "name for the pod", required=True, completes="pod")
    ssh: str | None = operand(
        '"ssh ..."|local',
        "how to reach it, if it is new or has moved: its ssh command, or `local` for this machine",
        is_command=True,
    )
    mount: str | None = flag('"..."', "command that mounts shared storage for models, as the provider shows it")
    models_path: str | None = flag("P", "models directory on the pod (default: the mount, else ~/.cache/huggingface)")
    vllm: str | None = choice(("release", "nightly", "gpt-oss"), "which vLLM to install")
    for_: str | None = flag(
        "MODEL", "install a vLLM new enough for this catalog model, and the packages it needs", completes="model"
    )
    beside: bool = switch("install it into an extra venv and leave ~/venv alone", requires="--for")
    upgrade: bool = switch("upgrade vLLM and everything else")
    new_host_key: bool = switch("trust the pod's new host key (a new machine at an old address)")
    price: str | None = flag("2.49", "what the machine costs per hour; pi then shows what you have spent")
    on_idle: str | None = flag("stop-pod|COMMAND", "what it does when --stop-after-idle has ended its last model")
    generate_key: bool = switch("make the key that guards your models, keep it in pi's folder, and print it once")


@verb(
    SetupOptions,
    examples=(
        'pi pods setup dc1 "ssh root@203.0.113.7 -p 22022"',
        "pi pods setup here local",
        "pi pods setup dc1 --upgrade",
    ),
)
def setup(c: Any, options: SetupOptions) -> None:
    """Set up a machine as a pod; run it again to repair or upgrade."""
    request, pod = _request_and_pod(c, options)
    price = spending.parse_price(options.price) if options.price else None
    screen.say(f"setting up {pod.name}: {where.label(pod)}")
    moved_from = pod_entry.old_address(pod)
    again = _command(pod, options, moved_from)
    named, new_host_key = options.ssh is not None, options.new_host_key
    began = time.monotonic()
    with (
        where.connected(c, pod, named=named, new_host_key=new_host_key, fresh=True) as connection,
        changes.change("setup", pod.name),
    ):
        if moved_from and not new_host_key:
            pod, _ = moved.follow(connection, pod)
            screen.say(f"{pod.name} is the same machine as before, at a new address")
        facts = _set_up(connection, pod, request, again)
        try:
            unsaved = f"{pod.name} is set up, but pods.json could not be updated"
            with where.saving(unsaved, f"run it again, which is quick now: {again}"):
                pod = pod_entry.remember_setup(pod, facts, connection.host_key, price)
            took = screen.seconds(time.monotonic() - began)
            screen.say(f"{pod.name} is ready after {took}: {pod_entry.describe(facts)}")
        finally:
            if options.generate_key:
                keys.keep_new(request.api_key)
        pod_entry.adopt_models(connection, pod)
    spending.note_use(pod)
    screen.say(pod_entry.next_step(pod))
    if moved_from and new_host_key:
        screen.note(f"{pod.name} was {moved_from}; if that is another machine, it runs (and costs) until you end it")


def _request_and_pod(c: Any, options: SetupOptions) -> tuple[SetupRequest, Pod]:
    """Check every option. Raises InputError; the pod has not been contacted yet."""
    choice = vllm_for(options.vllm, options.for_)
    ssh = options.ssh or (where.ssh_of(c, options.name) if where.under_fab(c) else None)
    _check_named(options)
    pod = pod_entry.saved_or_new(check_name(options.name, "pod"), ssh and target.anchored(ssh), options.on_idle)
    mount = mounts.parse(options.mount) if options.mount else None
    token, key = keys.for_setup(options.generate_key)
    request = SetupRequest(
        hf_token=token,
        api_key=key,
        vllm=choice.kind,
        vllm_version=choice.min_version,
        packages=choice.packages,
        extra_venv=options.beside,
        mount=mount.words if mount else (),
        mount_target=mount.target if mount else None,
        models_path=mounts.directory(options.models_path, "--models-path") if options.models_path else None,
        upgrade=options.upgrade,
        mirrors={key: value for key, value in os.environ.items() if key.startswith(("PIP_", "UV_"))},
    )
    return request, pod


def _check_named(options: SetupOptions) -> None:
    """Raise InputError if an ssh command stands where the pod's name should be."""
    words = f"ssh {options.ssh}" if options.name == "ssh" and options.ssh else options.name
    if words.startswith("ssh "):
        raise InputError("pod-name-missing", "the pod has no name", f"pi pods setup NAME {shlex.quote(words)}")


def _set_up(connection: Connection, pod: Pod, request: SetupRequest, again: str) -> SetupFacts:
    """Set the pod up and show its steps. An error quotes the step's last lines, or how to continue."""
    report = SetupReport(pod.name, pod.on_idle)
    try:
        facts = set_up(connection, pod.name, request, report.hear, report.judge)
    except SetupError as error:
        report.quote(error.tail)
        error.hint = f"{error.hint}\n  to repeat it: {again}"
        pod_entry.keep_address(pod, connection.host_key)
        raise
    except Interrupted as stop:
        stop.hint = f"continue from there: {again}"
        pod_entry.keep_address(pod, connection.host_key)
        raise
    finally:
        report.end()
    report.keep_durations()
    return facts


def _command(pod: Pod, options: SetupOptions, moved_from: str | None) -> str:
    """Return what to type to set the pod up in the same way again.

    Its new host key is trusted by then, unless pods.json still has the machine that it replaces.
    """
    flags = words_of(replace(options, new_host_key=options.new_host_key and bool(moved_from)))
    return shlex.join(["pi", "pods", "setup", pod.name, pod.ssh, *flags])
