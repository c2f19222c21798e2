"""HTTP to one endpoint with the OpenAI SDK, which takes 0.3 s to import."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from pi import affinity
from pi.errors import InputError, PiError
from pi.prompt.endpoint import ConnectError, Endpoint, Line, RefusedError, RequestError, SilentError
from pi.prompt.transport import Incoming, LineTransport

CONNECT_SECONDS = 10.0

BODY_BYTES = 64 * 1024
"""Bytes read of the body of a refusal."""


class Response:
    """The body of an answer, as it arrives."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.incoming: Incoming = response.extensions["incoming"]
        self.kind: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.is_json = self.kind == "application/json"

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of the body. Raises RequestError if the rest does not come."""
        with _own_errors():
            yield from self._response.iter_bytes()


class Connection:
    """Sends requests to one endpoint, each once.

    Ignores proxies and .netrc of the environment, and follows no redirect: the key goes nowhere else.
    """

    def __init__(self, endpoint: Endpoint, read_seconds: float) -> None:
        http_client = openai.DefaultHttpxClient(
            transport=LineTransport(endpoint.dial or _dialler(endpoint.base_url)),
            trust_env=False,
            follow_redirects=False,
            event_hooks={"response": [_raise_refusal]},
        )
        self._sdk = openai.OpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key or "none",
            max_retries=0,
            timeout=read_seconds,
            default_headers={"Accept-Encoding": "identity"},
            http_client=http_client,
        )
        self._is_of_pod = endpoint.of_pod
        self._sdk.organization = self._sdk.project = None  # from the environment, for OpenAI alone

    def close(self) -> None:
        self._sdk.close()

    def post(self, url: str, body: dict[str, Any], seconds: float) -> Any:
        """Return the JSON value that a URL answers. Raises RequestError."""
        with _own_errors():
            return self._sdk.post(url, body=body, cast_to=object, options={"timeout": seconds})

    @contextlib.contextmanager
    def stream(self, route: str, body: dict[str, Any]) -> Iterator[Response]:
        """Send a request and yield its answer once the headers have arrived. Raises RequestError.

        The SDK's own types are bypassed: they are slow to import and slow for each token.
        """
        with _own_errors():
            answer = self._sdk.post(
                route,
                body=body,
                cast_to=object,
                stream=True,
                stream_cls=openai.Stream[object],
                options={"headers": {affinity.HEADER: affinity.session_of(body)} if self._is_of_pod else {}},
            )
        with answer:
            yield Response(answer.response)


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Turn errors of the SDK and its HTTP client into RequestErrors, and let PiErrors pass."""
    try:
        yield
    except openai.APIConnectionError as error:
        raise _own_error(error.__cause__ or error) from None
    except httpx2.HTTPError as error:
        raise _own_error(error) from None


def _own_error(error: BaseException) -> BaseException:
    if isinstance(error, PiError | RequestError):
        return error
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return ConnectError(str(error))
    return SilentError(str(error)) if isinstance(error, httpx2.TimeoutException) else RequestError(str(error))


def _raise_refusal(response: httpx2.Response) -> None:
    """Raise RefusedError for a status other than 200, with the beginning of the body."""
    if response.status_code == 200:
        return
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) > BODY_BYTES:
            break
    response.close()
    raise RefusedError(response.status_code, body[:BODY_BYTES].decode("utf-8", "replace"))


def _dialler(base_url: str) -> Callable[[], Line]:
    """Return a function that connects to a URL's host, over TLS if it is https."""
    url = urlsplit(base_url)
    address = (url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
    tls = _tls() if url.scheme == "https" else None

    def dial() -> socket.socket:
        line = socket.create_connection(address, timeout=CONNECT_SECONDS)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls.wrap_socket(line, server_hostname=url.hostname) if tls else line

    return dial


def _tls() -> ssl.SSLContext:
    """Return a context that trusts the system's certificates, or those of SSL_CERT_FILE or SSL_CERT_DIR."""
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        raise InputError(
            "certificates-unreadable", f"cannot read SSL_CERT_FILE: {error.strerror or error}", "fix or unset it"
        ) from None
