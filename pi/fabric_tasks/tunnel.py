"""`pi tunnel`: local ports that connect to models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.errors import InputError, Interrupted
from pi.fabric_tasks.flags import flag, operand, switch
from pi.fabric_tasks.options import PodOptions, json_switch
from pi.fabric_tasks.verb import verb
from pi.pods.types import Pod
from pi.ssh import target
from pi.steps import heads, tunnel_loop, tunnels, where
from pi.steps.tunnels import Tunnel


@dataclass(frozen=True)
class TunnelOptions(PodOptions):
    names: tuple[str, ...] = operand(
        "[NAME...]", "which models; without it, every model of the pod", takes_rest=True, completes="name"
    )
    port: str | None = flag("PORT", "local port (default: the last one, or the model's number)")
    background: bool = switch("return when the tunnels are up; they stay open")
    list: bool = switch("show the open tunnels of all pods", excludes="--background")
    close: bool = switch("close the tunnels of these models, or all of them", excludes="--background")
    json: bool = json_switch(requires="--list")


@verb(
    TunnelOptions,
    examples=("pi tunnel qwen", "pi tunnel qwen --port 9000 --background", "pi tunnel --list", "pi tunnel --close"),
)
def tunnel(c: Any, options: TunnelOptions) -> None:
    """Make models answer on ports of this machine, over SSH, until Ctrl+C."""
    if options.list:
        return _list(options.json)
    if options.close:
        return _close(options)
    pod_name = heads.pod_for(c, options.pod, options.names[0] if len(options.names) == 1 else None)
    pod = where.chosen(c, pod_name)
    ports = _ports(pod, options.names)
    given = _port(options.port, len(ports))
    if options.background:
        return _open_in_background(pod, ports, given)
    wanted = [
        Tunnel(pod.name, name, tunnels.port_for(pod.name, name, port, given), port) for name, port in ports.items()
    ]
    try:
        tunnel_loop.serve(c, pod, wanted, is_named=pod_name is not None)
    except (KeyboardInterrupt, Interrupted):
        return


def _open_in_background(pod: Pod, ports: dict[str, int], given: int | None) -> None:
    for name, port in ports.items():
        there, was_open = tunnel_loop.open_in_background(pod, name, port, given)
        screen.say(f"{name} on {pod.name} is at {there.url}{' already' if was_open else ''}")


def _ports(pod: Pod, names: tuple[str, ...]) -> dict[str, int]:
    """Return the ports of models on their pod. Raises InputError for an unknown name, and for this machine."""
    found = {}
    for name in names or [each.name for each in pod.models.values() if not each.rank]:
        model = pod.serving(name)
        if model is None:
            raise where.unknown_model(name, pod)
        found[model.name] = model.port
    if not found:
        raise InputError("no-models", f"no models on {pod.name}", "start one: pi start MODEL --name NAME")
    if isinstance(target.parse(pod.ssh), target.LocalTarget):
        urls = ", ".join(f"http://{tunnels.LOOPBACK}:{port}/v1" for port in found.values())
        raise InputError("tunnel-local", f"{pod.name} is this machine, and needs no tunnel", f"use {urls}")
    return found


def _port(text: str | None, models: int) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise InputError("port-invalid", f"invalid --port {text!r}", "use a number from 1 to 65535")
    if models > 1:
        raise InputError("port-for-several", "--port is for one model", "name the model, or leave --port out")
    return int(text)


def _list(as_json: bool) -> None:
    found = tunnels.opened()
    if as_json:
        screen.say_json({"tunnels": [each.as_json() for each in found]})
    elif not found:
        screen.say("no tunnels are open; open one: pi tunnel NAME --background")
    else:
        rows = [(each.model, each.pod, each.url, "up" if each.is_up() else "connecting", each.pid) for each in found]
        screen.table(rows, ("NAME", "POD", "URL", "STATE", "PID"))


def _close(options: TunnelOptions) -> None:
    found = [each for each in tunnels.opened(options.pod) if not options.names or each.model in options.names]
    missing = set(options.names) - {each.model for each in found}
    if missing:
        raise InputError("no-tunnel", f"no tunnel to {', '.join(sorted(missing))} is open", "see: pi tunnel --list")
    for each in found:
        if tunnels.opened_to(each.pod, each.model):
            tunnels.close(each)
        screen.say(f"closed the tunnel to {each.model} on {each.pod}")
    if not found:
        screen.say("no tunnels are open")
