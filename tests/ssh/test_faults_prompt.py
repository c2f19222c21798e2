"""`pi prompt`, the real command, against servers and models that misbehave."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command import Done, Pi, ended, program
from tests.rig.patience import patient
from tests.rig.pod import Pod, kill, until

KEY = "sk-of-the-canned-server-CANARY"
RESULT_BYTES = 64 * 1024


class Canned(ThreadingHTTPServer):
    """Answers with the status and the pieces of a body that `answer` returns for a request's number.

    A number among the pieces is a pause. Unless the last piece is DONE, the connection closes before the body ends.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Callable[[int], tuple[int, list[bytes | float]]] = lambda number: (200, [])
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Canned

    def do_POST(self) -> None:
        self.server.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        status, pieces = self.server.answer(len(self.server.requests))
        self.send_response(status)
        self.send_header("content-type", "text/event-stream" if status == 200 else "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            if isinstance(piece, float):
                time.sleep(piece)
                continue
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if status != 200 or pieces[-1:] == [DONE]:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, format: str, *values: object) -> None:
        """Print nothing."""


DONE = b"data: [DONE]\n\n"


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n".encode()


def calls(name: str, arguments: str) -> list[bytes | float]:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return [chunk(tool_calls=[call]), chunk("tool_calls"), DONE]


def says(text: str) -> list[bytes | float]:
    return [chunk(content=text), chunk("stop"), DONE]


@pytest.fixture
def server() -> Iterator[Canned]:
    with Canned() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def ask(pi: Pi, server: Canned, *words: str, **environment: Any) -> Done:
    return pi("prompt", "--base-url", server.url, "--model", "m", *words, "hi", OPENAI_API_KEY=KEY, **environment)


def error_body(words: str) -> list[bytes | float]:
    return [json.dumps({"error": {"message": words, "code": 400}}).encode()]


@pytest.mark.parametrize(
    ("status", "pieces", "id", "ends"),
    [
        pytest.param(200, [chunk(content="Once "), chunk(content="upon")], "model-died", "after 2 pieces", id="cut"),
        pytest.param(200, [chunk(content="Once "), 30.0], "model-stalled", "1 s, after 1 piece", id="stalled"),
        pytest.param(401, [b'{"error": "Unauthorized"}'], "key-refused", "to that key", id="another key"),
        pytest.param(
            404, error_body("The model `m` does not exist."), "endpoint-lacks-model", "not exist.", id="another model"
        ),
        pytest.param(200, [b"data: {'no': JSON}\n\n"], "endpoint-event-invalid", ": {'no': JSON}", id="garbage"),
    ],
)
def test_row_59_an_answer_that_fails_names_the_cause(
    pi: Pi, server: Canned, status: int, pieces: list[bytes | float], id: str, ends: str
) -> None:
    server.answer = lambda number: (status, pieces)
    began = time.monotonic()
    done = ask(pi, server, "--idle-timeout", "1")
    assert (done.code, done.id) == (1, id)
    assert done.err.endswith(f"{ends}\n")
    assert "Traceback" not in done.all and KEY not in done.all
    assert time.monotonic() - began < patient(10)
    assert len(server.requests) == 1, "nothing is asked twice"


@pytest.mark.core
def test_row_59_a_model_that_dies_shows_the_last_log_line(pi: Pi, box: Pod) -> None:
    box.fault("vllm", dies_answering=True, last_words="torch.OutOfMemoryError: CUDA out of memory.")
    pi.ok("start", box.model(), "--name", "qwen")
    done = pi("prompt", "qwen", "hi")
    assert (done.code, done.id) == (1, "model-died")
    assert "The capital of France is Paris." in done.out
    assert done.err.endswith(": torch.OutOfMemoryError: CUDA out of memory.\n")


def test_row_59_a_proxy_of_the_environment_sees_nothing(pi: Pi, server: Canned) -> None:
    server.answer = lambda number: (200, says("Hello"))
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.2)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        variables = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
        assert ask(pi, server, "--quiet", **dict.fromkeys(variables, address)).out == "Hello\n"
        with pytest.raises(TimeoutError):
            proxy.accept()


def test_row_59_a_call_with_broken_json_goes_back_to_the_model(pi: Pi, server: Canned) -> None:
    server.answer = lambda number: (200, calls("read", '{"file_path": "a') if number == 1 else says("Sorry."))
    done = ask(pi, server)
    assert done.code == 0
    assert "Sorry." in done.out
    [result] = [message for message in server.requests[1]["messages"] if message["role"] == "tool"]
    assert "the arguments are not valid JSON" in result["content"]


def test_row_60_endless_tool_calls_are_stopped(pi: Pi, server: Canned) -> None:
    server.answer = lambda number: (200, calls("rg", '{"args": "TODO"}'))
    done = ask(pi, server, "--max-rounds", "4")
    assert done.code == 1
    assert "stopped after 4 rounds of tool calls (--max-rounds)" in done.err
    assert len(server.requests) == 4


def test_row_60_a_huge_result_is_cut_with_a_note(pi: Pi, server: Canned) -> None:
    (pi.home / "big.txt").write_text("TODO: one of very many lines\n" * 100_000)
    tools = iter([("rg", {"args": "TODO"}), ("read", {"file_path": str(pi.home / "big.txt")})])
    server.answer = lambda number: (
        200,
        calls(*((tool := next(tools))[0], json.dumps(tool[1]))) if number < 3 else says("Much."),
    )
    done = ask(pi, server)
    assert done.code == 0
    results = [message["content"] for message in server.requests[-1]["messages"] if message["role"] == "tool"]
    assert len(results) == 2
    for result in results:
        assert len(result.encode()) < RESULT_BYTES + 200
        assert result.splitlines()[-1].startswith("[cut: ")
    assert len(done.out) < 3000, "shortened on the screen"


