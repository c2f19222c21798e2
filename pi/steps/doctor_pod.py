"""What `pi doctor` checks on a pod."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from pi import screen
from pi.calls import check, doctor
from pi.calls.doctor import PodHealth
from pi.calls.status import Found, Status, read_status
from pi.errors import PiError
from pi.planning.preflight import CLOCK_S, Finding, MachineFacts, findings
from pi.pods import gpus
from pi.pods.types import Pod
from pi.steps import check_report, where
from pi.steps.diagnosis import Checked, failure, of_error, ok, warning
from pi.text import count

LEAST_GB = 2.0
"""Free space in the home below which logs and compiled kernels soon fail."""


def checks(c: Any, pod: Pod) -> Iterator[Checked]:
    """Yield what each check of a pod found; only the connection's, if that fails."""
    began = time.monotonic()
    try:
        with where.connected(c, pod, named=True) as connection:
            took = time.monotonic() - began
            facts = check.check(connection, os.environ)
            status, health = read_status(connection), doctor.ask(connection)
    except PiError as error:
        yield of_error(error)
        return
    yield ok("pod", "ssh", f"connected to {where.label(pod)} after {took:.1f} s")
    yield from lines(pod, facts, status, health)


def lines(pod: Pod, facts: MachineFacts, status: Status, health: PodHealth) -> Iterator[Checked]:
    """Yield a line for each fact of a pod that answers."""
    found = [each for each in findings(facts).all if not (facts.device == "cpu" and each.step == "gpus")]
    yield from _of_step("system", f"{facts.system}, {facts.arch}", found)
    yield from _gpus(pod, facts, status, found)
    yield from _disk(pod, facts, status)
    yield from _cache(pod, facts, status, found)
    yield from _vllm(pod, facts, found)
    if abs(facts.skew_s) <= CLOCK_S:
        yield ok("pod", "clock", f"{abs(facts.skew_s):.0f} s from yours")
    yield ok("pod", "ports", check_report.ports(facts))
    for each in facts.lines:
        fix = "check the pod's network, or set a mirror: HF_ENDPOINT, UV_DEFAULT_INDEX"
        text = check_report.speed(each)
        yield warning("pod", "network", text, fix) if each.problem else ok("pod", "network", text)
    yield _token(pod, health)
    yield from _leftovers(pod, status, health)


def _of_step(step: str, fine: str, found: list[Finding]) -> Iterator[Checked]:
    """Yield the findings of one step of a setup, or one line that all is well."""
    of_step = [each for each in found if each.step == step]
    for each in of_step:
        if each.hint:
            make = failure if each.severity == "stop" else warning
            yield make("pod", step, each.text, each.hint)
        else:
            yield ok("pod", step, each.text)
    if not of_step:
        yield ok("pod", step, fine)


def _gpus(pod: Pod, facts: MachineFacts, status: Status, found: list[Finding]) -> Iterator[Checked]:
    missing = gpus.lost(pod.gpus, status.gpus, status.unread_gpus)
    for text in missing:
        yield failure("pod", "gpus", text, f"reboot the pod; if it stays away: pi pods setup {pod.name}")
    if missing:
        return
    unread = [each for each in found if each.step == "gpus" and not each.hint]
    if facts.device == "cuda" and len(status.gpus) > len(pod.gpus):
        text = f"it has {count(len(status.gpus), 'GPU')}, and pods.json knows {len(pod.gpus)}"
        yield warning("pod", "gpus", text, f"pi pods setup {pod.name}")
    for each in unread:
        yield warning("pod", "gpus", each.text, f"pi ssh --pod {pod.name} -- nvidia-smi")
    yield from _of_step("gpus", check_report.gpus(facts), [each for each in found if each not in unread])


def _disk(pod: Pod, facts: MachineFacts, status: Status) -> Iterator[Checked]:
    free_space = f"free space; the models on it: pi cache --pod {pod.name}"
    if status.full:
        yield failure("pod", "disk", f"full: {status.full}", free_space)
    elif facts.home.free_gb < LEAST_GB:
        yield warning("pod", "disk", check_report.space(facts.home), free_space)
    else:
        yield ok("pod", "disk", check_report.space(facts.home))


def _cache(pod: Pod, facts: MachineFacts, status: Status, found: list[Finding]) -> Iterator[Checked]:
    if status.storage:
        fix = f'as root on the pod: umount -l FOLDER; then: pi pods setup {pod.name} --mount "..."'
        yield failure("pod", "cache", status.storage, fix)
    else:
        yield from _of_step("cache", check_report.space(facts.models), found)


def _vllm(pod: Pod, facts: MachineFacts, found: list[Finding]) -> Iterator[Checked]:
    repair = f"pi pods setup {pod.name}"
    if facts.venv == "":
        away = f"pi ssh --pod {pod.name} -- 'mv ~/venv ~/venv.old'"
        yield failure("pod", "venv", "the Python of ~/venv does not run", f"{away} && {repair}")
    elif not facts.has_vllm:
        yield failure("pod", "venv", "~/venv has no vLLM", repair)
    else:
        yield from _of_step("venv", f"vLLM {facts.vllm_version}, Python {facts.venv}", found)


def _token(pod: Pod, health: PodHealth) -> Checked:
    again = f"read -rs HF_TOKEN && export HF_TOKEN && pi pods setup {pod.name}"
    answers = {
        "accepted": ok("pod", "token", "the hub accepts it"),
        "rejected": failure("pod", "token", "the hub rejects it", again),
        "none": warning("pod", "token", "none: gated models cannot be downloaded", again),
        "unknown": warning("pod", "token", "the hub does not answer", "check the pod's network"),
    }
    return answers[health.token]


def _leftovers(pod: Pod, status: Status, health: PodHealth) -> Iterator[Checked]:
    found = [
        *(_of_model(each, pod) for each in status.found if each.left or each.state in ("crashed", "unresponsive")),
        *(
            failure(
                "pod",
                "models",
                f"the record of {each.name} is damaged or missing",
                f"pi stop {each.name} --pod {pod.name}",
            )
            for each in status.unrecorded
        ),
    ]
    yield from found
    if health.unfinished_bytes:
        models = ", ".join(health.abandoned)
        text = f"{screen.gigabytes(health.unfinished_bytes)} of downloads that did not end: {models}"
        model = f"{health.abandoned[0]} --pod {pod.name}"
        fix = f"pi pull {model}, or: pi cache rm {model}"
        yield warning("pod", "leftovers", text, fix)
    elif not found:
        yield ok("pod", "leftovers", "none")


def _of_model(found: Found, pod: Pod) -> Checked:
    name = found.deployment.name
    if found.left:
        pids = ", ".join(map(str, found.left))
        fix = f"pi stop {name} --pod {pod.name}"
        return failure("pod", "models", f"{name} has ended, but pid {pids} still runs", fix)
    cause = f": {found.cause}" if found.cause else ""
    is_kept = name in pod.models and pod.models[name].options
    fix = f"pi {'restart' if is_kept else 'logs'} {name} --pod {pod.name}"
    return warning("pod", "models", f"{name} is {found.state}{cause}", fix)
