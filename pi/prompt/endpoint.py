"""Where a model is reached."""

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
        """The next bytes; empty at the end. Raises TimeoutError, or OSError."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint: of a pod through a tunnel, or any other.

    `base_url` ends in "/v1" as a rule; `model` is the name it serves; `api` is "chat" for Chat Completions or
    "responses". `dial` connects to a pod's, where no address leads from here; it raises OSError or UnreachableError.
    When the model does not answer, or dies under an answer, `state` is asked what it is doing, in words, and
    `last_log_line` for that, None when there is no log.
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
