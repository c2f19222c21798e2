"""The door before servers on this machine: routes, keys, headers, streams."""

from __future__ import annotations

import json
import socket
import stat
import threading
from contextlib import closing

import openai
import pytest

from tests.rig.pod import until
from tests.rig.sshd import free_port
from tests.unit.door.conftest import CHAT, PODS_KEY, Handler, Rig

ASK = {"model": "qwen", "messages": [{"role": "user", "content": "hi"}]}


def test_the_server_gets_the_pods_key_and_only_headers_without_the_clients(rig: Rig) -> None:
    backend = rig.backend()
    rig.knows(dc1={"qwen": backend})
    body = b'{"model": "qwen",  "n": 1.50, "stream": false}'
    secrets = {"X-Api-Key": rig.key, "Cookie": rig.key, "Api-Key": rig.key, "X-Goog-Api-Key": rig.key}
    answer = rig.ask(f"{CHAT}?beta=true", body, headers={**secrets, "Anthropic-Version": "2023-06-01"})
    assert (answer.status, answer.body) == (200, b'{"object": "chat.completion"}')
    assert "set-cookie" not in answer.headers and "server" not in answer.headers
    [got] = backend.got
    assert got.path == f"{CHAT}?beta=true" and got.body == body
    assert got.headers["authorization"] == f"Bearer {PODS_KEY}"
    assert got.headers["anthropic-version"] == "2023-06-01" and got.headers["host"] == "127.0.0.1"
    assert rig.key not in str(got) and PODS_KEY not in str(answer)
    key_file = rig.config / "door" / "key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600 and key_file.read_text().strip() == rig.key


@pytest.mark.parametrize(
    "path",
    [CHAT, "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/embeddings",
     "/v1/rerank", "/v1/score", "/classify", "/pooling"],
)  # fmt: skip
def test_each_route_reaches_the_model_of_the_body(rig: Rig, path: str) -> None:
    one, other = rig.backend(), rig.backend()
    rig.knows(dc1={"qwen": one}, dc2={"kimi": other})
    assert rig.ask(path, ASK | {"model": "kimi"}).status == 200
    assert not one.got and [got.path for got in other.got] == [path]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer KEY"}, 200),
        ({"authorization": "bearer KEY"}, 200),
        ({"AUTHORIZATION": "BEARER   KEY"}, 200),
        ({"X-API-Key": "KEY"}, 200),
        ({"Authorization": "Bearer wrong", "x-api-key": "KEY"}, 200),
        ({"Authorization": f"Bearer {PODS_KEY}"}, 200),
        ({}, 401),
        ({"Authorization": "KEY"}, 401),
        ({"Authorization": "Basic KEY"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"x-api-key": ""}, 401),
        ({"x-api-key": "KEY2"}, 401),
        ({"Cookie": "KEY"}, 401),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/door", "/nothing"])
def test_every_route_needs_the_key(rig: Rig, path: str, headers: dict[str, str], status: int) -> None:
    rig.knows(dc1={"qwen": 1})
    headers = {name: value.replace("KEY", rig.key) for name, value in headers.items()}
    answer = rig.ask(path, headers=headers, key=None)
    assert answer.status == (404 if path == "/nothing" and status == 200 else status)
    if status == 401:
        assert answer.error["code"] == "invalid_api_key" and answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({"Host": "127.0.0.1:4000"}, True),
        ({"Host": "LocalHost"}, True),
        ({"Host": "[::1]:4000"}, True),
        ({"Host": "evil.example:4000"}, False),
        ({"Host": "127.0.0.1.evil.example"}, False),
        ({"Host": "192.168.1.9:4000"}, False),
        ({"Host": "localhost@evil.example"}, False),
        ({"Host": ""}, False),
        ({"Host": "[::1"}, False),
        ({"Origin": "http://localhost:3000"}, True),
        ({"Origin": "http://127.0.0.1:4000"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "file://localhost"}, False),
    ],
)
def test_pages_of_other_sites_are_kept_out(rig: Rig, headers: dict[str, str], is_let_in: bool) -> None:
    rig.knows(dc1={"qwen": 1})
    assert rig.ask("/v1/models", headers=headers).status == (200 if is_let_in else 403)


