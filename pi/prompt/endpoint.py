"""An endpoint that serves a model, and how a request to it can fail."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

Api = Literal["chat", "responses"]


class Line(Protocol):
    """An open connection to an endpoint: a socket, or a channel of an SSH connection."""

    def settimeout(self, value: float | None, /) -> None: ...
    def sendall(self, data: bytes, /) -> object: ...

    def recv(self, size: int, /) -> bytes:
        """Return the next bytes, empty at the end. Raises TimeoutError or OSError."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint: a pod's, reached over SSH, or any other.

    `base_url` usually ends in "/v1"; `model` is the name that the server uses. `dial` connects to a pod's
    endpoint, which has no address on this machine; it raises OSError or UnreachableError. `state` and
    `last_log_line` explain a model that does not answer; without a log, `last_log_line` returns None.
    `start` is the `pi start` command of a pod's model. `parsers` returns the parsers of its family for tools and
    for thinking, None if unknown. `others` are names that `switch` makes endpoints of.
    """

    base_url: str
    model: str
    api_key: str = field(repr=False)
    api: Api = "chat"
    dial: Callable[[], Line] | None = field(default=None, repr=False)
    state: Callable[[], str] | None = field(default=None, repr=False)
    last_log_line: Callable[[], str | None] | None = field(default=None, repr=False)
    start: str = ""
    parsers: Callable[[], tuple[str | None, str | None]] = field(default=lambda: (None, None), repr=False)
    others: tuple[str, ...] = ()
    switch: Callable[[str], Endpoint] | None = field(default=None, repr=False)

    @property
    def of_pod(self) -> bool:
        return self.dial is not None

    def started_with(self, **arguments: str) -> str:
        """Return the command that starts the model with these arguments of vLLM, such as tool_call_parser="hermes".

        An empty value stands for an argument without one.
        """
        named = {name.replace("_", "-"): shlex.quote(value) if value else "" for name, value in arguments.items()}
        if self.start:
            return " ".join([self.start, *(f"--set {name}{value and '=' + value}" for name, value in named.items())])
        words = (f"--{name}{value and ' ' + value}" for name, value in named.items())
        return " ".join(["vllm serve", shlex.quote(self.model), *words])

    def started_with_context(self, tokens: int) -> str:
        """Return the command that starts the model with a context length."""
        if self.start:
            return f"{self.start} --context {tokens}"
        return self.started_with(max_model_len=str(tokens))

    def with_tool_parser(self, parser: str | None) -> str:
        """Return the command that starts the model with a tool parser; NAME stands for an unknown one."""
        return self.started_with(enable_auto_tool_choice="", tool_call_parser=parser or "NAME")


class RequestError(Exception):
    """A request got no whole answer; the text is the reason."""


class ConnectError(RequestError):
    """Nothing accepted a connection."""


class SilentError(RequestError):
    """The server sent nothing in the time it had."""


class RefusedError(RequestError):
    """The server answered with a status other than 200 and a body, perhaps cut."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
