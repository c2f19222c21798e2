"""What speaks to an endpoint: the OpenAI SDK, made to keep the key to itself and to name what goes wrong."""

from __future__ import annotations

import gc
import json
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pi.errors import InputError, Interrupted, PiError, RemoteError, UnreachableError
from pi.prompt import sse
from pi.prompt.endpoint import Endpoint, Line
from pi.prompt.refusals import EndpointFailedError, described, refused, server_words
from pi.text import count, one_line

if TYPE_CHECKING:
    import ssl

    import openai

CONNECT_SECONDS = 10.0

FIRST_TOKEN_SECONDS = 600.0
"""How long a long prompt, or a queue at the server, may take before anything comes."""

IDLE_SECONDS = 60.0
"""How long a stream that has begun may pause."""

PRELUDE = ("response.created", "response.queued", "response.in_progress")
"""Events of the Responses API that come at once, before the model has read the prompt."""

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
        import openai  # noqa: F401

        import pi.prompt.transport  # noqa: F401
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
        self._first_seconds = max(FIRST_TOKEN_SECONDS, idle_seconds)
        self._sdk = _sdk(endpoint, self._first_seconds)

    def close(self) -> None:
        self._sdk.close()

    def stream(
        self, body: dict[str, Any], before_wait: Callable[[], None] = lambda: None
    ) -> Generator[dict[str, Any], None, None]:
        """The objects that the endpoint streams in answer to a request; `sse.DONE` for its "[DONE]".

        `before_wait` is called when all that has come is taken and more is waited for.

        Raises:
            PiError: for whatever went wrong, also in the middle. Whether a stream that just ends was whole is
                the caller's to judge; `died` is the error for one that was not.
        """
        import openai

        try:
            with self._sent(body) as answer:
                yield from self._objects(answer.response, before_wait)
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

    def _objects(self, response: Any, before_wait: Callable[[], None]) -> Iterator[dict[str, Any]]:
        import httpx2

        incoming = response.extensions["incoming"]
        incoming.before_wait = before_wait
        pieces = 0
        begun = False
        try:
            for item in _decoded(response):
                self._raise_error_in(item)
                if not begun and item.get("type") not in PRELUDE:
                    begun = True
                    incoming.flow(self._idle_seconds)
                pieces += 1
                yield item
        except httpx2.ReadTimeout:
            if not begun:
                raise self._silent() from None
            raise self.died(f"nothing came for {self._idle_seconds:g} s, after {count(pieces, 'piece')}") from None
        except httpx2.HTTPError:
            raise self.died(f"the connection closed after {count(pieces, 'piece')}") from None

    def died(self, how: str) -> PiError:
        """The error for a model that stopped in the middle of an answer, with the last line of its log."""
        return self._explained(RemoteError("model-died", f"the model died while it answered: {how}"))

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
        return self._worded(refused(error.status, error.body, self._endpoint.model, of_pod=self._endpoint.of_pod))

    def _unanswered(self, error: BaseException) -> PiError:
        """The error for a request that got no answer at all."""
        import httpx2

        where, words = one_line(self._endpoint.base_url), one_line(str(error))
        if isinstance(error, PiError):
            return error
        if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
            if self._endpoint.of_pod:
                return self._explained(RemoteError("model-silent", f"the model does not answer: {words}"))
            return UnreachableError(
                "endpoint-unreachable", f"nothing answers at {where}: {words}", "is the model running?"
            )
        if isinstance(error, httpx2.TimeoutException):
            return self._silent()
        return self._explained(RemoteError("endpoint-hung-up", f"the endpoint hung up before it answered: {words}"))

    def _silent(self) -> PiError:
        return self._explained(
            RemoteError("first-token-timeout", f"the model gave no answer for {self._first_seconds:g} s")
        )

    def _worded(self, error: RemoteError) -> PiError:
        """A refusal in the server's own words, which explain it unless the server failed."""
        return self._explained(error) if isinstance(error, EndpointFailedError) else error

    def _explained(self, error: RemoteError) -> PiError:
        """The error with what the model is doing and the last line of its log.

        When the pod is out of reach, that explains both.
        """
        known = []
        try:
            if state := _told(self._endpoint.state):
                known.append(f"its state: {state}")
            if line := _told(self._endpoint.last_log_line):
                known.append(f"the last line of its log: {line}")
        except UnreachableError:
            return UnreachableError("connection-lost", f"the connection to the pod was lost ({error.message})")
        error.hint = "; ".join(known) or error.hint
        return error


def _told(ask: Callable[[], str | None] | None) -> str:
    """What it says, on one line. It is nice to have: only a pod out of reach and a stop by the user count."""
    try:
        return one_line((ask() if ask else None) or "", 300)
    except (UnreachableError, Interrupted):
        raise
    except Exception:
        return ""


def _check(endpoint: Endpoint) -> None:
    if not all(0x21 <= ord(character) <= 0x7E for character in endpoint.api_key):
        raise InputError(
            "api-key-invalid", "the API key holds characters that HTTP cannot carry", "check the variable it is in"
        )
    try:
        url = urlsplit(endpoint.base_url)
        valid = url.scheme in ("http", "https") and url.hostname and url.hostname.encode("idna") and url.port != 0
    except ValueError:
        valid = False
    if not valid or not endpoint.base_url.isprintable() or " " in endpoint.base_url:
        shown = one_line(endpoint.base_url)
        raise InputError("base-url-invalid", f"{shown!r} is no base URL", "it looks like http://host:8001/v1")


def _sdk(endpoint: Endpoint, read_seconds: float) -> openai.OpenAI:
    import openai

    from pi.prompt.transport import LineTransport

    http_client = openai.DefaultHttpxClient(
        transport=LineTransport(endpoint.dial or _dialler(endpoint.base_url)),
        trust_env=False,
        follow_redirects=False,
        event_hooks={"response": [_raise_refusal]},
    )
    sdk = openai.OpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key or "none",
        max_retries=0,
        timeout=read_seconds,
        default_headers={"Accept-Encoding": "identity"},
        http_client=http_client,
    )
    sdk.organization = sdk.project = None  # of the environment, and no business of this endpoint
    return sdk


def _dialler(base_url: str) -> Callable[[], Line]:
    """Connects to the host that a URL names. One whose URL is https has to prove that it is that host."""
    url = urlsplit(base_url)
    address = (url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
    tls = _tls() if url.scheme == "https" else None

    def dial() -> socket.socket:
        line = socket.create_connection(address, timeout=CONNECT_SECONDS)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls.wrap_socket(line, server_hostname=url.hostname) if tls else line

    return dial


def _tls() -> ssl.SSLContext:
    """Trusts whom the system trusts, or those of SSL_CERT_FILE or SSL_CERT_DIR."""
    import httpx2

    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        raise InputError(
            "certificates-unreadable",
            f"the certificates of SSL_CERT_FILE cannot be read: {error.strerror or error}",
            "mend it or unset it",
        ) from None


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


def _decoded(response: Any) -> Iterator[dict[str, Any]]:
    """The objects of a stream, or the one object of an answer that a server did not stream."""
    if "application/json" in response.headers.get("content-type", ""):
        yield sse.parsed(b"".join(_limited(response.iter_bytes())))
        return
    decoder = sse.EventDecoder()
    for piece in response.iter_bytes():
        yield from decoder.feed(piece)


def _limited(pieces: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > sse.EVENT_BYTES:
            raise RemoteError(
                "endpoint-answer-too-long",
                "the endpoint sent an answer of more than 8 MiB, and was not listened to any longer",
            )
        yield piece
