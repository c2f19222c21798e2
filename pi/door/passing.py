"""Pass a request on to the server of a model, and its answer back, byte for byte as it comes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpcore2
from starlette.types import Send

from pi import affinity, screen
from pi.door.admission import Headers
from pi.door.names import Served
from pi.door.refusals import ANTHROPIC, Refused
from pi.errors import HostKeyError, PiError, UnreachableError
from pi.steps import where

SESSION = affinity.HEADER.lower().encode()

REQUEST_HEADERS = frozenset(
    {
        b"accept",
        b"content-type",
        b"user-agent",
        b"x-request-id",
        SESSION,
        b"anthropic-version",
        b"anthropic-beta",
        b"openai-beta",
    }
)
"""Headers of the client that the server gets; every other one could contain the client's key."""

ANSWER_HEADERS = frozenset({b"content-type", b"content-length", b"content-encoding", b"x-request-id", b"retry-after"})
"""Headers of the server that the client gets."""

UNREACHABLE = "pod_unreachable"
"""Code of the error if a request has not reached the pod."""

LONGEST_ERROR = 64 * 1024

EVENTS = b"text/event-stream"

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
"""What Anthropic's API sends in a pause."""


class NotListening(Exception):
    """Nothing listens on the port of a model."""


@dataclass(frozen=True)
class Question:
    """A request of a client: its path with the query, headers, body, and what the body says."""

    path: str
    target: bytes
    headers: Headers
    body: bytes
    document: dict[str, Any]

    @property
    def model(self) -> str:
        return str(self.document["model"])

    @property
    def wants_stream(self) -> bool:
        return self.document.get("stream") is True

    @cached_property
    def session(self) -> bytes:
        """The id of its conversation: the client's, or one of its beginning."""
        given = next((value for name, value in self.headers if name == SESSION), None)
        return given or affinity.session_of(self.document).encode()

    def body_for(self, name: str) -> bytes:
        """Return the body with the name that the server knows."""
        return self.body if self.model == name else json.dumps({**self.document, "model": name}).encode()


class Reply:
    """The answer to a client, which begins once."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False
        self.is_stream = False

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun = True
        self.is_stream = any(name == b"content-type" and value.startswith(EVENTS) for name, value in headers)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def begin_stream(self) -> None:
        await self.begin(200, [(b"content-type", EVENTS), (b"cache-control", b"no-cache")])

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def keep_open(self, text: str, path: str) -> None:
        """Send what clients of this path ignore, so that they do not give up."""
        await self.write(PING if path.startswith(ANTHROPIC) else f": {text}\n\n".encode())

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def refuse(self, refused: Refused, path: str) -> None:
        """Say what went wrong; in a body that is not a stream, its missing end shows it."""
        if not self.has_begun:
            body = refused.body(path)
            headers = [(name.encode(), value.encode()) for name, value in refused.headers().items()]
            await self.begin(refused.status, [*headers, (b"content-length", str(len(body)).encode())])
            await self._send({"type": "http.response.body", "body": body})
        elif self.is_stream:
            await self.write(refused.event(path))
            await self.end()


async def pass_on(pool: httpcore2.AsyncConnectionPool, model: Served, key: str, asked: Question, reply: Reply) -> None:
    """Send a request to a model and its answer to the client.

    Raises NotListening before anything was sent to the client, or Refused.
    """
    async with _answer(pool, model, key, asked) as answer:
        headers = [(name.lower(), value) for name, value in answer.headers if name.lower() in ANSWER_HEADERS]
        if answer.status in (401, 403):
            raise Refused(502, "pod_key_rejected", f"{model} rejected pi's key; see: pi list --pod {model.pod.name}")
        if reply.has_begun and answer.status != 200:
            raise Refused(answer.status, "model_error", await _words_of(answer))
        if not reply.has_begun:
            await reply.begin(answer.status, headers)
        async for piece in answer.aiter_stream():
            await reply.write(piece)
    await reply.end()


@asynccontextmanager
async def _answer(
    pool: httpcore2.AsyncConnectionPool, model: Served, key: str, asked: Question
) -> AsyncIterator[httpcore2.Response]:
    body = asked.body_for(model.name)
    headers = [
        (b"host", b"127.0.0.1"),
        *((name, value) for name, value in asked.headers if name in REQUEST_HEADERS),
        *(() if any(name == SESSION for name, _ in asked.headers) else ((SESSION, asked.session),)),
        (b"authorization", b"Bearer " + key.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    url = httpcore2.URL(scheme=b"http", host=model.pod.name.encode(), port=model.deployment.port, target=asked.target)
    try:
        async with pool.stream("POST", url, headers=headers, content=body) as answer:
            yield answer
    except ConnectionRefusedError:
        raise NotListening from None
    except PiError as error:
        raise Refused(502, UNREACHABLE, _unreachable(model, error)) from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        text = f"the connection to {model} broke ({error or type(error).__name__}); see: pi list --pod {model.pod.name}"
        raise Refused(502, "connection_lost", text) from None


def _unreachable(model: Served, error: PiError) -> str:
    if isinstance(error, UnreachableError):
        error = where.unreachable(model.pod, error)
    elif isinstance(error, HostKeyError):
        error = where.changed_key(model.pod, error)
    return f"{error.message}; {error.hint}" if error.hint else error.message


async def _words_of(answer: httpcore2.Response) -> str:
    """Return the message of an error body, or its beginning."""
    body = bytearray()
    async for piece in answer.aiter_stream():
        body += piece
        if len(body) > LONGEST_ERROR:
            break
    text = body.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError, KeyError, TypeError):
        document = json.loads(text)
        return str(document.get("error", document)["message"])
    return screen.printable(text)[:500] or f"status {answer.status}"
