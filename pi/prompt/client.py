"""Send requests to an endpoint, stream its JSON objects, and explain each failure."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pi.errors import InputError, Interrupted, PiError, RemoteError, UnreachableError
from pi.prompt import sse
from pi.prompt.endpoint import ConnectError, Endpoint, RefusedError, RequestError, SilentError
from pi.prompt.refusals import EndpointFailedError, described, refused, server_words
from pi.text import count, one_line

if TYPE_CHECKING:
    from pi.prompt.sdk import Connection, Response

FIRST_TOKEN_SECONDS = 600.0
"""Wait for the first token, which a long prompt or a queue delays."""

IDLE_SECONDS = 60.0
"""Longest pause of a stream after its first token."""

TOKENIZE_SECONDS = 10.0

ERROR_FIELDS = {"message", "detail"}
"""Fields of an object in the stream that is only an error, as proxies send it."""

PAGE_BYTES = 4096
"""Read of an answer that is not a stream."""

PRELUDE = ("response.created", "response.queued", "response.in_progress")
"""Events that the Responses API sends at once, before the model has read the prompt."""


def preload() -> threading.Thread:
    """Import the SDK in a thread, while the caller waits for something else.

    Garbage collection pauses during the import and then ignores the SDK's thousands of classes. Otherwise it
    walks through them repeatedly, also when Python exits, which takes a quarter of the whole time.
    """
    gc.disable()
    thread = threading.Thread(target=_preload, name="pi-preload", daemon=True)
    thread.start()
    return thread


def _preload() -> None:
    try:
        _connection_type()
    finally:
        gc.freeze()
        gc.enable()


def _connection_type() -> type[Connection]:
    """Import the SDK, unless it is loaded, and return the class that uses it."""
    from pi.prompt.sdk import Connection

    return Connection


@dataclass(frozen=True)
class TokenCount:
    """Tokens of a request, and the context length of its model."""

    tokens: int
    context: int


class Client:
    """Sends requests to one endpoint and yields the JSON objects that it streams."""

    def __init__(self, endpoint: Endpoint, *, idle_seconds: float = IDLE_SECONDS) -> None:
        _check(endpoint)
        self._endpoint = endpoint
        self._idle_seconds = idle_seconds
        self._first_seconds = max(FIRST_TOKEN_SECONDS, idle_seconds)
        self._connection = _connection_type()(endpoint, self._first_seconds)

    def close(self) -> None:
        self._connection.close()

    def stream(
        self,
        body: dict[str, Any],
        before_wait: Callable[[], None] = lambda: None,
        amount: Callable[[], object] = object,
    ) -> Generator[dict[str, Any], None, None]:
        """Send a request and yield the objects of its answer; `sse.DONE` stands for "[DONE]".

        Calls `before_wait` when all received objects are consumed and the next read may block. `amount` tells how
        much the answer contains: while it stays the same, the server makes no progress, whatever it sends. By default,
        every object is progress.

        Raises:
            PiError: if anything fails, also in mid-stream. A stream that just ends may be incomplete: the
                caller checks that, and raises `died`.
        """
        route = "/responses" if self._endpoint.api == "responses" else "/chat/completions"
        try:
            with self._connection.stream(route, {"model": self._endpoint.model, **body}) as response:
                yield from self._objects(response, before_wait, amount)
        except RefusedError as error:
            raise self._refused(error) from None
        except RequestError as error:
            raise self._unanswered(error) from None

    def _objects(
        self, response: Response, before_wait: Callable[[], None], amount: Callable[[], object]
    ) -> Iterator[dict[str, Any]]:
        response.incoming.before_wait = before_wait
        pieces = 0
        begun = False
        before = amount()
        try:
            for item in _decoded(response):
                self._raise_error_in(item)
                if not begun and item.get("type") not in PRELUDE:
                    begun = True
                    response.incoming.flow(self._idle_seconds)
                pieces += 1
                yield item
                if (now := amount()) != before:
                    before = now
                    response.incoming.progressed()
        except SilentError:
            if not begun:
                raise self._silent() from None
            raise self._stalled(pieces) from None
        except RequestError:
            raise self.died(pieces) from None

    def died(self, pieces: int) -> PiError:
        """Return the error for a connection that closed within an answer, after some pieces."""
        after = count(pieces, "piece")
        error = RemoteError("model-died", f"the model died while it answered: the connection closed after {after}")
        return self._explained(error)

    def failed(self, error: RemoteError) -> PiError:
        """Return the error for an answer that the server ended badly, with the model's state."""
        return self._explained(error)

    def _stalled(self, pieces: int) -> PiError:
        waited, after = f"{self._idle_seconds:g} s", count(pieces, "piece")
        error = RemoteError("model-stalled", f"the model stopped answering: no progress for {waited}, after {after}")
        return self._explained(error)

    def count_tokens(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> TokenCount | None:
        """Count a request's tokens with vLLM's /tokenize; None if the server cannot."""
        root = self._endpoint.base_url.rstrip("/").removesuffix("/v1")
        body: dict[str, Any] = {"model": self._endpoint.model, "messages": messages}
        if tools:
            body["tools"] = tools
        try:
            answer = self._connection.post(f"{root}/tokenize", body, TOKENIZE_SECONDS)
            return TokenCount(int(answer["count"]), int(answer["max_model_len"]))
        except Exception:  # the count only makes a message more exact
            return None

    def _raise_error_in(self, item: dict[str, Any]) -> None:
        """Raise the failure that a server reports inside the stream, in one of several shapes."""
        error = item.get("error")
        if item.get("type") == "response.failed":
            error = (item.get("response") or {}).get("error") or "the response failed"
        elif item.get("type") == "error" or item.get("object") == "error":
            error = error or item
        elif not error and "choices" not in item and "type" not in item and ERROR_FIELDS & item.keys():
            error = item
        if not error:
            return
        code = error.get("code") if isinstance(error, dict) else None
        raise self._worded(
            described(server_words(json.dumps(error)), code if type(code) is int else 500, self._endpoint)
        )

    def _refused(self, error: RefusedError) -> PiError:
        endpoint = self._endpoint
        refusal = refused(error.status, error.body, endpoint.model, of_pod=endpoint.of_pod, endpoint=endpoint)
        return self._worded(refusal)

    def _unanswered(self, error: RequestError) -> PiError:
        """Return the error for a request without any answer."""
        where, words = one_line(self._endpoint.base_url), one_line(str(error))
        if isinstance(error, ConnectError):
            if self._endpoint.of_pod:
                return self._explained(RemoteError("model-silent", f"the model does not answer: {words}"))
            return UnreachableError(
                "endpoint-unreachable", f"cannot connect to {where}: {words}", "is the model running?"
            )
        if isinstance(error, SilentError):
            return self._silent()
        hung_up = RemoteError("endpoint-hung-up", f"the endpoint closed the connection before it answered: {words}")
        return self._explained(hung_up)

    def _silent(self) -> PiError:
        error = RemoteError("first-token-timeout", f"the model did not begin to answer in {self._first_seconds:g} s")
        return self._explained(error)

    def _worded(self, error: RemoteError) -> PiError:
        """Explain a refusal if the server failed; otherwise its own words are enough."""
        return self._explained(error) if isinstance(error, EndpointFailedError) else error

    def _explained(self, error: RemoteError) -> PiError:
        """Add the model's state and the last line of its log to an error.

        If the pod is unreachable, return that error instead: it explains both.
        """
        details = []
        try:
            if state := _ask(self._endpoint.state):
                details.append(f"its state: {state}")
            if line := _ask(self._endpoint.last_log_line):
                details.append(f"the last line of its log: {line}")
        except UnreachableError:
            return UnreachableError("connection-lost", f"the connection to the pod was lost ({error.message})")
        error.hint = "; ".join(details) or error.hint
        return error


def _ask(question: Callable[[], str | None] | None) -> str:
    """Return a detail on one line; empty if unknown. Raises only UnreachableError and Interrupted."""
    try:
        return one_line((question() if question else None) or "", 300)
    except (UnreachableError, Interrupted):
        raise
    except Exception:
        return ""


def _check(endpoint: Endpoint) -> None:
    if not all(0x21 <= ord(character) <= 0x7E for character in endpoint.api_key):
        raise InputError(
            "api-key-invalid",
            "the API key contains characters that HTTP does not allow",
            "check its environment variable",
        )
    try:
        url = urlsplit(endpoint.base_url)
        valid = url.scheme in ("http", "https") and url.hostname and url.hostname.encode("idna") and url.port != 0
    except ValueError:
        valid = False
    if not valid or not endpoint.base_url.isprintable() or " " in endpoint.base_url:
        shown = one_line(endpoint.base_url)
        raise InputError("base-url-invalid", f"invalid base URL {shown!r}", "use one such as http://host:8001/v1")


def _decoded(response: Response) -> Iterator[dict[str, Any]]:
    """Yield the objects of a stream, or the single object of a plain answer."""
    if response.is_json:
        yield sse.parsed(b"".join(_limited(response.pieces())))
        return
    decoder = sse.EventDecoder()
    beginning, is_stream = b"", response.kind in ("", "text/event-stream")
    for piece in response.pieces():
        for item in decoder.feed(piece):
            is_stream = True
            yield item
        beginning = beginning if is_stream else (beginning + piece)[:PAGE_BYTES]
    if not is_stream:
        raise _no_stream(response.kind, beginning)


def _no_stream(kind: str, beginning: bytes) -> RemoteError:
    """Return the error for an answer that is something else, such as the page of a proxy."""
    words = server_words(beginning.decode("utf-8", "replace"))
    return RemoteError(
        "endpoint-not-a-stream",
        f"the endpoint answered with {one_line(kind, 60)}, not with a stream of an answer: {one_line(words, 200)}",
        "check the address; a proxy, or another server, may answer there",
    )


def _limited(pieces: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > sse.EVENT_BYTES:
            raise RemoteError("endpoint-answer-too-long", "the answer of the endpoint is longer than 8 MiB")
        yield piece
