"""Requests with and without the key, byte for byte, for the guard of a real vLLM."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]

HEALTH = ["/health", "/health?x=1", "/%68ealth", "http://pod/health"]
"""Ways to write the one route that is open."""

PATHS = [
    "/health/", "//health", "/health/x", "/health;x", "/HEALTH", "/health%00", "/health%0d%0a", "/health%2f..%2fv1%2fmodels",
    "/health/../v1/models", "/health/../metrics", "/./metrics", "//metrics", "/metrics/", "/metrics%2f", "/%6detrics",
    "/v1/models#/health", "/v1/../metrics", "/v1/%2e%2e/metrics",
    "http://pod/metrics", "http://pod/health/../metrics", "*",
    "/docs", "/redoc", "/openapi.json", "/sleep", "/reset_prefix_cache", "/collective_rpc", "/server_info", "/nowhere",
]  # fmt: skip
"""Targets of a GET that must not be answered without the key. None contains the key: vLLM logs targets."""

HEADERS = [
    "Authorization: {key}", "Authorization: Bearer", "Authorization: Bearer wrong", "Authorization: Basic {key}",
    "Authorization: Bearer  {key}", "Authorization:\tBearer\t{key}", "Authorization: Bearer {key}x",
    "Authorization: Bearer wrong\r\nAuthorization: Bearer {key}", "Authorization: Bearer {key}\r\nAuthorization: Bearer wrong",
    "Authorization: Bearer wrong, Bearer {key}", "x-api-key: wrong", "x-api-key: Bearer {key}", "x-api-key: \"{key}\"",
    "x-api-key: wrong\r\nx-api-key: {key}", "x-api-key: {key},{key}", "x_api_key: {key}", "api-key: {key}",
    "Proxy-Authorization: Bearer {key}", "Cookie: Authorization=Bearer {key}", "X-Forwarded-Authorization: Bearer {key}",
    "X-Original-URL: /health", "X-Rewrite-URL: /health", "X-HTTP-Method-Override: GET", "X-Forwarded-Prefix: /health",
    "Origin: http://pod", "Access-Control-Request-Method: GET", "Upgrade: h2c\r\nConnection: Upgrade",
    "Host: localhost", "X-Forwarded-For: 127.0.0.1", "Transfer-Encoding: chunked\r\nContent-Length: 4",
]  # fmt: skip
"""Headers of a GET /metrics that do not show the key as the guard reads it."""

WITH_KEY = [
    "Authorization: Bearer {key}", "authorization: bearer {key}", "Authorization: BEARER {key}", "x-api-key: {key}",
    "X-API-Key: {key}", "Authorization: Bearer {key}\r\nx-api-key: {key}", "Authorization: Basic eA==\r\nx-api-key: {key}",
]  # fmt: skip

PREFLIGHT = (
    "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-api-key"
)

WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


@dataclass(frozen=True)
class Server:
    """A server's address and its key."""

    port: int
    key: str

    def status(self, method: str, target: str, headers: str = "", body: str = "") -> int:
        """Return the status of one request on a connection of its own; 0 if it is closed without an answer."""
        return int(re.match(rb"HTTP/1\.[01] ([0-9]{3}) |", self.reply(method, target, headers, body))[1] or 0)  # type: ignore[index]

    def reply(self, method: str, target: str, headers: str = "", body: str = "") -> bytes:
        """Return the beginning of the answer to one request; `{key}` in its texts is the key."""
        lines = [f"{method} {target} HTTP/1.1", "Host: pod", "Connection: close"]
        lines += [headers] if headers else []
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
        request = "\r\n".join([*lines, "", body]).replace("{key}", self.key)
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request.encode())
            try:
                return connection.recv(65536)
            except ConnectionResetError:
                return b""


def routes(log: str) -> Iterator[str]:
    """Yield the paths that a vLLM lists in its log at start, with a value for each parameter."""
    for path in sorted(set(re.findall(r"Route: (/\S*),", log))):
        yield re.sub(r"\{[^}]*\}", "x", path)
