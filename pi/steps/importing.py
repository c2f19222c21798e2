"""Register rented machines as pods."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pi.pods import state
from pi.pods.types import NAME, Pod, State
from pi.steps.providers import Rented

PROVIDER = "provider"
"""Key of a pod in pods.json: the provider and its id of the machine."""


@dataclass(frozen=True)
class Imported:
    """What becomes of one machine: a pod to save, or only a sentence."""

    sentence: str
    pod: Pod | None = None


def plan(saved: State, provider: str, machines: Sequence[Rented]) -> list[Imported]:
    """Return what an import does with each machine. It changes no address of a pod that pi knows."""
    found: list[Imported] = []
    names = set(saved.pods)
    for machine in machines:
        each = _planned(saved, provider, machine, names)
        names |= {each.pod.name} if each.pod else set()
        found.append(each)
    return found


def _planned(saved: State, provider: str, machine: Rented, names: set[str]) -> Imported:
    if machine.problem:
        return Imported(f"{machine.name}: not registered: {machine.problem}")
    mark = f"{provider} {machine.id}"
    known = next((pod for pod in saved.pods.values() if pod.extra.get(PROVIDER) == mark), None)
    at_address = next((pod for pod in saved.pods.values() if pod.ssh == machine.ssh), None)
    if known is None and at_address and at_address.extra.get(PROVIDER, mark) != mark:
        name = at_address.name
        return Imported(
            f"{machine.name}: not registered: it has the address of {name}, another machine;"
            f" if that one is gone: pi pods remove {name}, then import again"
        )
    known = known or at_address
    if known is None:
        name = machine.name if machine.name not in names else f"{machine.name[:40]}-{machine.id}"
        if name in names or not NAME.fullmatch(name):
            return Imported(f"{machine.name}: not registered: its name is taken; pi pods rename {machine.name} NEW")
        pod = Pod(name, machine.ssh, price=machine.price, extra={PROVIDER: mark})
        return Imported(f"{name}: registered; to use it: pi pods setup {name}", pod)
    if known.ssh != machine.ssh:
        return Imported(f"{known.name}: it has moved: pi pods address {known.name} {shlex.quote(machine.ssh)}")
    price = known.price if machine.price is None else machine.price
    same = replace(known, price=price, extra={**known.extra, PROVIDER: mark})
    if same == known:
        return Imported(f"{known.name}: already registered")
    return Imported(f"{known.name}: already registered; saved its price", same)


def save(found: Sequence[Imported]) -> None:
    """Save the new and changed pods in one change; the first pod becomes the active one."""
    pods = [each.pod for each in found if each.pod]

    def edit(before: State) -> State:
        after = before
        for pod in pods:
            present = before.pods.get(pod.name)
            after = after.with_pod(replace(present, price=pod.price, extra=pod.extra) if present else pod)
        return after if after.active or not pods else replace(after, active=pods[0].name)

    if pods:
        state.change(edit)
