"""What goes wrong between here and the model, over real HTTP: each cause has its own words."""

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
from tests.unit.prompt.conftest import KEY, Prompt, Reply, delta, error, says, sse

OVER = "This model's maximum context length is 2048 tokens. However, "


def told(prompt: Prompt, *replies: Reply, **endpoint: Any) -> PiError:
    """The error that one message ends in; the events tell the same."""
    prompt.server.answer(*replies)
    with pytest.raises(PiError) as raised:
        prompt("x", output="terminal", endpoint=prompt.endpoint(**endpoint))
    return raised.value


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        pytest.param(
            error(401, {"error": "Unauthorized"}),
            "the endpoint refuses the API key (401): it differs from the one m was started with",
            id="vLLM's 401, whose error is text",
        ),
        pytest.param(
            error(404, {"error": {"message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404}}),
            "the endpoint serves no model 'm': The model `m` does not exist.",
            id="another model",
        ),
        pytest.param(error(404, {"detail": "Not Found"}), "the endpoint has no such route (404)", id="another path"),
        pytest.param(
            error(400, {"error": {"message": "temperature must be non-negative", "code": 400}}),
            "the endpoint refuses the request (400): temperature must be non-negative",
            id="a bad request",
        ),
        pytest.param(
            error(422, {"detail": [{"loc": ["body"], "msg": "field required"}]}),
            "the endpoint refuses the request (422): field required",
            id="FastAPI's own shape",
        ),
        pytest.param(
            error(500, {"object": "error", "message": "EngineCore died", "code": 500}),
            "the model's server failed (500): EngineCore died",
            id="an older vLLM's shape",
        ),
        pytest.param(
            error(502, b"<html><style>p{}</style><h1>502\x1b]0;x\x07 Bad\xc2\x9b2J Gateway</h1></html>"),
            "the model's server failed (502): 502 Bad2J Gateway",
            id="a page with escapes",
        ),
        pytest.param(error(503, b""), "the model's server failed (503): it does not say why", id="nothing at all"),
        pytest.param(
            Reply([], status=307, headers={"Location": "http://evil.example/v1"}),
            "the endpoint answers with a redirect (307), and pi takes its key nowhere else",
            id="a redirect",
        ),
    ],
)
def test_a_refusal_names_its_cause(prompt: Prompt, reply: Reply, message: str) -> None:
    assert told(prompt, reply).message == message
    assert len(prompt.server.requests) == 1, "nothing is sent twice"


def test_a_refused_key_is_the_one_that_was_sent(prompt: Prompt) -> None:
    denied = error(401, {"error": "Unauthorized"})
    line = prompt.server.address
    of_pod = told(prompt, denied, dial=lambda: socket.create_connection(line))
    assert "PI_API_KEY" in (of_pod.hint or "")
    assert told(prompt, denied).hint == "set OPENAI_API_KEY, or the variable that --api-key-env names, to that key"


def test_a_refusal_is_read_no_further_than_it_is_shown(prompt: Prompt) -> None:
    endless = Reply([b"x" * 65536] * 2000, status=500)
    assert len(told(prompt, endless).message) < 500


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (OVER + "your prompt contains 2100 input tokens, which exceeds this limit even without any output tokens.", 52),
        (OVER + "you requested 3000 tokens (2500 in the messages, 500 in the completion).", 952),
        ("Input length (2100) exceeds model's maximum context length (2048).", 52),
        ("The decoder prompt (length 2100) is longer than the maximum model length of 2048. Make sure", 52),
        ("request (2100 tokens) exceeds the available context size (2048 tokens), try increasing it", 52),
        (OVER + "your messages resulted in 12,049 tokens.", 10_001),
    ],
)
def test_an_overflow_says_by_how_much(words: str, message: int) -> None:
    overflow = described(words, 400)
    assert isinstance(overflow, ContextOverflowError)
    assert overflow.exact
    assert overflow.message == f"the conversation is {message:,} tokens over the model's context of 2,048"


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (OVER + "your prompt contains at least 2049 input tokens, which", "the conversation is at least 1 token over"),
        (OVER + "your prompt contains 50000 characters (more than 30000 characters", "the conversation is longer"),
        ("the request exceeds the available context size. try increasing", "the conversation is longer"),
        ("Your input exceeds the context window of this model.", "the conversation is longer"),
    ],
)
def test_an_overflow_without_a_figure_says_what_it_knows(words: str, begins: str) -> None:
    overflow = described(words, 400)
    assert isinstance(overflow, ContextOverflowError)
    assert not overflow.exact
    assert overflow.message.startswith(begins)


