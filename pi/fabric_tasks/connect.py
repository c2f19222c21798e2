"""`pi connect`: the settings by which a client finds a model."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.clients import definitions
from pi.clients.definitions import CLIENTS, Client, Endpoint, filled
from pi.errors import InputError
from pi.fabric_tasks.flags import flag, operand, switch
from pi.fabric_tasks.options import PodOptions
from pi.fabric_tasks.verb import verb
from pi.planning import families
from pi.pods import apis
from pi.pods.types import Deployment, Pod, check_name
from pi.steps import client_files, endpoints, heads, keys, tunnel_loop, tunnels, where
from pi.steps.states import Listed


@dataclass(frozen=True)
class ConnectOptions(PodOptions):
    name: str = operand("NAME", "which model", required=True, completes="name")
    to: str = flag("CLIENT", ", ".join(CLIENTS), required=True, completes="client")
    write: bool = switch("put it into the client's settings file; what is there stays", excludes="--undo")
    undo: bool = switch("take out what --write put in")
    file: str | None = flag("FILE", "another file than the client's own", requires="--write")


@verb(
    ConnectOptions,
    examples=(
        "pi connect qwen --to curl",
        "pi connect qwen --to opencode --write",
        "pi connect qwen --to codex --undo",
    ),
)
def connect(c: Any, options: ConnectOptions) -> None:
    """Print the settings by which a client finds a model, or write them."""
    name = check_name(options.name, "model")
    client = _client(options)
    if options.undo:
        return _undo(client, name)
    pod_name = heads.pod_for(c, options.pod, name)
    pod = where.chosen(c, pod_name)
    found = endpoints.running(c, pod, name, is_named=pod_name is not None)
    apis.require_chat(name, found.model.api)
    endpoint = Endpoint(_url(pod, name, found, opens=options.write), name, found.context, keys.reference())
    _warn(client, endpoint, found.model)
    if options.write:
        _write(client, endpoint, options.file)
    else:
        _print(client, endpoint)
    if client.run:
        screen.note(f"run: {filled(client.run, endpoint)}")
    for note in client.notes:
        screen.note(f"note: {note}")


def _client(options: ConnectOptions) -> Client:
    if options.to not in CLIENTS:
        problem = f"unknown client {options.to!r}" if options.to else "which client?"
        raise InputError("client-unknown", problem, f"use --to with one of {', '.join(CLIENTS)}")
    client = definitions.client(options.to)
    if (options.write or options.undo) and client.file is None:
        hint = f"see what to do: pi connect {options.name} --to {client.name}"
        raise InputError("client-without-file", f"pi writes no file for {client.name}", hint)
    return client


def _url(pod: Pod, name: str, found: Listed, *, opens: bool) -> str:
    """Return the URL of a model for clients here. If it needs a tunnel, open it, or say how."""
    model = found.model
    if url := endpoints.reached(pod, found):
        return url
    if opens:
        opened, _ = tunnel_loop.open_in_background(pod, model.name, model.port)
        again = f"pi tunnel {name}{where.flag_for(pod.name)} --background"
        screen.note(f"{name} is at {opened.url} by a tunnel; after a reboot: {again}")
        return opened.url
    port = tunnels.port_for(pod.name, model.name, model.port, None)
    command = f"pi tunnel {model.name}{where.flag_for(pod.name)} --background --port {port}"
    screen.note(f"note: {name} needs a tunnel; open it: {command}")
    return f"http://{tunnels.LOOPBACK}:{port}/v1"


def _warn(client: Client, endpoint: Endpoint, model: Deployment) -> None:
    family = families.load().named(families.repository_name(str(model.model)))
    has_tools = None if family is None else family.tools is not None
    for reason in definitions.warnings(client, endpoint, family.name if family else None, has_tools):
        screen.note(f"warning: {reason}")


def _print(client: Client, endpoint: Endpoint) -> None:
    if client.file:
        screen.say(f"# {client_files.short(client_files.place_of(client.file))}")
        screen.say(definitions.shown(client.file, endpoint).rstrip())
    _print_variables(client, endpoint)
    if client.text:
        screen.say(filled(client.text, endpoint).strip())


def _print_variables(client: Client, endpoint: Endpoint) -> None:
    for variable, value in filled(client.variables, endpoint).items():
        written = f'"{value}"' if value == endpoint.key else shlex.quote(value)
        screen.say(f"export {variable}={written}")


def _write(client: Client, endpoint: Endpoint, given: str | None) -> None:
    assert client.file is not None  # noqa: S101 - `connect` checked it
    path, kept = client_files.write(client, client.file, endpoint, given)
    screen.say(f"wrote {path}; undo: pi connect {endpoint.model} --to {client.name} --undo")
    if kept:
        screen.note(f"note: {', '.join(kept)} there stays yours; the command below chooses {endpoint.model}")
    _print_variables(client, endpoint)


def _undo(client: Client, name: str) -> None:
    assert client.file is not None  # noqa: S101 - `connect` checked it
    path, is_restored = client_files.undo(client, client.file, name)
    screen.say(f"{path} is as it was before" if is_restored else f"took pi's part out of {path}")
