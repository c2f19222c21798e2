"""Failures between pi and the model, over real HTTP: each cause has its own error."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pi.errors import InputError, Interrupted, PiError, RemoteError, UnreachableError
from pi.prompt.refusals import ContextOverflowError, described, refused, server_words
from tests.unit.prompt.conftest import KEY, Prompt, Reply, delta, error, fails, says, sse

OVER = "This model's maximum context length is 2048 tokens. However, "


def failure_of(prompt: Prompt, *replies: Reply, **endpoint: Any) -> PiError:
    """Send one message and return its error."""
    prompt.server.answer(*replies)
    with pytest.raises(PiError) as raised:
        prompt("x", output="terminal", endpoint=prompt.endpoint(**endpoint))
    return raised.value


@pytest.mark.parametrize(
    ("reply", "id", "words"),
    [
        pytest.param(
            error(401, {"error": "Unauthorized"}),
            "key-refused",
            "(401): m ",
            id="vLLM's 401, whose error is text",
        ),
        pytest.param(
            error(404, {"error": {"message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404}}),
            "endpoint-lacks-model",
            "'m': The model `m` does not exist.",
            id="another model",
        ),
        pytest.param(error(404, {"detail": "Not Found"}), "endpoint-lacks-route", "(404)", id="another path"),
        pytest.param(
            error(400, {"error": {"message": "temperature must be non-negative", "code": 400}}),
            "request-refused",
            "(400): temperature must be non-negative",
            id="a bad request",
        ),
        pytest.param(
            error(422, {"detail": [{"loc": ["body"], "msg": "field required"}]}),
            "request-refused",
            "(422): field required",
            id="FastAPI's own shape",
        ),
        pytest.param(
            error(500, {"object": "error", "message": "EngineCore died", "code": 500}),
            "endpoint-failed",
            "(500): EngineCore died",
            id="an older vLLM's shape",
        ),
        pytest.param(
            error(502, b"<html><style>p{}</style><h1>502\x1b]0;x\x07 Bad\xc2\x9b2J Gateway</h1></html>"),
            "endpoint-failed",
            "(502): 502 Bad2J Gateway",
            id="a page with escapes",
        ),
        pytest.param(error(503, b""), "endpoint-failed", "(503): no reason given", id="nothing at all"),
        pytest.param(
            Reply([], status=307, headers={"Location": "http://evil.example/v1"}),
            "endpoint-redirects",
            "(307)",
            id="a redirect",
        ),
    ],
)
def test_a_refusal_has_the_cause_and_the_servers_words(prompt: Prompt, reply: Reply, id: str, words: str) -> None:
    failure = failure_of(prompt, reply)
    assert failure.id == id
    assert words in failure.message
    assert len(prompt.server.requests) == 1, "nothing is sent twice"


def test_the_hint_for_a_refused_key_names_its_variable(prompt: Prompt) -> None:
    denied = error(401, {"error": "Unauthorized"})
    line = prompt.server.address
    of_pod = failure_of(prompt, denied, dial=lambda: socket.create_connection(line))
    assert "PI_API_KEY" in (of_pod.hint or "")
    assert "OPENAI_API_KEY" in (failure_of(prompt, denied).hint or "")


def test_an_endless_refusal_is_read_only_in_part(prompt: Prompt) -> None:
    endless = Reply([b"x" * 65536] * 2000, status=500)
    assert len(failure_of(prompt, endless).message) < 500


@pytest.mark.parametrize(
    ("words", "excess"),
    [
        (OVER + "your prompt contains 2100 input tokens, which exceeds this limit even without any output tokens.", 52),
        (OVER + "you requested 3000 tokens (2500 in the messages, 500 in the completion).", 952),
        ("Input length (2100) exceeds model's maximum context length (2048).", 52),
        ("The decoder prompt (length 2100) is longer than the maximum model length of 2048. Make sure", 52),
        ("request (2100 tokens) exceeds the available context size (2048 tokens), try increasing it", 52),
        (OVER + "your messages resulted in 12,049 tokens.", 10_001),
    ],
)
def test_an_overflow_says_by_how_much(words: str, excess: int) -> None:
    overflow = described(words, 400)
    assert isinstance(overflow, ContextOverflowError)
    assert overflow.exact
    assert "2,048 tokens" in overflow.message
    assert overflow.message.endswith(f" by {excess:,} tokens")


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        (OVER + "your prompt contains at least 2049 input tokens, which", " by at least 1 token"),
        (OVER + "your prompt contains 50000 characters (more than 30000 characters", "30000 characters"),
        ("the request exceeds the available context size. try increasing", "try increasing"),
        ("Your input exceeds the context window of this model.", "of this model."),
    ],
)
def test_an_overflow_without_an_exact_count_quotes_the_server(words: str, ends: str) -> None:
    overflow = described(words, 400)
    assert isinstance(overflow, ContextOverflowError)
    assert not overflow.exact
    assert overflow.message.endswith(ends)


def test_the_server_counts_an_overflow_without_a_count(prompt: Prompt) -> None:
    vague = OVER + "your prompt contains at least 2049 input tokens, which exceeds this limit"
    counted = Reply([b'{"count": 5048, "max_model_len": 2048, "tokens": []}'], content_type="application/json")
    overflow = failure_of(prompt, error(400, {"error": {"message": vague, "code": 400}}), counted)
    assert overflow.id == "context-overflow"
    assert overflow.message.endswith("2,048 tokens by 3,000 tokens")
    request = prompt.server.requests[-1]
    assert request.path == "/tokenize"
    assert [message["role"] for message in request.body["messages"]] == ["system", "user"]
    assert len(request.body["tools"]) == 4


def test_an_overflow_that_the_server_cannot_count_stays_vague(prompt: Prompt) -> None:
    vague = OVER + "your prompt contains at least 2049 input tokens, which exceeds this limit"
    refusal = error(400, {"error": {"message": vague, "code": 400}})
    overflow = failure_of(prompt, refusal, error(404, {"detail": "Not Found"}))
    assert overflow.message.endswith(" by at least 1 token")


BEGUN = sse(delta(role="assistant", content=""), delta(content="Once"), delta(content=" upon"), done=False)


@pytest.mark.parametrize(
    ("reply", "id", "words"),
    [
        pytest.param(
            Reply([BEGUN], whole=False),
            "model-died",
            "after 3 pieces",
            id="the connection is cut",
        ),
        pytest.param(
            Reply([BEGUN]),
            "model-died",
            "after 2 pieces",
            id="the stream ends too early",
        ),
        pytest.param(
            Reply([BEGUN, sse({"error": {"message": "EngineCore encountered an issue.", "code": 500}})]),
            "endpoint-failed",
            "(500): EngineCore encountered an issue.",
            id="an error in the stream",
        ),
        pytest.param(
            Reply([BEGUN, sse({"object": "error", "message": "out of memory", "code": 500})]),
            "endpoint-failed",
            "(500): out of memory",
            id="an older error in the stream",
        ),
        pytest.param(
            Reply([sse(delta(content="Once"), done=False)], whole=False),
            "model-died",
            "after 1 piece",
            id="the connection is cut after one piece",
        ),
        pytest.param(
            Reply([sse(delta(content="Once"), done=False)]),
            "model-died",
            "after 1 piece",
            id="the stream ends after one piece",
        ),
        pytest.param(
            Reply([], whole=False),
            "model-died",
            "after 0 pieces",
            id="nothing comes after the headers",
        ),
    ],
)
def test_an_answer_that_breaks_off_shows_the_last_log_line(prompt: Prompt, reply: Reply, id: str, words: str) -> None:
    log = "ERROR \x1b[31mtorch.OutOfMemoryError: CUDA out of memory\x1b[0m\n"
    failure = failure_of(prompt, reply, last_log_line=lambda: log)
    assert failure.id == id
    assert failure.message.endswith(words)
    assert (failure.hint or "").endswith(": ERROR torch.OutOfMemoryError: CUDA out of memory")


def test_an_unreachable_pod_explains_an_answer_that_breaks_off(prompt: Prompt) -> None:
    def lost() -> str:
        raise UnreachableError("connection-lost", "the connection was lost")

    prompt.server.answer(Reply([BEGUN], whole=False))
    with fails(UnreachableError, "connection-lost", "after 3 pieces"):
        prompt("hi", endpoint=prompt.endpoint(last_log_line=lost))


@pytest.mark.parametrize("last_log_line", [None, lambda: None, lambda: 1 / 0])
def test_without_a_log_there_is_no_last_line(prompt: Prompt, last_log_line: Any) -> None:
    assert failure_of(prompt, Reply([BEGUN], whole=False), last_log_line=last_log_line).hint is None


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "message": "boom", "code": 500},
        {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "boom"}}},
        {"error": {"message": "boom", "type": "InternalServerError", "code": 500}},
    ],
)
def test_a_response_that_fails_in_the_stream_is_an_error(prompt: Prompt, event: dict[str, Any]) -> None:
    failure = failure_of(prompt, Reply([sse(event, done=False)]), api="responses")
    assert failure.id == "endpoint-failed"
    assert failure.message.endswith("(500): boom")


def test_an_event_that_is_not_json_is_quoted(prompt: Prompt) -> None:
    failure = failure_of(prompt, Reply([b"data: <h1>\x1b[2J\n\n"]))
    assert failure.id == "endpoint-event-invalid"
    assert failure.message.endswith(": <h1>")


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("text/html; charset=utf-8", b"<html><style>a{}</style><h1>502</h1> Bad\x1b[2J Gateway", ": 502 Bad Gateway"),
        ("application/x-ndjson", b'{"message": "Hi"}\n', ": Hi"),
        ("text/plain", b"", ": no reason given"),
    ],
)
def test_an_answer_that_is_no_stream_is_quoted(prompt: Prompt, kind: str, body: bytes, words: str) -> None:
    failure = failure_of(prompt, Reply([body], content_type=kind))
    assert failure.id == "endpoint-not-a-stream"
    assert f"answered with {kind.partition(';')[0]}" in failure.message
    assert failure.message.endswith(words)


def test_a_stalled_stream_fails(prompt: Prompt, client: Any) -> None:
    prompt.server.answer(Reply([BEGUN, 3.0, sse(delta("stop"))]))
    with fails(RemoteError, "model-stalled", "0.3 s, after 3 pieces"):
        list(client(idle_seconds=0.3).stream({"messages": []}))


def test_a_long_prompt_may_delay_the_first_token(prompt: Prompt, client: Any) -> None:
    prompt.server.answer(Reply([0.5, *says("Here").pieces]))
    assert len(list(client(idle_seconds=0.2).stream({"messages": []}))) == 5


def test_a_slow_stream_is_not_stalled(prompt: Prompt, client: Any) -> None:
    prompt.server.answer(Reply(steady(8)))
    assert len(list(client(idle_seconds=0.3).stream({"messages": []}))) == 10


def steady(count: int) -> list[bytes | float]:
    """Return `count` pieces, one every 0.1 s, and the end."""
    pieces: list[bytes | float] = []
    for _ in range(count):
        pieces += [sse(delta(content="a"), done=False), 0.1]
    return [*pieces, sse(delta("stop"))]


def test_a_reader_that_pauses_gets_the_whole_answer(prompt: Prompt, client: Any) -> None:
    """Such as a terminal after Ctrl+S, or a pager."""
    prompt.server.answer(Reply(steady(8)))
    items = []
    for item in client(idle_seconds=0.3).stream({"messages": []}):
        items.append(item)
        if len(items) in (1, 4):
            time.sleep(1.0)
    assert len(items) == 10


def test_a_stall_after_a_pause_of_the_reader_fails_in_time(prompt: Prompt, client: Any) -> None:
    prompt.server.answer(Reply([BEGUN, 30.0]))
    asked = time.monotonic()
    with fails(RemoteError, "model-stalled", "0.5 s, after 3 pieces"):
        for number, _ in enumerate(client(idle_seconds=0.5).stream({"messages": []})):
            if number == 1:
                time.sleep(1.0)
                asked = time.monotonic()
    assert 0.4 < time.monotonic() - asked < 10


@pytest.mark.parametrize("waits", ["response.created", "response.queued", "response.in_progress"])
def test_a_confirmed_request_may_wait_long_for_its_first_token(prompt: Prompt, client: Any, waits: str) -> None:
    """vLLM's Responses API confirms the request at once, long before the first token."""
    arrived = sse({"type": waits, "response": {"status": "in_progress"}}, done=False)
    token = sse({"type": "response.output_text.delta", "delta": "Here"}, done=False)
    prompt.server.answer(Reply([arrived, 1.0, token, 30.0]))
    stream = client(idle_seconds=0.3, api="responses").stream({"input": []})
    assert [next(stream)["type"], next(stream)["type"]] == [waits, "response.output_text.delta"]
    with fails(RemoteError, "model-stalled", "0.3 s, after 2 pieces"):
        next(stream)