def test_a_request_with_two_hosts_is_refused(rig: Rig) -> None:
    with socket.create_connection(("127.0.0.1", rig.port)) as line:
        line.sendall(
            f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nx-api-key: {rig.key}\r\n\r\n".encode()
        )
        assert line.recv(100).split()[1] in (b"400", b"403")


def test_models_are_listed_by_their_names(rig: Rig) -> None:
    rig.knows(dc1={"qwen": {"adapters": ["sql"]}, "kimi": 2}, dc2={"qwen": 3, "glm": {"status": "starting"}})
    listed = rig.ask("/v1/models").json
    assert listed["object"] == "list"
    assert [(each["id"], each["state"]) for each in listed["data"]] == [
        ("dc1/qwen", "running"),
        ("sql", "running"),
        ("kimi", "running"),
        ("dc2/qwen", "running"),
        ("glm", "starting"),
    ]
    assert rig.ask("/v1/models/dc2/qwen").json["id"] == "dc2/qwen"
    assert rig.ask("/v1/models/gone").status == 404


@pytest.mark.parametrize(
    ("wanted", "place", "sent"),
    [
        ("qwen", 0, "qwen"),
        ("dc1/qwen", 0, "qwen"),
        ("dc2/qwen", 1, "qwen"),
        ("org/qwen-8b", 0, "qwen"),
        ("sql", 1, "sql"),
        ("dc2/sql", 1, "sql"),
    ],
)
def test_a_model_is_found_by_name_pod_or_id(rig: Rig, wanted: str, place: int, sent: str) -> None:
    servers = rig.backend(), rig.backend()
    rig.knows(dc1={"qwen": servers[0]}, dc2={"qwen": {"port": servers[1].port, "adapters": ["sql"]}})
    assert rig.ask(CHAT, ASK | {"model": wanted}).status == 200
    [got] = servers[place].got
    assert json.loads(got.body) == ASK | {"model": sent}
    assert not servers[1 - place].got


def test_an_unknown_model_is_a_404_in_the_shape_of_its_api(rig: Rig) -> None:
    rig.knows(dc1={"qwen": 1, "kimi": 2})
    answer = rig.ask(CHAT, ASK | {"model": "gpt-5"})
    message = "no model 'gpt-5'; the door has qwen, kimi"
    assert answer.status == 404 and answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "error": {"message": message, "type": "not_found_error", "param": "model", "code": "model_not_found"}
    }
    answer = rig.ask("/v1/messages?beta=true", ASK | {"model": "gpt-5"})
    assert answer.status == 404
    assert answer.json == {"type": "error", "error": {"type": "not_found_error", "message": message}}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"[]", "model_missing"),
        (b"{}", "model_missing"),
        (b'{"model": 7}', "model_missing"),
    ],
)
def test_a_body_that_names_no_model_is_refused(rig: Rig, body: bytes, code: str) -> None:
    answer = rig.ask(CHAT, body)
    assert (answer.status, answer.error["code"]) == (400, code)


def test_methods_and_routes_that_the_door_lacks_are_refused(rig: Rig) -> None:
    assert rig.ask(CHAT).status == 405
    assert rig.ask("/v1/audio/transcriptions", {}).error["code"] == "unknown_route"
    assert rig.ask("/v1/models", method="OPTIONS", key=None).status == 401


def test_errors_of_the_server_pass_as_they_are_except_of_its_key(rig: Rig) -> None:
    backend = rig.backend()
    rig.knows(dc1={"qwen": backend})
    backend.answer = lambda handler: handler.reply(400, b'{"error": {"message": "too long"}}')
    answer = rig.ask(CHAT, ASK)
    assert (answer.status, answer.body) == (400, b'{"error": {"message": "too long"}}')
    backend.answer = lambda handler: handler.reply(401, b'{"error": "Unauthorized"}')
    answer = rig.ask(CHAT, ASK)
    assert (answer.status, answer.error["code"]) == (502, "pod_key_rejected")


