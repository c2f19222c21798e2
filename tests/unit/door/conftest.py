"""A door before servers on this machine: pods whose ssh command is `local`."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from pi.door import kept, server
from pi.door.rules import Rules
from pi.door.starts import Runner, run
from pi.fabric_tasks.start_options import options_of
from tests.rig.serving import Server
from tests.rig.sshd import free_port

PODS_KEY = "sk-pods-0123456789abcdef"

CHAT = "/v1/chat/completions"

RULES = Rules(start_of=lambda name, table: options_of(name, table).start())


@dataclass
class Got:
    """A request as a server on a pod received it."""

    path: str
    headers: dict[str, str]
    body: bytes


class Backend(Server):
    """A server that records requests; `answer` writes each answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[Got] = []
        self.answer: Callable[[Handler], None] = lambda handler: handler.reply(200, b'{"object": "chat.completion"}')
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    server: Backend
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.got.append(Got(self.path, headers, body))
        self.server.answer(self)

    def reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("set-cookie", "from=pod")
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def write(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, pattern: str, *values: Any) -> None:
        """Print nothing."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


@dataclass
class Rig:
    """A door at `port`, and what clients ask it."""

    port: int
    key: str
    config: Path
    backends: list[Backend] = field(default_factory=list)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(
        self,
        path: str,
        document: object = None,
        *,
        method: str = "",
        headers: Mapping[str, str] | None = None,
        key: str | None = "",
    ) -> Answer:
        """Send a request with the door's key, another one, or none (None)."""
        connection = self.connect()
        body = document if isinstance(document, bytes) else None if document is None else json.dumps(document).encode()
        given = {} if key is None else {"Authorization": f"Bearer {key or self.key}"}
        connection.request(method or ("GET" if body is None else "POST"), path, body, {**given, **(headers or {})})
        reply = connection.getresponse()
        answer = Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        connection.close()
        return answer

    def knows(self, **pods: Mapping[str, Backend | int | Mapping[str, Any]]) -> None:
        """Write pods.json: for each pod its models, with their server, port or whole entry."""
        entries = {
            pod: {"ssh": "local", "gpus": [], "models": {name: _entry(name, given) for name, given in models.items()}}
            for pod, models in pods.items()
        }
        (self.config / "pods.json").write_text(json.dumps({"version": 1, "pods": entries, "active": next(iter(pods))}))

    def backend(self) -> Backend:
        self.backends.append(Backend())
        return self.backends[-1]


def _entry(name: str, given: Backend | int | Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"model": f"org/{name}-8b", "gpus": [], "pid": 7, "port": 1}
    if isinstance(given, Mapping):
        return {**entry, **given}
    return {**entry, "port": given.port if isinstance(given, Backend) else given}


@contextmanager
def open_door(config: Path, run: Runner = run) -> Iterator[Rig]:
    """Open a door in a thread of this process."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", port)) as listener:
        patch.setenv("PI_CONFIG_DIR", str(config))
        patch.setenv("PI_API_KEY", PODS_KEY)
        running = uvicorn.Server(server.settings(kept.HOST, PODS_KEY, RULES, run))
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        while not running.started:
            time.sleep(0.01)
        yield Rig(port, kept.key(), config)
        running.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A door for all tests of a module."""
    with open_door(tmp_path_factory.mktemp("config")) as rig:
        yield rig


@pytest.fixture
def rig(opened: Rig) -> Iterator[Rig]:
    yield opened
    for backend in opened.backends:
        backend.shutdown()
        backend.server_close()
    opened.backends.clear()
