"""An endpoint that serves a model, and how a request to it can fail."""

from __future__ import annotations

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
    """

    base_url: str
    model: str
    api_key: str = field(repr=False)
    api: Api = "chat"
    dial: Callable[[], Line] | None = field(default=None, repr=False)
    state: Callable[[], str] | None = field(default=None, repr=False)
    last_log_line: Callable[[], str | None] | None = field(default=None, repr=False)

    @property
    def of_pod(self) -> bool:
        return self.dial is not None


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