@pytest.mark.parametrize("pieces", [[], [sse({"type": "response.created"}, done=False)]], ids=["nothing", "the news"])
def test_a_model_that_sends_no_first_token_fails(
    prompt: Prompt, client: Any, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes | float]
) -> None:
    monkeypatch.setattr("pi.prompt.client.FIRST_TOKEN_SECONDS", 0.5)
    prompt.server.answer(Reply([*pieces, 30.0]))
    with fails(RemoteError, "first-token-timeout", "0.5 s"):
        list(client(idle_seconds=0.1, api="responses").stream({"input": []}))


def test_the_idle_timeout_may_exceed_the_first_token_timeout(
    prompt: Prompt, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pi.prompt.client.FIRST_TOKEN_SECONDS", 0.5)
    prompt.server.answer(Reply([BEGUN, 1.0, sse(delta("stop"), done=False), 30.0]))
    with fails(RemoteError, "model-stalled", "2 s, after 4 pieces"):
        list(client(idle_seconds=2.0).stream({"messages": []}))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_closed_port_is_unreachable(prompt: Prompt, listener: socket.socket) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    listener.close()
    failure = failure_of(prompt, base_url=url)
    assert isinstance(failure, UnreachableError)
    assert failure.id == "endpoint-unreachable"
    assert f"{url}: " in failure.message


def hung_up(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            """Ignore the request."""


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 two hundred\r\n"])
def test_a_server_that_hangs_up_or_speaks_no_http_fails(prompt: Prompt, listener: socket.socket, answer: bytes) -> None:
    threading.Thread(target=hung_up, args=(listener, answer), daemon=True).start()
    failure = failure_of(
        prompt, base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", last_log_line=lambda: "bye"
    )
    assert failure.id == "endpoint-hung-up"
    assert (failure.hint or "").endswith(": bye")


def test_an_answer_cut_in_its_headers_is_incomplete(prompt: Prompt, listener: socket.socket) -> None:
    threading.Thread(target=hung_up, args=(listener, b"HTTP/1.1 200"), daemon=True).start()
    failure = failure_of(prompt, base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    assert failure.id == "model-died"
    assert failure.message.endswith("after 0 pieces")


def test_the_hint_for_a_silent_model_has_its_state_and_log(prompt: Prompt, listener: socket.socket) -> None:
    address = listener.getsockname()
    listener.close()
    asked = {"dial": lambda: socket.create_connection(address), "state": lambda: "crashed at 14:03, exit 1"}
    failure = failure_of(prompt, **asked, last_log_line=lambda: "bye")
    assert failure.id == "model-silent"
    assert failure.hint == "its state: crashed at 14:03, exit 1; the last line of its log: bye"


def test_ctrl_c_while_pi_reads_the_models_state_stops_pi(prompt: Prompt, listener: socket.socket) -> None:
    address = listener.getsockname()
    listener.close()

    def state() -> str:
        raise Interrupted("interrupted", "interrupted")

    with pytest.raises(Interrupted):
        prompt("x", endpoint=prompt.endpoint(dial=lambda: socket.create_connection(address), state=state))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8001",
        "ftp://host/v1",
        "http://",
        "http:///v1",
        "http://h:99999/v1",
        "http://h x/v1",
        "http://h\n/v1",
        "http://a..b/v1",
    ],
)
def test_an_invalid_base_url_fails(prompt: Prompt, url: str) -> None:
    with fails(InputError, "base-url-invalid"):
        prompt("x", endpoint=prompt.endpoint(base_url=url))


@pytest.mark.parametrize("key", ["schlüssel", "key\n", "two words", "\x7f"])
def test_an_invalid_key_fails_and_is_not_shown(prompt: Prompt, key: str) -> None:
    with fails(InputError, "api-key-invalid") as raised:
        prompt("x", endpoint=prompt.endpoint(api_key=key))
    assert key not in raised.value.render()


def test_an_endpoint_without_a_key_gets_a_placeholder(prompt: Prompt) -> None:
    prompt.server.answer(says("x"))
    prompt("x", endpoint=prompt.endpoint(api_key=""))
    assert prompt.server.requests[0].headers["authorization"] == "Bearer none"


def test_the_environment_does_not_change_the_request(
    prompt: Prompt, listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("OPENAI_API_KEY", "another-key")
    monkeypatch.setenv("OPENAI_BASE_URL", proxy)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-mine")
    prompt.server.answer(says("x"))
    assert prompt("x").code == 0
    headers = prompt.server.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert "of-mine" not in str(headers)
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error":"Unauthorized"}', "Unauthorized"),
        ('{"error":{"message":"boom"}}', "boom"),
        ('{"message":"boom"}', "boom"),
        ('{"error":{}}', "no reason given"),
        ("[]", "no reason given"),
        ("[[[", "[[["),
        ("boom\r\n\x1b[2Jagain", "boom again"),
        ("[" * 100_000, "[" * 399 + "…"),
        ('{"error":"' + "x" * 1000 + '"}', "x" * 399 + "…"),
    ],
)
def test_error_bodies_become_one_line(body: str, words: str) -> None:
    assert server_words(body) == words


