"""A small real HTTP server that replays answers, and a `pi prompt` that talks to it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, TextIO

import pytest

from pi.errors import PiError
from pi.prompt.client import Client
from pi.prompt.conversation import Options, run
from pi.prompt.endpoint import Endpoint

KEY = "key-for-the-tests"
STREAMS = Path(__file__).parent / "streams"


@dataclass
class Reply:
    """One HTTP answer. A number among the pieces is a pause in seconds; `whole` is false for a torn connection.

    `when` makes it the answer to every request whose body fulfils it, before all others.
    """

    pieces: list[bytes | float] = field(default_factory=list)
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    whole: bool = True
    when: Callable[[Any], bool] | None = None


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: Any


class ReplayServer(socketserver.ThreadingTCPServer):
    """Answers each POST with the next reply, then repeats the last one. Records the requests."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.requests: list[Request] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.server_address[1]

    def answer(self, *replies: Reply) -> None:
        self.replies[:] = replies

    def next_reply(self, request: Request) -> Reply:
        with self.lock:
            self.requests.append(request)
            for reply in self.replies:
                if reply.when and reply.when(request.body):
                    return reply
            plain = [reply for reply in self.replies if not reply.when]
            if len(plain) > 1:
                self.replies.remove(plain[0])
            return plain[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ReplayServer
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.next_reply(Request(self.path, headers, json.loads(body)))
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self._send(reply)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send(self, reply: Reply) -> None:
        for piece in reply.pieces:
            if isinstance(piece, float):
                time.sleep(piece)
            elif piece:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
        if reply.whole:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True


def sse(*objects: Any, done: bool = True) -> bytes:
    data = [f"data: {json.dumps(item)}\n\n" for item in objects]
    return ("".join(data) + ("data: [DONE]\n\n" if done else "")).encode()


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a chunk of a streamed chat completion, as vLLM sends it."""
    choice = {"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def usage(tokens_in: int, tokens_out: int) -> dict[str, Any]:
    counts = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": counts}


def says(*texts: str, finish: str = "stop") -> Reply:
    """Return an answer that is only text."""
    return Reply(
        [sse(delta(role="assistant", content=""), *(delta(content=t) for t in texts), delta(finish), usage(9, 3))]
    )


def calls(*named: tuple[str, Any], text: str = "") -> Reply:
    """Return an answer that calls tools, given names and arguments (JSON text or a value)."""
    fragments = []
    for index, (name, arguments) in enumerate(named):
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        head = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        fragments += [
            delta(tool_calls=[head]),
            delta(tool_calls=[{"index": index, "function": {"arguments": written}}]),
        ]
    return Reply([sse(delta(role="assistant", content=text), *fragments, delta("tool_calls"), usage(20, 5))])


def error(status: int, body: Any) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply([data], status=status, content_type="application/json")


def recorded(name: str) -> bytes:
    return (STREAMS / f"{name}.sse").read_bytes()


@contextlib.contextmanager
def fails(kind: type[PiError], id: str, words: str = "") -> Iterator[pytest.ExceptionInfo[PiError]]:
    """Expect an error of this kind with this id, and these words in its message."""
    with pytest.raises(kind) as raised:
        yield raised
    assert raised.value.id == id
    assert words in raised.value.message


@dataclass
class Said:
    """The output and the exit code of `pi prompt`."""

    code: int
    stdout: str
    stderr: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass
class Prompt:
    """`pi prompt` in its own directory, against the replay server."""

    server: ReplayServer
    working_dir: Path
    config_dir: Path

    def endpoint(self, **changes: Any) -> Endpoint:
        return Endpoint(**{"base_url": self.server.url, "model": "m", "api_key": KEY, **changes})

    def __call__(
        self,
        *messages: str,
        stdin: bytes = b"",
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        endpoint: Endpoint | None = None,
        **options: Any,
    ) -> Said:
        stdout, stderr = stdout or io.StringIO(), stderr or io.StringIO()
        code = run(
            endpoint or self.endpoint(),
            messages,
            Options(**{"output": "json", **options}),
            config_dir=self.config_dir,
            working_dir=self.working_dir,
            stdin=io.TextIOWrapper(io.BytesIO(stdin)),
            stdout=stdout,
            stderr=stderr,
        )
        return Said(
            code, *(stream.getvalue() if isinstance(stream, io.StringIO) else "" for stream in (stdout, stderr))
        )


@pytest.fixture(scope="session")
def running_server() -> Iterator[ReplayServer]:
    with ReplayServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(running_server: ReplayServer) -> ReplayServer:
    running_server.replies.clear()
    running_server.requests.clear()
    return running_server


@pytest.fixture
def prompt(server: ReplayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prompt:
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    working_dir = tmp_path / "work"
    working_dir.mkdir()
    return Prompt(server, working_dir, tmp_path / "config")


@pytest.fixture
def client(prompt: Prompt) -> Iterator[Callable[..., Client]]:
    """Return a function that makes clients of the replay server; they are closed at the end."""
    made: list[Client] = []

    def make(idle_seconds: float = 60.0, **changes: Any) -> Client:
        made.append(Client(prompt.endpoint(**changes), idle_seconds=idle_seconds))
        return made[-1]

    yield make
    for one in made:
        one.close()
