"""A server on 127.0.0.1 that redirects to other hosts, and notes the `Authorization` of each request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.rig.serving import serving


@dataclass
class Seen:
    """What arrived: for each host and path, its `Authorization`. `hosts` are the addresses of the servers."""

    hosts: list[str] = field(default_factory=list)
    authorizations: dict[tuple[str, str], str | None] = field(default_factory=dict)

    @property
    def by_host(self) -> dict[str, set[str | None]]:
        """The `Authorization` headers that each host has received, by its address."""
        received: dict[str, set[str | None]] = {}
        for (host, _), authorization in self.authorizations.items():
            received.setdefault(host, set()).add(authorization)
        return received


@contextmanager
def redirecting(moves: Mapping[str, str], files: Mapping[str, bytes]) -> Iterator[Seen]:
    """Run three servers: of one host with two ports, and of another host.

    `moves` are redirects from a path to an address, where `{0}`, `{1}` and `{2}` are the servers (`host:port`).
    """
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host, port = self.connection.getsockname()
            address = f"{host}:{port}"
            seen.authorizations[address, self.path] = self.headers.get("Authorization")
            if self.path in moves:
                self.send_response(307)
                self.send_header("Location", moves[self.path].format(*seen.hosts))
                self.end_headers()
                return
            self.send_response(200 if self.path in files else 404)
            self.end_headers()
            self.wfile.write(files.get(self.path, b""))

        def log_message(self, *words: object) -> None:
            """Log nothing."""

    with ExitStack() as stack:
        for host in ("127.0.0.1", "127.0.0.1", "127.0.0.2"):
            seen.hosts.append(stack.enter_context(serving(Handler, host)))
        yield seen
