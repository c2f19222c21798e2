"""`pi prompt`: talk to a model, with tools that read the files of this directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke import Exit

from pi import config, screen
from pi.calls.logs import last_log_line
from pi.calls.status import read_status
from pi.errors import InputError
from pi.fabric_tasks.prompt_options import PromptOptions
from pi.fabric_tasks.verb import verb
from pi.pods import apis
from pi.pods.types import Pod
from pi.prompt.client import preload
from pi.prompt.conversation import Options as Conversation
from pi.prompt.conversation import run
from pi.prompt.endpoint import Endpoint
from pi.prompt.sessions import Sessions
from pi.steps import keys, reconcile, states, where
from pi.text import one_line

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

FIRST_WIDTH = 60
"""Characters shown of a saved conversation's first message."""


@verb(
    PromptOptions,
    examples=(
        'pi prompt qwen "Which files here should I read first?"',
        'git diff | pi prompt qwen -q "Write a commit message" -',
        "pi prompt qwen",
    ),
)
def prompt(c: Any, options: PromptOptions) -> None:
    """Ask a model, which may read this directory; `-` is stdin. Without a message, chat."""
    if options.sessions:
        return _list_sessions(options.json)
    conversation = options.conversation()
    if options.base_url is not None:
        messages = [] if options.name is None else [options.name]
        endpoint = _given_endpoint(options, options.base_url)
        preload()
        code = _converse(endpoint, [*messages, *options.message], conversation)
    else:
        with _pod_endpoint(c, options) as endpoint:
            code = _converse(endpoint, options.message, conversation)
    if code:
        raise Exit(code=code)


def _converse(endpoint: Endpoint, messages: Sequence[str], conversation: Conversation) -> int:
    with Path(os.devnull).open("r+") as nothing:  # replaces a stream that the caller has closed
        return run(
            endpoint,
            messages,
            conversation,
            config_dir=config.config_dir(),
            working_dir=_working_dir(),
            stdin=sys.stdin or nothing,
            stdout=sys.stdout or nothing,
            stderr=sys.stderr or nothing,
        )


def _working_dir() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise InputError(
            "working-dir-gone", f"the working directory is gone: {error.strerror}", "cd to one that exists"
        ) from None


def _given_endpoint(options: PromptOptions, base_url: str) -> Endpoint:
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
    return Endpoint(base_url, options.model, key or "none", api="responses" if options.api == "responses" else "chat")


@contextmanager
def _pod_endpoint(c: Any, options: PromptOptions) -> Iterator[Endpoint]:
    """Connect to the pod and yield the endpoint of its model."""
    name = options.name
    if name is None:
        raise InputError("name-missing", "which model?", 'pi prompt NAME "message"; pi list shows the names')
    pod = where.chosen(c, options.pod)
    deployment = pod.serving(name)
    if deployment is None:
        names = f"it has {', '.join(pod.models)}" if pod.models else "it has none"
        raise InputError(
            "unknown-name", f"no model {name!r} on {pod.name}; {names}", "see: pi list; to start one: pi start"
        )
    if options.api is None:
        apis.require_chat(name, deployment.api)
    key = keys.api_key()
    # importing the SDK takes as long as connecting
    with where.connected(c, pod, named=options.pod is not None, meanwhile=preload) as connection:
        yield Endpoint(
            f"http://127.0.0.1:{deployment.port}/v1",
            name,
            key,
            api="responses" if (options.api or deployment.api) == "responses" else "chat",
            dial=lambda: connection.dial(deployment.port),
            state=lambda: _state(connection, pod, deployment.name),
            last_log_line=lambda: last_log_line(connection, deployment.name),
        )


def _state(connection: Connection, pod: Pod, name: str) -> str:
    status = read_status(connection)
    reconcile.reconcile(pod, status)
    return states.state_of(pod, name, status)


def _list_sessions(as_json: bool) -> None:
    saved = list(Sessions(config.config_dir()).all())
    if as_json:
        keys = ("started", "model", "directory", "first")
        screen.say_json({"sessions": [{key: getattr(each, key) for key in keys} for each in saved]})
        return
    if not saved:
        screen.say("no saved conversations yet")
        return
    rows = [(each.started, each.model, each.directory, one_line(each.first, FIRST_WIDTH)) for each in saved]
    screen.table(rows, ("STARTED", "MODEL", "DIRECTORY", "BEGINS WITH"), shrink="DIRECTORY", below="BEGINS WITH")