def test_an_overflow_without_a_figure_is_counted_by_the_server(prompt: Prompt) -> None:
    vague = OVER + "your prompt contains at least 2049 input tokens, which exceeds this limit"
    counted = Reply([b'{"count": 5048, "max_model_len": 2048, "tokens": []}'], content_type="application/json")
    overflow = told(prompt, error(400, {"error": {"message": vague, "code": 400}}), counted)
    assert overflow.message == "the conversation is 3,000 tokens over the model's context of 2,048"
    request = prompt.server.requests[-1]
    assert request.path == "/tokenize"
    assert [message["role"] for message in request.body["messages"]] == ["system", "user"]
    assert len(request.body["tools"]) == 4


def test_an_overflow_that_cannot_be_counted_is_told_as_it_is(prompt: Prompt) -> None:
    vague = OVER + "your prompt contains at least 2049 input tokens, which exceeds this limit"
    refusal = error(400, {"error": {"message": vague, "code": 400}})
    assert "at least 1 token over" in told(prompt, refusal, error(404, {"detail": "Not Found"})).message


BEGUN = sse(delta(role="assistant", content=""), delta(content="Once"), delta(content=" upon"), done=False)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        pytest.param(
            Reply([BEGUN], whole=False),
            "the model died while it answered: the connection closed after 3 pieces",
            id="the connection is cut",
        ),
        pytest.param(
            Reply([BEGUN]),
            "the model died while it answered: the connection closed after 2 pieces",
            id="the stream ends too early",
        ),
        pytest.param(
            Reply([BEGUN, sse({"error": {"message": "EngineCore encountered an issue.", "code": 500}})]),
            "the model's server failed (500): EngineCore encountered an issue.",
            id="an error in the stream",
        ),
        pytest.param(
            Reply([BEGUN, sse({"object": "error", "message": "out of memory", "code": 500})]),
            "the model's server failed (500): out of memory",
            id="an older error in the stream",
        ),
        pytest.param(
            Reply([sse(delta(content="Once"), done=False)], whole=False),
            "the model died while it answered: the connection closed after 1 piece",
            id="the connection is cut after one piece",
        ),
        pytest.param(
            Reply([sse(delta(content="Once"), done=False)]),
            "the model died while it answered: the connection closed after 1 piece",
            id="the stream ends after one piece",
        ),
        pytest.param(
            Reply([], whole=False),
            "the model died while it answered: the connection closed after 0 pieces",
            id="nothing comes after the headers",
        ),
    ],
)
def test_a_model_that_dies_in_an_answer_shows_the_last_line_of_its_log(
    prompt: Prompt, reply: Reply, message: str
) -> None:
    log = "ERROR \x1b[31mtorch.OutOfMemoryError: CUDA out of memory\x1b[0m\n"
    failure = told(prompt, reply, last_log_line=lambda: log)
    assert failure.message == message
    assert failure.hint == "the last line of its log: ERROR torch.OutOfMemoryError: CUDA out of memory"


def test_a_log_that_is_out_of_reach_explains_why_nothing_came(prompt: Prompt) -> None:
    def lost() -> str:
        raise UnreachableError("x", "the connection was lost")

    prompt.server.answer(Reply([BEGUN], whole=False))
    with pytest.raises(UnreachableError, match="the connection to the pod was lost \\(the model died while"):
        prompt("hi", endpoint=prompt.endpoint(last_log_line=lost))


@pytest.mark.parametrize("last_log_line", [None, lambda: None, lambda: 1 / 0])
def test_without_a_log_there_is_no_last_line(prompt: Prompt, last_log_line: Any) -> None:
    assert told(prompt, Reply([BEGUN], whole=False), last_log_line=last_log_line).hint is None


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "message": "boom", "code": 500},
        {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "boom"}}},
        {"error": {"message": "boom", "type": "InternalServerError", "code": 500}},
    ],
)
def test_a_response_that_fails_in_the_stream_is_told(prompt: Prompt, event: dict[str, Any]) -> None:
    failure = told(prompt, Reply([sse(event, done=False)]), api="responses")
    assert failure.message == "the model's server failed (500): boom"


