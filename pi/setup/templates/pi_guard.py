"""Reject requests without the key on every route of a vLLM server except `GET /health`.

vLLM checks its key only under /v1, /v2, /inference and /cohere. Others, such as /invocations, /tokenize and
/metrics, answer anyone. `vllm serve --middleware pi_guard.Guard` checks the key before all of them. It also accepts the
keys that `pi key add` gave names, and counts the requests of each key.

The import also limits connections of callers without the key: uvicorn waits for the rest of a request for ever, so
half requests could use up the server's file descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
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

KEYS_EVERY_S = 0.5
"""How often the guard looks for a change of the named keys (`pi.on_pod.key.EFFECTIVE_S`)."""

COUNTED_EVERY_S = 1.0

FILE_BYTES = 1 << 20
"""More than this in a file of named keys or counts is not pi's."""

MAIN = ""
"""The key of the setup among the counts; a named key has its SHA-256 there."""

ADMITTED = "pi.admitted"
"""Key in a request's scope if its caller has shown the key."""

PROBE = b"x-pi-probe"
"""Header of the requests of pi_watch.py, with a secret of this launch: nobody else can leave its requests uncounted."""

USED_S = 25.0
"""After a request, vLLM reports its throughput for two intervals of 10 s."""


class Guard:
    """ASGI middleware. Requests need the server's `VLLM_API_KEY`, or a named key of the pod.

    It is in `Authorization: Bearer KEY` or, as Anthropic's clients send it, in `x-api-key: KEY`. A header that comes
    twice counts as wrong. CORS preflights, which browsers send without a key, get vLLM's answer and reach no route.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self._key = os.environ["VLLM_API_KEY"].encode()
        self._noted = float("-inf")
        self._named = NamedKeys(os.environ.get("PI_KEYS"))
        self._counts = Counts(os.environ.get("PI_KEYS"))
        self._probes = Probes(os.environ.get("PI_PROBE", "").encode())

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            self._counts.write()
        elif scope.get("method") == "GET" and scope["path"] == "/health":
            await self.app(scope, receive, send)
        elif (key := self._shown_key(scope["headers"])) is not None:
            scope[ADMITTED] = True
            is_probe = self._probes.has(scope)
            if not is_probe:
                self._note_request(scope, key)
            with self._probes.unlogged(scope) if is_probe else self._probes.use(scope):
                await self.app({**scope, "headers": self._as_vllm_reads(scope["headers"])}, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif is_preflight(scope):
            await self.app({**scope, "path": "/", "raw_path": b"/", "query_string": b""}, _disconnected, send)
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"error":{"message":"Unauthorized","code":401}}'})

    def _shown_key(self, headers: list[tuple[bytes, bytes]]) -> str | None:
        """Return which key a caller shows: MAIN, the SHA-256 of a named one, or None without a valid key."""
        tokens = [value.partition(b" ") for name, value in headers if name == b"authorization"]
        keys = [value for name, value in headers if name == b"x-api-key"]
        by_token = self._known(tokens[0][2]) if len(tokens) == 1 and tokens[0][0].lower() == b"bearer" else None
        return self._known(keys[0]) if by_token is None and len(keys) == 1 else by_token

    def _known(self, given: bytes) -> str | None:
        return MAIN if hmac.compare_digest(given, self._key) else self._named.known(given)

    def _as_vllm_reads(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the headers with the key where vLLM's own check looks for it, and nowhere else."""
        others = [(name, value) for name, value in headers if name not in (b"authorization", b"x-api-key", PROBE)]
        return [*others, (b"authorization", b"Bearer " + self._key)]

    def _note_request(self, scope: dict[str, Any], key: str) -> None:
        """Count a request that makes the model work; touch the file of `PI_ASKED` for it, at most once a minute."""
        if scope.get("method") == "GET":
            return
        self._counts.add(key)
        path, now = os.environ.get("PI_ASKED"), time.monotonic()
        if path and now - self._noted >= NOTED_EVERY_S:
            self._noted = now
            asyncio.get_running_loop().run_in_executor(None, _touch, path)


