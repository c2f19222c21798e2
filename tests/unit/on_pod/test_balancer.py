"""Other pods behind a real HAProxy: what a change of them does to requests that run."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from pi.on_pod import balancer, process, records
from pi.on_pod.record_shapes import Record
from pi.on_pod.scale_shapes import Elsewhere
from pi.on_pod.wire import PodError
from tests.rig import machine
from tests.rig.pod import until
from tests.rig.sshd import free_port
from tests.unit.on_pod.conftest import Wire

NAME = "qwen"


class Replicas(BaseHTTPRequestHandler):
    """The address of another pod; a POST is answered when the test allows it."""

    may_end = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"begin")
        self.wfile.flush()
        assert self.may_end.wait(20)
        self.wfile.write(b"- end")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def other() -> Iterator[int]:
    """The port of another pod with replicas."""
    Replicas.may_end.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Replicas)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_address[1]
    Replicas.may_end.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def port(home: Path) -> Iterator[int]:
    """The port of an endpoint without replicas of its own."""
    port = free_port()
    record: Record = {
        "name": NAME,
        "model": "org/m",
        "port": port,
        "gpus": [],
        "status": "running",
        "instance": "d81ea378b66584d1",
        "boot_id": process.boot_id(),
        "replicas": [],
        "private": True,
    }
    template = Path(balancer.__file__).parents[1] / "setup" / "templates" / "haproxy.cfg"
    records.write(NAME, "haproxy.head", template.read_text())
    records.write(NAME, "key", "k")
    balancer.write_files(record, "haproxy", "k")
    words = [machine.program("haproxy"), "-db", "-f", "haproxy.cfg"]
    environment = {**os.environ, "PI_BIND": f"127.0.0.1:{port}"}
    with subprocess.Popen(
        words, cwd=records.folder(NAME), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        try:
            seen = process.stat(running.pid)
            assert seen and until((Path(records.folder(NAME)) / "admin.sock").exists, 10)
            records.save({**record, "pid": running.pid, "started": seen[2]})
            yield port
        finally:
            running.kill()


def pod(name: str, port: int, replicas: int) -> Elsewhere:
    return {"pod": name, "address": "127.0.0.1", "port": port, "replicas": replicas}


def begun(port: int) -> Callable[[], bytes]:
    """Begin a request, and return how to read the rest of its answer."""
    reply = requests.post(f"http://127.0.0.1:{port}/", headers={"x-api-key": "k"}, stream=True, timeout=20)
    assert reply.raw.read(5) == b"begin"
    return lambda: bytes(reply.raw.read())


def ended(rest: Callable[[], bytes]) -> bytes:
    Replicas.may_end.set()
    return rest()


def test_a_pod_that_stays_keeps_its_requests(call: Wire, port: int, other: int) -> None:
    balancer.link(call, NAME, [pod("b", other, 1)])
    rest = begun(port)
    balancer.link(call, NAME, [pod("c", other, 1), pod("b", other, 3)])
    servers = balancer.servers(NAME)
    assert {name: each.state for name, each in servers.items()} == {"b": "UP", "c": "UP"}
    assert servers["b"].id != servers["c"].id and ended(rest) == b"- end"
    balancer.link(call, NAME, [pod("c", other, 1)])
    assert list(balancer.servers(NAME)) == ["c"] and balancer.pods_of(load()) == ["c"]


def test_a_pod_that_leaves_answers_its_requests_first(call: Wire, port: int, other: int) -> None:
    balancer.link(call, NAME, [pod("b", other, 1)])
    rest = begun(port)
    leaving = threading.Thread(target=balancer.link, args=(call, NAME, []))
    leaving.start()
    assert until(lambda: balancer.servers(NAME)["b"].state == "DRAIN", 5)
    time.sleep(0.2)
    assert leaving.is_alive() and ended(rest) == b"- end"
    leaving.join(10)
    assert not leaving.is_alive() and balancer.servers(NAME) == {}


def test_a_pod_that_does_not_answer_is_not_kept(
    call: Wire, port: int, other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer.link(call, NAME, [pod("b", other, 1)])
    monkeypatch.setattr(balancer, "UP_S", 1)
    with pytest.raises(PodError, match="c is ready, but HAProxy's check does not reach it"):
        balancer.link(call, NAME, [pod("b", other, 1), pod("c", free_port(), 1)])
    assert list(balancer.servers(NAME)) == ["b"] and balancer.pods_of(load()) == ["b"]


def test_a_pod_without_replicas_is_taken_out(call: Wire, port: int, other: int) -> None:
    balancer.link(call, NAME, [pod("b", other, 1), pod("c", other, 1)])
    balancer.unlink(NAME, "b")
    assert list(balancer.servers(NAME)) == ["c"] and balancer.pods_of(load()) == ["c"]
    configuration = Path(records.folder(NAME), "haproxy.cfg").read_text()
    assert "server c " in configuration and "server b " not in configuration
    balancer.unlink(NAME, "b")


def load() -> Record:
    found = records.load(NAME)
    assert found
    return found