def test_a_server_that_does_not_listen_is_a_503(rig: Rig) -> None:
    rig.knows(dc1={"qwen": free_port()})
    answer = rig.ask(CHAT, ASK)
    assert (answer.status, answer.error["code"]) == (503, "model_not_running")


def test_pieces_of_a_stream_arrive_as_they_come(rig: Rig) -> None:
    backend, go_on = rig.backend(), threading.Event()

    def answer(handler: Handler) -> None:
        handler.begin_stream()
        for piece in (b"data: 1\n", b"\ndata: \xc3", b"\xa9\n\n"):
            handler.write(piece)
            assert go_on.wait(10)
            go_on.clear()
        handler.write(b"")

    backend.answer = answer
    rig.knows(dc1={"qwen": backend})
    with closing(rig.connect()) as connection:
        connection.request("POST", CHAT, json.dumps(ASK | {"stream": True}), {"x-api-key": rig.key})
        reply = connection.getresponse()
        assert reply.getheader("content-type") == "text/event-stream; charset=utf-8"
        for piece in (b"data: 1\n", b"\ndata: \xc3", b"\xa9\n\n"):
            assert reply.read1() == piece
            go_on.set()
        assert reply.read() == b""


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
def test_a_stream_that_breaks_ends_with_an_error_event(rig: Rig, path: str) -> None:
    backend = rig.backend()

    def answer(handler: Handler) -> None:
        handler.begin_stream()
        handler.write(b"data: half")
        handler.close_connection = True

    backend.answer = answer
    rig.knows(dc1={"qwen": backend})
    answered = rig.ask(path, ASK | {"stream": True})
    first, rest = answered.body.split(b"\n\nevent: error\ndata: ")
    assert first == b"data: half"
    event = json.loads(rest)
    assert event["type"] == "error" and "the connection to qwen on dc1 broke" in event["error"]["message"]


def test_a_client_that_leaves_ends_its_request_at_the_server(rig: Rig) -> None:
    backend, left = rig.backend(), threading.Event()

    def answer(handler: Handler) -> None:
        handler.connection.recv(1)
        left.set()

    backend.answer = answer
    rig.knows(dc1={"qwen": backend})
    connection = rig.connect()
    connection.request("POST", CHAT, json.dumps(ASK), {"x-api-key": rig.key})
    assert until(lambda: bool(backend.got))
    connection.close()
    assert left.wait(10)


def test_connections_to_a_server_are_used_again(rig: Rig) -> None:
    backend = rig.backend()
    rig.knows(dc1={"qwen": backend})
    ports = set()

    def answer(handler: Handler) -> None:
        ports.add(handler.client_address)
        handler.reply(200, b"{}")

    backend.answer = answer
    assert [rig.ask(CHAT, ASK).status for _ in range(3)] == [200] * 3
    assert len(ports) == 1


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_openais_client_reads_the_doors_errors(rig: Rig, api: str) -> None:
    backend = rig.backend()

    def answer(handler: Handler) -> None:
        handler.begin_stream()
        handler.write(b'data: {"choices": [], "type": "response.created"}\n\n')
        handler.close_connection = True

    backend.answer = answer
    rig.knows(dc1={"qwen": backend})
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{rig.port}/v1", api_key=rig.key, max_retries=0)

    def ask(model: str) -> list[object]:
        if api == "chat":
            return list(client.chat.completions.create(model=model, messages=[], stream=True))
        return list(client.responses.create(model=model, input="hi", stream=True))

    with client:
        with pytest.raises(openai.NotFoundError, match="no model 'gpt-5'; the door has qwen"):
            ask("gpt-5")
        with pytest.raises(openai.APIError, match="the connection to qwen on dc1 broke"):
            ask("qwen")
        with pytest.raises(openai.AuthenticationError, match="the door needs its key"):
            client.with_options(api_key="wrong").models.list()