def test_what_is_no_json_is_named(prompt: Prompt) -> None:
    assert "no JSON object: <h1>" in told(prompt, Reply([b"data: <h1>\x1b[2J\n\n"])).message


def test_a_stream_that_stalls_is_given_up(prompt: Prompt, client: Any) -> None:
    prompt.server.answer(Reply([BEGUN, 3.0, sse(delta("stop"))]))
    with pytest.raises(RemoteError, match=r"nothing came for 0\.3 s, after 3 pieces"):
        list(client(idle_seconds=0.3).stream({"messages": []}))


def test_a_long_prompt_is_waited_for(prompt: Prompt, client: Any) -> None:
    prompt.server.answer(Reply([0.5, *says("Here").pieces]))
    assert len(list(client(idle_seconds=0.2).stream({"messages": []}))) == 5


def test_a_slow_stream_is_no_stall(prompt: Prompt, client: Any) -> None:
    prompt.server.answer(Reply(steady(8)))
    assert len(list(client(idle_seconds=0.3).stream({"messages": []}))) == 10


def steady(count: int) -> list[bytes | float]:
    """So many pieces, one every 0.1 s, and the end."""
    pieces: list[bytes | float] = []
    for _ in range(count):
        pieces += [sse(delta(content="a"), done=False), 0.1]
    return [*pieces, sse(delta("stop"))]


def test_a_reader_that_pauses_gets_the_whole_answer(prompt: Prompt, client: Any) -> None:
    """As a terminal that Ctrl+S holds, or a pager: what came meanwhile was not looked at."""
    prompt.server.answer(Reply(steady(8)))
    items = []
    for item in client(idle_seconds=0.3).stream({"messages": []}):
        items.append(item)
        if len(items) in (1, 4):
            time.sleep(1.0)
    assert len(items) == 10


def test_a_stall_after_a_pause_of_the_reader_is_told_as_soon_as_any(prompt: Prompt, client: Any) -> None:
    prompt.server.answer(Reply([BEGUN, 30.0]))
    asked = time.monotonic()
    with pytest.raises(RemoteError, match=r"nothing came for 0\.5 s, after 3 pieces"):
        for number, _ in enumerate(client(idle_seconds=0.5).stream({"messages": []})):
            if number == 1:
                time.sleep(1.0)
                asked = time.monotonic()
    assert 0.4 < time.monotonic() - asked < 10


@pytest.mark.parametrize("waits", ["response.created", "response.queued", "response.in_progress"])
def test_a_long_prompt_is_waited_for_after_the_news_that_it_has_arrived(
    prompt: Prompt, client: Any, waits: str
) -> None:
    """vLLM's Responses API tells of the request at once, and of its first token when there is one."""
    arrived = sse({"type": waits, "response": {"status": "in_progress"}}, done=False)
    token = sse({"type": "response.output_text.delta", "delta": "Here"}, done=False)
    prompt.server.answer(Reply([arrived, 1.0, token, 30.0]))
    stream = client(idle_seconds=0.3, api="responses").stream({"input": []})
    assert [next(stream)["type"], next(stream)["type"]] == [waits, "response.output_text.delta"]
    with pytest.raises(RemoteError, match=r"nothing came for 0\.3 s, after 2 pieces"):
        next(stream)


@pytest.mark.parametrize("pieces", [[], [sse({"type": "response.created"}, done=False)]], ids=["nothing", "the news"])
def test_a_model_that_never_says_its_first_token_is_given_up(
    prompt: Prompt, client: Any, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes | float]
) -> None:
    monkeypatch.setattr("pi.prompt.client.FIRST_TOKEN_SECONDS", 0.5)
    prompt.server.answer(Reply([*pieces, 30.0]))
    with pytest.raises(RemoteError, match=r"the model gave no answer for 0\.5 s"):
        list(client(idle_seconds=0.1, api="responses").stream({"input": []}))


