"""`pi prompt`: talk to a model, with tools that read the files of this directory."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from invoke import Exit

from pi import config, screen
from pi.calls.logs import last_log_line
from pi.calls.status import read_status
from pi.errors import InputError
from pi.fabric_tasks.verb import verb
from pi.pods.types import Pod
from pi.prompt.client import preload
from pi.prompt.conversation import Options, run
from pi.prompt.endpoint import Endpoint
from pi.prompt.sessions import Sessions
from pi.ssh.link import Link
from pi.steps import keys, reconcile, states, where
from pi.text import one_line

FIRST_WIDTH = 60
"""Characters of a kept conversation's first message that are listed."""

DAY_SECONDS = 24 * 60 * 60
"""The longest pause that may be asked for; sockets take no more than some days."""


@verb(
    "[name] [message...]",
    'NAME ["message"...|-] [--pod P] [--continue] [--json|--quiet] [--no-tools] [--tool-choice auto|none|required]'
    " [--system TEXT] [--api chat|responses] [--max-rounds N] [--allow-outside]"
    " [--temperature T] [--max-tokens N] [--idle-timeout SECONDS] [--sessions]"
    " | --base-url URL --model ID [--api-key-env VAR]",
    iterable=["message"],
    details={
        "pod": "the pod to use instead of the active one",
        "continue_": "go on with the last conversation of this directory",
        "sessions": "list the conversations that are kept",
        "json": "one JSON event a line on stdout, and nothing else",
        "quiet": "only the final text",
        "no_tools": "offer the model no tools",
        "tool_choice": "auto, none or required",
        "system": "the system message instead of pi's own",
        "api": "chat (Chat Completions) or responses",
        "max_rounds": "how many times the model may call tools before it must answer",
        "allow_outside": "let the tools read outside this directory",
        "temperature": "0 for the likeliest answer; the model's own default otherwise",
        "max_tokens": "how long one answer may be",
        "idle_timeout": "how many seconds an answer that has begun may pause before it is given up (60)",
        "base_url": "an endpoint of your own instead of a pod's model, such as http://127.0.0.1:8000/v1",
        "model": "the model id to ask there",
        "api_key_env": "the environment variable that holds the key there (OPENAI_API_KEY)",
    },
)
def prompt(
    c: Any,
    name: str | None = None,
    message: list[str] | None = None,
    pod: str | None = None,
    continue_: bool = False,
    sessions: bool = False,
    json: bool = False,
    quiet: bool = False,
    no_tools: bool = False,
    tool_choice: str = "auto",
    system: str | None = None,
    api: str | None = None,
    max_rounds: int = 50,
    allow_outside: bool = False,
    temperature: str | None = None,
    max_tokens: int = 0,
    idle_timeout: int = 60,
    base_url: str | None = None,
    model: str | None = None,
    api_key_env: str | None = None,
) -> None:
    """Ask a model, with tools that read this directory; without a message, chat. `-` reads standard input."""
    if sessions:
        return _show_sessions()
    _not_together(
        ("--json", json, "--quiet", quiet),
        ("--no-tools", no_tools, "--tool-choice required", tool_choice == "required"),
        ("--base-url", base_url, "--pod", pod),
    )
    if base_url is None and (model is not None or api_key_env is not None):
        raise InputError("--model and --api-key-env go with --base-url", 'for a model of a pod: pi prompt NAME "..."')
    _one_of("--tool-choice", tool_choice, "auto", "none", "required")
    if api is not None:
        _one_of("--api", api, "chat", "responses")
    if max_rounds < 1:
        raise InputError(f"--max-rounds {max_rounds} is too few", "1 or more")
    if max_tokens < 0:
        raise InputError(f"--max-tokens {max_tokens} is too few", "1 or more; 0 leaves it to the server")
    if idle_timeout < 1:
        raise InputError(f"--idle-timeout {idle_timeout} is too short", "1 second or more")
    if idle_timeout > DAY_SECONDS:
        raise InputError(f"--idle-timeout {idle_timeout} is too long", f"a day at most: {DAY_SECONDS}")
    messages = list(message or ())
    options = Options(
        tools=not no_tools,
        tool_choice=tool_choice,
        system=system,
        allow_outside=allow_outside,
        max_rounds=max_rounds,
        output="json" if json else "quiet" if quiet else "terminal",
        continue_last=continue_,
        temperature=_number("--temperature", temperature) if temperature else None,
        max_tokens=max_tokens or None,
        idle_seconds=idle_timeout,
    )
    if base_url is not None:
        messages = [name, *messages] if name is not None else messages
        endpoint = _given(base_url, model, api, api_key_env)
        preload()
        code = _converse(endpoint, messages, options)
    else:
        if name is None:
            raise InputError("which model?", 'pi prompt NAME "message"; pi list shows the names')
        with _of_pod(c, name, pod, api) as endpoint:
            code = _converse(endpoint, messages, options)
    if code:
        raise Exit(code=code)


