"""The line to an endpoint: the OpenAI SDK, made to keep the key to itself and to name what goes wrong."""

from __future__ import annotations

import gc
import importlib
import json
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pi.errors import InputError, PiError, RemoteError, UnreachableError
from pi.prompt import sse
from pi.prompt.endpoint import Endpoint
from pi.prompt.refusals import EndpointFailedError, described, refused, server_words
from pi.prompt.stall import StallGuard
from pi.text import count, one_line

if TYPE_CHECKING:
    import openai

CONNECT_SECONDS = 10.0

FIRST_TOKEN_SECONDS = 600.0
"""How long a long prompt, or a queue at the server, may take before anything comes."""

IDLE_SECONDS = 60.0
"""How long a stream that has begun may pause."""

PRELUDE = ("response.created", "response.queued", "response.in_progress")
"""Events of the Responses API that come at once, before the model has read the prompt."""

REST_SECONDS = 0.04
"""How long tokens are let gather when a stream flows: they appear 25 times a second."""

FIRST_SECONDS = 0.3
"""How long a stream is shown token by token, so that the first come without delay."""

CAUGHT_UP_SECONDS = 0.001
"""A read that takes longer has waited, so nothing was left to take."""

BODY_BYTES = 64 * 1024
"""How much of a refusal's body is read."""


def preload() -> threading.Thread:
    """Begins to import the SDK, which takes a third of a second, while the caller waits for something else.

    Until it is there nothing is collected as garbage, and what it brought never is: looking through the SDK's
    thousand classes again and again, the last time when Python ends, takes a quarter of all the time.
    """
    gc.disable()
    thread = threading.Thread(target=_import_sdk, name="pi-preload", daemon=True)
    thread.start()
    return thread


def _import_sdk() -> None:
    try:
        import openai

        openai.DefaultHttpxClient(trust_env=False, verify=False).close()  # the first one imports the transport
    finally:
        gc.freeze()
        gc.enable()


@dataclass(frozen=True)
class Counted:
    """Tokens that a request takes, and tokens that the model's context holds."""

    tokens: int
    context: int


