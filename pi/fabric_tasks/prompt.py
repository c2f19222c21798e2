"""`pi prompt`: talk to a model, with tools that read the files of this directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from invoke import Exit

from pi import config, screen
from pi.errors import InputError
from pi.fabric_tasks.prompt_endpoint import given, of_pod
from pi.fabric_tasks.prompt_options import PromptOptions
from pi.fabric_tasks.verb import verb
from pi.prompt.client import preload
from pi.prompt.conversation import Options as Conversation
from pi.prompt.conversation import run
from pi.prompt.endpoint import Endpoint
from pi.prompt.sessions import Sessions
from pi.text import one_line

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
        endpoint = given(options, options.base_url)
        preload()
        code = _converse(endpoint, [*messages, *options.message], conversation)
    else:
        with of_pod(c, options) as endpoint:
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