def test_refusals_carry_exit_code_1() -> None:
    assert {refused(status, "", "m", of_pod=True).exit_code for status in (302, 400, 401, 403, 404, 429, 500)} == {1}


def test_only_preload_imports_the_sdk() -> None:
    code = (
        "import sys, pi.prompt.client as p; assert 'openai' not in sys.modules and 'httpx2' not in sys.modules;"
        "p.preload().join(); assert 'openai' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_a_conversation_may_begin_during_the_preload(prompt: Prompt) -> None:
    """Python's import lock makes the second import wait for the first."""
    code = f"""
import gc, io, sys
from pathlib import Path
from pi.prompt.endpoint import Endpoint
from pi.prompt.conversation import Options, run
from pi.prompt.client import preload
loading = preload()
out = io.StringIO()
run(Endpoint({prompt.server.url!r}, "m", "k"), ["x"], Options(output="quiet"), config_dir=Path({str(prompt.config_dir)!r}),
    working_dir=Path({str(prompt.working_dir)!r}), stdin=sys.stdin, stdout=out, stderr=sys.stderr)
assert out.getvalue() == "Hello\\n", out.getvalue()
loading.join()
assert gc.isenabled() and gc.get_freeze_count() > 100_000, "the SDK's classes are looked through again and again"
assert not [name for name in sys.modules if name.startswith("openai.resources.chat.")], "types that no request needs"
"""
    prompt.server.answer(says("Hello"))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