class Probes:
    """The requests of pi's watchdog: they count as no use, and leave no lines in the server's log."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._clients: set[str] = set()
        self._uses, self._used = 0, float("-inf")
        if mark:
            logging.getLogger("uvicorn.access").addFilter(self._is_of_others)
            logging.getLogger("vllm.v1.metrics.loggers").addFilter(self._is_of_use)

    def has(self, scope: dict[str, Any]) -> bool:
        """Return whether a request is the watchdog's."""
        marks = [value for name, value in scope["headers"] if name == PROBE]
        return bool(self._mark) and len(marks) == 1 and hmac.compare_digest(marks[0], self._mark)

    @contextlib.contextmanager
    def unlogged(self, scope: dict[str, Any]) -> Iterator[None]:
        client = "{}:{}".format(*(scope.get("client") or ("", 0)))
        self._clients.add(client)
        try:
            yield
        finally:
            self._clients.discard(client)

    @contextlib.contextmanager
    def use(self, scope: dict[str, Any]) -> Iterator[None]:
        weight = int(scope.get("method") != "GET")
        self._uses += weight
        try:
            yield
        finally:
            self._uses -= weight
            self._used = time.monotonic() if weight else self._used

    def _is_of_others(self, record: logging.LogRecord) -> bool:
        """Return whether a line of uvicorn's access log is not that of a probe."""
        return not (isinstance(record.args, tuple) and record.args[:1] and record.args[0] in self._clients)

    def _is_of_use(self, record: logging.LogRecord) -> bool:
        """Return whether a line is not the throughput of probes alone."""
        return "throughput" not in str(record.msg) or self._uses > 0 or time.monotonic() - self._used < USED_S


class NamedKeys:
    """The SHA-256 of each named key, from a file of the pod that changes while the server runs.

    A file that cannot be read has no keys.
    """

    def __init__(self, folder: str | None) -> None:
        self._path = Path(folder) / "keys.json" if folder else None
        self._looked = float("-inf")
        self._version: tuple[int, ...] | None = None
        self._hashes: frozenset[str] = frozenset()

    def known(self, given: bytes) -> str | None:
        """Return the SHA-256 of a named key, or None for a text that is not one."""
        now = time.monotonic()
        if self._path and now - self._looked >= KEYS_EVERY_S:
            self._looked = now
            self._look(self._path)
        shown = hashlib.sha256(given).hexdigest()
        return shown if shown in self._hashes else None

    def _look(self, path: Path) -> None:
        """Read the file if it has changed."""
        try:
            found = path.stat()
        except OSError:
            self._version, self._hashes = None, frozenset()
            return
        version = (found.st_mtime_ns, found.st_ino, found.st_size)
        if version != self._version:
            self._version, self._hashes = version, frozenset(_hashes(path))


def _hashes(path: Path) -> list[str]:
    try:
        return [str(key["sha256"]) for key in _document(path)["keys"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        print(f"pi_guard: cannot read {path}, so named keys are refused: {type(error).__name__}", file=sys.stderr)
        return []


class Counts:
    """Requests of each key, in a file to which all servers of the pod add at most once a second."""

    def __init__(self, folder: str | None) -> None:
        self._folder = Path(folder) if folder else None
        self._new: dict[str, int] = {}

    def add(self, key: str) -> None:
        if self._folder and not self._new:
            asyncio.get_running_loop().call_later(COUNTED_EVERY_S, self._write_later)
        self._new[key] = self._new.get(key, 0) + 1

    def write(self) -> None:
        """Write what is new, when the server ends."""
        new, self._new = self._new, {}
        if self._folder and new:
            _add_counts(self._folder, new)

    def _write_later(self) -> None:
        new, self._new = self._new, {}
        if self._folder and new:
            asyncio.get_running_loop().run_in_executor(None, _add_counts, self._folder, new)


def _add_counts(folder: Path, new: dict[str, int]) -> None:
    """Add to the counts of a pod: by key, the requests and the time of the last one. A full disk loses them."""
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        with _private(folder / "lock", os.O_RDWR) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            counts = _counts(folder / "counts.json")
            for key, count in new.items():
                counts[key] = [counts.get(key, [0])[0] + count, int(time.time())]
            with _private(folder / "counts.json.new", os.O_WRONLY | os.O_TRUNC) as file:
                file.write(json.dumps(counts).encode())
            (folder / "counts.json.new").replace(folder / "counts.json")


def _counts(path: Path) -> dict[str, list[int]]:
    """Return the counts of a pod; none if the file is missing or damaged."""
    try:
        return {str(key): [int(count), int(last)] for key, (count, last) in _document(path).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _document(path: Path) -> Any:
    """Return the value of a JSON file of limited size. A FIFO is empty, and nothing waits for it."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return json.loads(file.read(FILE_BYTES) or b"")


def _private(path: Path, flags: int) -> Any:
    """Open a file that only this account can read. Raises OSError for a FIFO that nobody reads."""
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)


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
