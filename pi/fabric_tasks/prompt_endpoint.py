"""The endpoint that `pi prompt` talks to: a model of a pod, or any other."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pi.calls.logs import last_log_line
from pi.calls.status import read_status
from pi.errors import InputError
from pi.fabric_tasks.prompt_options import PromptOptions
from pi.planning import families
from pi.pods import apis
from pi.pods.types import Deployment, Pod
from pi.prompt.client import preload
from pi.prompt.endpoint import Endpoint
from pi.steps import heads, keys, reconcile, spending, states, where

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def given(options: PromptOptions, base_url: str) -> Endpoint:
    """Return the endpoint of --base-url. Raises InputError if a flag is unusable."""
    if not base_url.startswith(("http://", "https://")):
        raise InputError(
            "base-url-invalid", f"--base-url {base_url!r} is not a URL", "use one such as http://127.0.0.1:8000/v1"
        )
    if options.model is None:
        raise InputError("model-missing", "--model is missing", "--base-url URL --model ID")
    key = os.environ.get(options.api_key_env or "OPENAI_API_KEY", "")
    if options.api_key_env is not None and not key:
        raise InputError(
            "api-key-env-unset", f"--api-key-env: {options.api_key_env} is not set", f"export {options.api_key_env}=..."
        )
    endpoint = Endpoint(
        base_url, options.model, key or "none", api="responses" if options.api == "responses" else "chat"
    )
    return _switchable(endpoint)


def _switchable(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with a way to any other model of its server."""
    return replace(endpoint, switch=lambda model: _switchable(replace(endpoint, model=model)))


@contextmanager
def of_pod(c: Any, options: PromptOptions) -> Iterator[Endpoint]:
    """Connect to the pod and yield the endpoint of its model."""
    name = options.name
    if name is None:
        raise InputError("name-missing", "which model?", 'pi prompt NAME "message"; pi list shows the names')
    pod_name = heads.pod_for(c, options.pod, name)
    pod = where.chosen(c, pod_name)
    deployment = pod.serving(name)
    if deployment is None:
        raise where.unknown_model(name, pod)
    if options.api is None:
        apis.require_chat(name, deployment.api)
    key = keys.api_key()
    # importing the SDK takes as long as connecting
    with (
        where.connected(c, pod, named=pod_name is not None, meanwhile=preload) as connection,
        spending.used(pod),
    ):
        yield _endpoint(connection, pod, name, deployment, key, options)


def _endpoint(
    connection: Connection, pod: Pod, name: str, deployment: Deployment, key: str, options: PromptOptions
) -> Endpoint:
    def switch(other: str) -> Endpoint:
        chosen = pod.serving(other)
        if chosen is None:
            raise where.unknown_model(other, pod)
        apis.require_chat(other, chosen.api)
        return _endpoint(connection, pod, other, chosen, key, options)

    return Endpoint(
        f"http://127.0.0.1:{deployment.port}/v1",
        deployment.replica_of or name,
        key,
        api="responses" if (options.api or deployment.api) == "responses" else "chat",
        dial=lambda: connection.dial(deployment.port),
        state=lambda: _state(connection, pod, deployment.name),
        last_log_line=lambda: last_log_line(connection, deployment.name),
        start=_start_command(deployment, options.pod),
        parsers=lambda: _parsers(deployment.model),
        others=tuple(pod.models),
        switch=switch,
    )


def _start_command(deployment: Deployment, pod: str | None) -> str:
    """Return the commands that start a model again, without the arguments that the user gave before."""
    on_pod = f" --pod {shlex.quote(pod)}" if pod else ""
    name = shlex.quote(deployment.name)
    return f"pi stop {name}{on_pod} && pi start {shlex.quote(deployment.model)} --name {name}{on_pod}"


def _parsers(model: str) -> tuple[str | None, str | None]:
    """Return the parsers of a model's family for tool calls and for thinking; None if unknown."""
    family = families.load().named(families.repository_name(model))
    return (family.tools, family.reasoning) if family else (None, None)


def _state(connection: Connection, pod: Pod, name: str) -> str:
    status = read_status(connection)
    reconcile.reconcile(pod, status)
    return states.state_of(pod, name, status)
