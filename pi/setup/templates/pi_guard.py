"""Reject requests without the key on every route of a vLLM server except `GET /health`.

vLLM checks its key only under /v1, /v2, /inference and /cohere. Others, such as /invocations, /tokenize and
/metrics, answer anyone. `vllm serve --middleware pi_guard.Guard` checks the key before all of them.

The import also limits connections of callers without the key: uvicorn waits for the rest of a request for ever, so
half requests could use up the server's file descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import resource
import sys
import time
from typing import Any

try:
    from uvicorn.protocols.http import auto
except ImportError:  # another server
    auto = None  # type: ignore[assignment]

REQUEST_S = 20
"""Time for a caller without the key to send the head of a request."""

SHARE = 4
"""Connections without a request or the key get this part of the file descriptors: one in four."""

NOTED_EVERY_S = 60

ADMITTED = "pi.admitted"
"""Key in a request's scope if its caller has shown the key."""


class Guard:
    """ASGI middleware. Requests need the server's `VLLM_API_KEY`.

    It is in `Authorization: Bearer KEY` or, as Anthropic's clients send it, in `x-api-key: KEY`. A header that comes
    twice counts as wrong. CORS preflights, which browsers send without a key, get vLLM's answer and reach no route.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self._key = os.environ["VLLM_API_KEY"].encode()
        self._noted = float("-inf")

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or (scope.get("method") == "GET" and scope["path"] == "/health"):
            await self.app(scope, receive, send)
        elif self._shows_key(scope["headers"]):
            scope[ADMITTED] = True
            self._note_request(scope)
            await self.app({**scope, "headers": self._as_vllm_reads(scope["headers"])}, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif is_preflight(scope):
            await self.app({**scope, "path": "/", "raw_path": b"/", "query_string": b""}, _disconnected, send)
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"error":{"message":"Unauthorized","code":401}}'})

    def _shows_key(self, headers: list[tuple[bytes, bytes]]) -> bool:
        tokens = [value.partition(b" ") for name, value in headers if name == b"authorization"]
        keys = [value for name, value in headers if name == b"x-api-key"]
        by_token = len(tokens) == 1 and tokens[0][0].lower() == b"bearer" and self._is_key(tokens[0][2])
        by_key = len(keys) == 1 and self._is_key(keys[0])
        return by_token or by_key

    def _is_key(self, given: bytes) -> bool:
        return hmac.compare_digest(given, self._key)

    def _as_vllm_reads(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the headers with the key where vLLM's own check looks for it, and nowhere else."""
        others = [(name, value) for name, value in headers if name not in (b"authorization", b"x-api-key")]
        return [*others, (b"authorization", b"Bearer " + self._key)]

    def _note_request(self, scope: dict[str, Any]) -> None:
        """Touch the file of `PI_ASKED`, at most once a minute, for a request that makes the model work."""
        path, now = os.environ.get("PI_ASKED"), time.monotonic()
        if path and scope.get("method") != "GET" and now - self._noted >= NOTED_EVERY_S:
            self._noted = now
            asyncio.get_running_loop().run_in_executor(None, _touch, path)


def is_preflight(scope: dict[str, Any]) -> bool:
    """Return whether this is a request that vLLM's CORS middleware answers by itself."""
    names = {name for name, _ in scope["headers"]}
    return scope.get("method") == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


async def _disconnected() -> dict[str, str]:
    """Stand for the body of a request that no route may read."""
    return {"type": "http.disconnect"}


def _touch(path: str) -> None:
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
        os.utime(path)


class Lobby:
    """The connections without a running request whose callers have not shown the key, the oldest first."""

    def __init__(self) -> None:
        self._timers: dict[Any, asyncio.TimerHandle] = {}

    def enter(self, connection: Any) -> None:
        """Give a connection time for a request. The oldest one ends if there are too many."""
        self.leave(connection)
        self._timers[connection] = asyncio.get_running_loop().call_later(REQUEST_S, self._end, connection)
        if len(self._timers) > max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // SHARE):
            self._end(next(iter(self._timers)))

    def leave(self, connection: Any) -> None:
        timer = self._timers.pop(connection, None)
        if timer:
            timer.cancel()

    def _end(self, connection: Any) -> None:
        self.leave(connection)
        connection.transport.abort()


def impatient(protocol: Any) -> Any:
    """Return uvicorn's HTTP protocol as one whose connections wait in a lobby until a request is whole."""
    lobby = Lobby()

    class Impatient(protocol):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._showed_key = False
            lobby.enter(self)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_busy() or self.transport.get_protocol() is not self:
                lobby.leave(self)

        def on_response_complete(self) -> None:
            self._showed_key = self._showed_key or ADMITTED in self.cycle.scope
            super().on_response_complete()
            if not self._showed_key and not self._is_busy() and not self.transport.is_closing():
                lobby.enter(self)

        def connection_lost(self, exc: Any) -> None:
            lobby.leave(self)
            super().connection_lost(exc)

        def _is_busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

    return Impatient


def limit_half_requests() -> None:
    """Make the servers of this process impatient. Print a line if their uvicorn has another shape."""
    protocol: Any = getattr(auto, "AutoHTTPProtocol", None)
    if hasattr(protocol, "on_response_complete") and "cycle" in protocol.__init__.__code__.co_names:
        auto.AutoHTTPProtocol = impatient(protocol)
    else:
        print("pi_guard: cannot limit half requests of this uvicorn", file=sys.stderr)


limit_half_requests()