class _RefusedError(Exception):
    """An HTTP answer that is not 200, with the beginning of its body."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class Client:
    """Sends requests to one endpoint and gives back the JSON objects that it streams.

    No proxy and no .netrc of the environment is used, no redirect followed, nothing sent twice.
    """

    def __init__(self, endpoint: Endpoint, *, idle_seconds: float = IDLE_SECONDS) -> None:
        _check(endpoint)
        self._endpoint = endpoint
        self._idle_seconds = idle_seconds
        self._first_seconds = max(FIRST_TOKEN_SECONDS, 2 * idle_seconds)  # the guard tells of a pause before this
        self._sdk, self._http = _sdk(endpoint, self._first_seconds)

    def close(self) -> None:
        self._sdk.close()

    def stream(self, body: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """The objects that the endpoint streams in answer to a request; `sse.DONE` for its "[DONE]".

        Raises:
            PiError: for whatever went wrong, also in the middle. Whether a stream that just ends was whole is
                the caller's to judge; `died` is the error for one that was not.
        """
        import openai

        try:
            with self._sent(body) as answer:
                yield from self._objects(answer.response)
        except _RefusedError as error:
            raise self._refused(error) from None
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, _RefusedError):
                raise self._refused(error.__cause__) from None
            raise self._unanswered(error.__cause__ or error) from None

    def _sent(self, body: dict[str, Any]) -> openai.Stream[object]:
        """The request on its way, past the SDK's types: they are slow to import and slow to walk through."""
        import openai

        route = "/responses" if self._endpoint.api == "responses" else "/chat/completions"
        whole = {"model": self._endpoint.model, **body}
        return self._sdk.post(route, body=whole, cast_to=object, stream=True, stream_cls=openai.Stream[object])

    def _objects(self, response: Any) -> Iterator[dict[str, Any]]:
        pieces = 0
        with StallGuard(response, self._idle_seconds) as guard:
            try:
                for item in _decoded(response, guard):
                    self._raise_error_in(item)
                    if item.get("type") not in PRELUDE:
                        guard.begin()
                    pieces += 1
                    yield item
            except self._http.ReadTimeout:
                raise self._silent() from None
            except self._http.HTTPError:
                if not guard.stalled:
                    raise self.died(f"the connection closed after {count(pieces, 'piece')}") from None
        if guard.stalled:
            raise self.died(f"nothing came for {self._idle_seconds:g} s, after {count(pieces, 'piece')}")

    def died(self, how: str) -> PiError:
        """The error for a model that stopped in the middle of an answer, with the last line of its log."""
        return self._explained(RemoteError(f"the model died while it answered: {how}"))

    def count_tokens(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> Counted | None:
        """How many tokens a request takes, by vLLM's /tokenize; None where there is no such route."""
        root = self._endpoint.base_url.rstrip("/").removesuffix("/v1")
        body: dict[str, Any] = {"model": self._endpoint.model, "messages": messages}
        if tools:
            body["tools"] = tools
        try:
            answer: Any = self._sdk.post(f"{root}/tokenize", body=body, cast_to=object, options={"timeout": 10})
            return Counted(int(answer["count"]), int(answer["max_model_len"]))
        except Exception:  # a figure that is nice to have
            return None

    def _raise_error_in(self, item: dict[str, Any]) -> None:
        """Servers tell of failures inside the stream too, in several shapes."""
        error = item.get("error")
        if item.get("type") == "response.failed":
            error = (item.get("response") or {}).get("error") or "the response failed"
        elif item.get("type") == "error" or item.get("object") == "error":
            error = error or item
        if not error:
            return
        code = error.get("code") if isinstance(error, dict) else None
        raise self._worded(described(server_words(json.dumps(error)), code if type(code) is int else 500))

    def _refused(self, error: _RefusedError) -> PiError:
        return self._worded(refused(error.status, error.body, self._endpoint.model))

    def _unanswered(self, error: BaseException) -> PiError:
        """The error for a request that got no answer at all."""
        where, words = one_line(self._endpoint.base_url), one_line(str(error))
        if isinstance(error, (self._http.ConnectError, self._http.ConnectTimeout)):
            return UnreachableError(f"nothing answers at {where}: {words}", "is the model running?")
        if isinstance(error, self._http.TimeoutException):
            return self._silent()
        return self._explained(RemoteError(f"the endpoint hung up before it answered: {words}"))

    def _silent(self) -> PiError:
        return self._explained(RemoteError(f"the model gave no answer for {self._first_seconds:g} s"))

    def _worded(self, error: RemoteError) -> PiError:
        """A refusal in the server's own words, which explain it unless the server failed."""
        return self._explained(error) if isinstance(error, EndpointFailedError) else error

    def _explained(self, error: RemoteError) -> PiError:
        """The error with the last line of the model's log; or, when the log is out of reach, what explains both."""
        ask = self._endpoint.last_log_line
        try:
            line = ask() if ask else None
        except UnreachableError:
            return UnreachableError(f"the connection to the pod was lost ({error.message})")
        except Exception:  # a line that is nice to have
            line = None
        if line:
            error.hint = f"the last line of its log: {one_line(line, 300)}"
        return error


def _check(endpoint: Endpoint) -> None:
    if not all(0x21 <= ord(character) <= 0x7E for character in endpoint.api_key):
        raise InputError("the API key holds characters that HTTP cannot carry", "check the variable it is in")
    try:
        url = urlsplit(endpoint.base_url)
        valid = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        valid = False
    if not valid or not endpoint.base_url.isprintable() or " " in endpoint.base_url:
        shown = one_line(endpoint.base_url)
        raise InputError(f"{shown!r} is no base URL", "it looks like http://host:8001/v1")


def _sdk(endpoint: Endpoint, read_seconds: float) -> tuple[openai.OpenAI, ModuleType]:
    """The SDK's client, and the HTTP library under it (httpx, or httpx2 from openai 3 on)."""
    import openai

    http_client = openai.DefaultHttpxClient(
        trust_env=False,
        follow_redirects=False,
        verify=endpoint.base_url.startswith("https:"),
        event_hooks={"response": [_raise_refusal]},
    )
    sdk = openai.OpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key or "none",
        max_retries=0,
        timeout=openai.Timeout(read_seconds, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
        default_headers={"Accept-Encoding": "identity"},
        http_client=http_client,
    )
    sdk.organization = sdk.project = None  # of the environment, and no business of this endpoint
    library = next(kind.__module__ for kind in type(http_client).__mro__ if kind.__module__.startswith("httpx"))
    return sdk, importlib.import_module(library.partition(".")[0])


def _raise_refusal(response: Any) -> None:
    """Ends every answer that is not 200 here, having read no more of it than is shown."""
    if response.status_code == 200:
        return
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) > BODY_BYTES:
            break
    response.close()
    raise _RefusedError(response.status_code, body[:BODY_BYTES].decode("utf-8", "replace"))


def _decoded(response: Any, guard: StallGuard) -> Iterator[dict[str, Any]]:
    """The objects of a stream, or the one object of an answer that a server did not stream."""
    if "application/json" in response.headers.get("content-type", ""):
        yield sse.parsed(b"".join(_limited(guard.pieces())))
        return
    decoder = sse.EventDecoder()
    for piece in _gathered(guard.pieces()):
        yield from decoder.feed(piece)


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces, each at once; but once the stream flows, with a short rest when all that came is taken.

    To wake for every token costs more than the token: at 200 tokens/s the rests halve the work, and nobody
    sees them.
    """
    asked = time.monotonic()
    resting_from = None
    for piece in pieces:
        now = time.monotonic()
        resting_from = resting_from or now + FIRST_SECONDS
        yield piece
        if now - asked > CAUGHT_UP_SECONDS and now > resting_from:
            time.sleep(REST_SECONDS)
        asked = time.monotonic()


def _limited(pieces: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > sse.EVENT_BYTES:
            raise RemoteError("the endpoint sent an answer of more than 8 MiB, and was not listened to any longer")
        yield piece
