"""Small files from the web: what is cut off, too large or not there, by a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pi import web
from pi.errors import RemoteError


@contextmanager
def serving(body: bytes, status: int = 200, promised: int | None = None) -> Iterator[str]:
    """Yield the address of a server that gives this body, and may promise more bytes than it sends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(promised or len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def test_a_file_is_fetched_whole() -> None:
    with serving(b"x" * 200_000) as url:
        assert web.fetch(url, 200_000) == b"x" * 200_000


def test_a_file_that_the_server_lacks_is_none() -> None:
    with serving(b"no", 404) as url:
        assert web.fetch(url, 100) is None


@pytest.mark.parametrize(
    ("body", "status", "promised", "failure"),
    [
        (b"half", 200, 100, "download-failed"),
        (b"broken", 500, None, "download-failed"),
        (b"x" * 101, 200, None, "download-too-large"),
    ],
    ids=["cut off", "refused", "too large"],
)
def test_a_failed_download_says_why(body: bytes, status: int, promised: int | None, failure: str) -> None:
    with serving(body, status, promised) as url, pytest.raises(RemoteError) as error:
        web.fetch(url, 100)
    assert error.value.id == failure


def test_a_closed_port_is_a_failed_download_and_no_answer() -> None:
    with serving(b"") as url:
        assert web.answers(url)
    with pytest.raises(RemoteError) as error:
        web.fetch(url, 100)
    assert error.value.id == "download-failed" and not web.answers(url)


def test_only_this_machine_may_send_files_without_tls() -> None:
    with pytest.raises(RemoteError) as error:
        web.fetch("http://192.0.2.1/models.toml", 100)
    assert error.value.id == "download-not-https"