def test_ctrl_c_ends_an_answer_and_keeps_its_text(pi: Pi, server: Canned) -> None:
    server.answer = lambda number: (200, [chunk(content="Once upon"), 30.0] if number == 1 else says("Well."))
    words = ("prompt", "--base-url", server.url, "--model", "m")
    running = pi.spawn(*words, "Tell me a story")
    running.reads("Once upon")
    running.interrupt()
    done = running.ends(timeout_s=10)
    assert done.code == 130
    assert "Traceback" not in done.all
    pi.ok(*words, "--continue", "Go on")
    said = [(message["role"], message["content"]) for message in server.requests[1]["messages"][1:]]
    assert said == [("user", "Tell me a story"), ("assistant", "Once upon"), ("user", "Go on")]


@pytest.mark.parametrize("pieces", [[chunk(content="Once upon"), 30.0], [30.0]], ids=["in an answer", "before it"])
def test_a_lost_connection_does_not_look_like_a_dead_model(
    pi: Pi, box: Pod, server: Canned, pieces: list[bytes | float]
) -> None:
    server.answer = lambda number: (200, pieces)
    model = {"model": "m", "port": server.server_port, "gpus": [], "pid": 4242, "status": "running"}
    pi.knows(box, models={"qwen": model})
    running = pi.spawn("prompt", "qwen", "Tell me a story")
    assert until(lambda: server.requests)
    if len(pieces) == 2:
        running.reads("Once upon")
    for pid in box.sessions():
        kill(pid)
    done = running.ends()
    assert (done.code, done.id) == (3, "connection-lost")
    assert "Traceback" not in done.err


def test_no_other_program_can_use_the_tunnel(pi: Pi, box: Pod, server: Canned) -> None:
    """Any user of this machine could use a local port."""
    server.answer = lambda number: (200, [chunk(content="Once"), 30.0])
    model = {"model": "m", "port": server.server_port, "gpus": [], "pid": 4242, "status": "running"}
    pi.knows(box, models={"qwen": model})
    running = pi.spawn("prompt", "qwen", "Tell me a story")
    running.reads("Once")
    held = {os.readlink(file) for file in Path(f"/proc/{running.pid}/fd").iterdir()}
    listening = {
        f"socket:[{line.split()[9]}]" for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line
    }
    assert any(name.startswith("socket:") for name in held)
    assert not held & listening
    running.interrupt(signal.SIGTERM)
    running.ends()


def test_a_suspended_answer_arrives_whole(pi: Pi, box: Pod, server: Canned) -> None:
    """As with Ctrl+Z and fg, for longer than an answer may pause; the tunnel stops too."""
    slow: list[bytes | float] = [chunk(content="upon "), 0.2]
    server.answer = lambda number: (200, [chunk(content="Once "), *slow * 25, *says("a time")])
    model = {"model": "m", "port": server.server_port, "gpus": [], "pid": 4242, "status": "running"}
    pi.knows(box, models={"qwen": model})
    running = pi.spawn("prompt", "qwen", "--idle-timeout", "2", "Tell a story")
    running.reads("Once")
    running.interrupt(signal.SIGSTOP)
    time.sleep(4.0)
    running.interrupt(signal.SIGCONT)
    done = running.ends()
    assert done.code == 0, done.err
    assert "upon a time" in done.out


def shell(pi: Pi, script: str) -> Done:
    """Run a shell script in which `$pi` is the command."""
    environment = {**pi.environment, "pi": str(program("pi")), "OPENAI_API_KEY": KEY}
    done = subprocess.run(["bash", "-c", script], env=environment, cwd=pi.home, capture_output=True, timeout=60)
    return ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("script", "code", "out", "id"),
    [
        ("$pi prompt {to} --quiet <&-", 2, "", "stdin-empty"),
        ("$pi prompt {to} --quiet hi <&-", 0, "Hello\n", ""),
        ("$pi prompt {to} hi >&-", 0, "", ""),
        ("$pi prompt {to} hi >/dev/full", 1, "", "stdout-unwritable"),
        ("$pi prompt {to} --json hi | true; exit ${{PIPESTATUS[0]}}", 141, "", ""),
        ("mkdir d && cd d && rmdir ../d && $pi prompt {to} hi", 2, "", "working-dir-gone"),
    ],
)
def test_redirections_of_a_shell_fail_in_words(
    pi: Pi, server: Canned, script: str, code: int, out: str, id: str
) -> None:
    server.answer = lambda number: (200, says("Hello"))
    done = shell(pi, script.format(to=f"--base-url {server.url} --model m"))
    assert (done.code, done.out, done.id) == (code, out, id), done.err
    assert "bug in pi" not in done.err and "Traceback" not in done.err


def test_sigterm_sets_the_exit_code(pi: Pi, server: Canned) -> None:
    server.answer = lambda number: (200, [chunk(content="Once upon"), 30.0])
    running = pi.spawn("prompt", "--base-url", server.url, "--model", "m", "Tell a story")
    running.reads("Once upon")
    running.interrupt(signal.SIGTERM)
    assert running.ends(timeout_s=10).code == 143
    [saved] = (pi.config / "conversations").iterdir()
    assert "Once upon" in saved.read_text()