def test_a_pause_may_be_granted_that_is_longer_than_the_wait_for_the_first_token(
    prompt: Prompt, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pi.prompt.client.FIRST_TOKEN_SECONDS", 0.5)
    prompt.server.answer(Reply([BEGUN, 1.0, sse(delta("stop"), done=False), 30.0]))
    with pytest.raises(RemoteError, match=r"nothing came for 2 s, after 4 pieces"):
        list(client(idle_seconds=2.0).stream({"messages": []}))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_port_where_nothing_listens(prompt: Prompt, listener: socket.socket) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    listener.close()
    failure = told(prompt, base_url=url)
    assert isinstance(failure, UnreachableError)
    assert failure.message.startswith(f"nothing answers at {url}: ")


def hung_up(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            """What was asked does not matter."""


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 two hundred\r\n"])
def test_a_server_that_hangs_up_or_is_no_web_server(prompt: Prompt, listener: socket.socket, answer: bytes) -> None:
    threading.Thread(target=hung_up, args=(listener, answer), daemon=True).start()
    failure = told(prompt, base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", last_log_line=lambda: "bye")
    assert failure.message.startswith("the endpoint hung up before it answered: ")
    assert failure.hint == "the last line of its log: bye"


def test_an_answer_that_is_cut_in_its_head_is_no_whole_answer(prompt: Prompt, listener: socket.socket) -> None:
    threading.Thread(target=hung_up, args=(listener, b"HTTP/1.1 200"), daemon=True).start()
    failure = told(prompt, base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    assert failure.message == "the model died while it answered: the connection closed after 0 pieces"


def test_what_a_model_is_doing_is_told_when_it_does_not_answer(prompt: Prompt, listener: socket.socket) -> None:
    address = listener.getsockname()
    listener.close()
    asked = {"dial": lambda: socket.create_connection(address), "state": lambda: "crashed at 14:03, exit 1"}
    failure = told(prompt, **asked, last_log_line=lambda: "bye")
    assert failure.message.startswith("the model does not answer: ")
    assert failure.hint == "its state: crashed at 14:03, exit 1; the last line of its log: bye"


def test_a_stop_while_the_pod_is_asked_what_the_model_does_is_a_stop(prompt: Prompt, listener: socket.socket) -> None:
    address = listener.getsockname()
    listener.close()

    def state() -> str:
        raise Interrupted("x", "interrupted")

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
def test_what_is_no_base_url_is_refused(prompt: Prompt, url: str) -> None:
    with pytest.raises(InputError, match="is no base URL"):
        prompt("x", endpoint=prompt.endpoint(base_url=url))


@pytest.mark.parametrize("key", ["schlüssel", "key\n", "two words", "\x7f"])
def test_a_key_that_http_cannot_carry_is_refused_without_being_shown(prompt: Prompt, key: str) -> None:
    with pytest.raises(InputError, match="holds characters") as raised:
        prompt("x", endpoint=prompt.endpoint(api_key=key))
    assert key not in raised.value.render()


def test_an_endpoint_without_a_key_gets_a_placeholder(prompt: Prompt) -> None:
    prompt.server.answer(says("x"))
    prompt("x", endpoint=prompt.endpoint(api_key=""))
    assert prompt.server.requests[0].headers["authorization"] == "Bearer none"


def test_the_environment_neither_takes_the_key_elsewhere_nor_adds_to_the_request(
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
        ('{"error":{}}', "it does not say why"),
        ("[]", "it does not say why"),
        ("[[[", "[[["),
        ("boom\r\n\x1b[2Jagain", "boom again"),
        ("[" * 100_000, "[" * 399 + "…"),
        ('{"error":"' + "x" * 1000 + '"}', "x" * 399 + "…"),
    ],
)
def test_the_words_of_a_server(body: str, words: str) -> None:
    assert server_words(body) == words


def test_refusals_carry_exit_code_1() -> None:
    assert {refused(status, "", "m", of_pod=True).exit_code for status in (302, 400, 401, 403, 404, 429, 500)} == {1}


def test_importing_the_room_imports_no_sdk_and_preload_does() -> None:
    code = (
        "import sys, pi.prompt.client as p; assert 'openai' not in sys.modules and 'httpx2' not in sys.modules;"
        "p.preload().join(); assert 'openai' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_a_preload_may_still_run_when_the_conversation_begins(prompt: Prompt) -> None:
    """The import lock lets the second wait for the first."""
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