def _converse(endpoint: Endpoint, messages: list[str], options: Options) -> int:
    with Path(os.devnull).open("r+") as nothing:  # in the place of what the caller has closed
        return run(
            endpoint,
            messages,
            options,
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
        raise InputError(f"the working directory is gone: {error.strerror}", "cd to one that is there") from None


def _not_together(*pairs: tuple[str, object, str, object]) -> None:
    for flag, given, other, other_given in pairs:
        if given and other_given:
            raise InputError(f"{flag} and {other} do not go together", "leave one out")


def _given(base_url: str, model: str | None, api: str | None, api_key_env: str | None) -> Endpoint:
    """The endpoint that the flags name. A variable that they name must be set; OPENAI_API_KEY may be."""
    if not base_url.startswith(("http://", "https://")):
        raise InputError(f"--base-url {base_url!r} is not a URL", "such as http://127.0.0.1:8000/v1")
    if model is None:
        raise InputError("--model is missing", "--base-url URL --model ID")
    key = os.environ.get(api_key_env or "OPENAI_API_KEY", "")
    if api_key_env is not None and not key:
        raise InputError(f"--api-key-env {api_key_env}: that variable is not set", f"export {api_key_env}=...")
    return Endpoint(base_url, model, key or "none", api="responses" if api == "responses" else "chat")


@contextmanager
def _of_pod(c: Any, name: str, pod: str | None, api: str | None) -> Iterator[Endpoint]:
    """The endpoint of a deployment, reached through the command's one connection."""
    place = where.chosen(c, pod)
    deployment = place.models.get(name)
    if deployment is None:
        known = f"it has {', '.join(place.models)}" if place.models else "it has none"
        raise InputError(f"no model {name!r} on {place.name}; {known}", "pi list asks the pod, pi start starts one")
    key = keys.api_key()
    # importing the SDK takes as long as connecting
    with where.linked(c, place, named=pod is not None, meanwhile=preload) as link:
        yield Endpoint(
            f"http://127.0.0.1:{deployment.port}/v1",
            deployment.name,
            key,
            api="responses" if (api or deployment.api) == "responses" else "chat",
            dial=lambda: link.dial(deployment.port),
            state=lambda: _state(link, place, name),
            last_log_line=lambda: _last_log_line(link, name),
        )


def _state(link: Link, place: Pod, name: str) -> str:
    status = read_status(link)
    reconcile.reconcile(place, status)
    return states.state_of(place, name, status)


def _last_log_line(link: Link, name: str) -> str | None:
    return last_log_line(link, name)


def _show_sessions() -> None:
    kept = list(Sessions(config.config_dir()).all())
    if not kept:
        screen.say("no conversations are kept yet")
        return
    rows = [(each.started, each.model, each.directory, one_line(each.first, FIRST_WIDTH)) for each in kept]
    screen.table(rows, ("STARTED", "MODEL", "DIRECTORY", "BEGINS WITH"))


def _number(flag: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise InputError(f"{flag} {text!r} is not a number of 0 or more", "such as 0.7")
    return number


def _one_of(flag: str, value: str, *allowed: str) -> None:
    if value not in allowed:
        raise InputError(f"{flag} {value!r} is not known", f"choose one of {', '.join(allowed)}")
