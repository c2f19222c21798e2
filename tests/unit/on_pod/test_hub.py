"""The hub's token: where it goes if the hub redirects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from urllib.request import Request

import pytest

from pi.on_pod import hub
from tests.rig.answering import answering
from tests.rig.redirects import redirecting

FILE = {"/real/config.json": json.dumps({"a": 1}).encode()}
FROM = "/a/b/resolve/main/config.json"

MOVES = {
    "another path": ("/real/config.json", True),
    "the same address in full": ("http://{0}/real/config.json", True),
    "another port": ("http://{1}/real/config.json", False),
    "another host": ("http://{2}/real/config.json", False),
    "another host, by way of the first": ("http://{2}/back", False),
}


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_token", lambda: "hf_CANARY")


@pytest.mark.parametrize(("to", "keeps"), MOVES.values(), ids=MOVES)
def test_the_token_stays_with_the_host_that_was_asked(to: str, keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with redirecting({FROM: to, "/back": "http://{0}/real/config.json"}, FILE) as seen:
        monkeypatch.setenv("HF_ENDPOINT", f"http://{seen.hosts[0]}")
        assert hub.json_file("a/b", "config.json") == {"a": 1}
    first, *others = seen.authorizations.values()
    assert first == "Bearer hf_CANARY"
    assert others and set(others) == {"Bearer hf_CANARY" if keeps else None}


@pytest.mark.parametrize(
    ("old", "new", "keeps"),
    [
        ("https://h/a", "http://h/a", False),
        ("https://h/a", "https://h/b", True),
        ("http://h/a", "https://h/a", True),
        ("https://h/a", "https://h.evil/a", False),
        ("https://h/a", "https://h:444/a", False),
        ("https://h/a", "https://u@h/a", False),
    ],
)
def test_the_token_never_goes_from_https_to_http(old: str, new: str, keeps: bool) -> None:
    request = Request(old, headers={"Authorization": "Bearer x"})
    followed = hub.Redirects().redirect_request(request, None, 302, "Found", {}, new)
    assert followed is not None
    assert followed.has_header("Authorization") is keeps


@contextmanager
def saying(status: int) -> Iterator[str]:
    """Run a hub that answers every request with this status. Yields its address."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/api/whoami-v2" else 500)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(("status", "state"), [(200, "accepted"), (401, "rejected"), (503, "unknown")])
def test_the_hub_says_whether_it_accepts_the_token(status: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with saying(status) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert hub.token_state() == state
    assert hub.token_state() == "unknown"
    monkeypatch.setattr(hub, "_token", lambda: "")
    assert hub.token_state() == "none"


NOT_HTTP = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an endless header": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a size without an end": b'HTTP/1.1 200 OK\r\n\r\n{"siblings": [{"rfilename": "x", "size": 1e999}]}',
}


@pytest.mark.parametrize("answer", NOT_HTTP.values(), ids=NOT_HTTP)
def test_a_hub_that_speaks_no_http_tells_nothing(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(answer) as address:
        monkeypatch.setenv("HF_ENDPOINT", f"http://{address}")
        assert hub.weights_bytes("a/b") is None
        assert hub.describe("a/b").get("weights_bytes") is None
        assert hub.json_file("a/b", "config.json") is None or b"siblings" in answer
