"""A tunnel to a pod, over a real sshd: whole streams, many at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pi.errors import UnreachableError
from pi.ssh import openssh, target
from pi.ssh.openssh import Way
from tests.rig.pod import Pod, kill
from tests.rig.sshd import free_port
from tests.ssh.conftest import NewPod

BLOCK = bytes(range(256)) * 1024


class _Blocks(socketserver.StreamRequestHandler):
    """Answers a line with the number of blocks that it contains."""

    def handle(self) -> None:
        for _ in range(int(self.rfile.readline() or 0)):
            self.wfile.write(BLOCK)


@pytest.fixture
def blocks() -> Iterator[int]:
    """The port of a server of blocks."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Blocks) as server:
        server.daemon_threads = True
        server.request_queue_size = 100
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(params=["60", "0"], ids=["warm", "cold"])
def way(pod: Pod, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """The way to a pod, with and without warm connections."""
    monkeypatch.setenv("PI_SSH_PERSIST", request.param)
    way = openssh.way_to(target.parse(pod.ssh), tmp_path / "pi")
    yield way
    way.close()


def digest(way: Way, port: int, count: int) -> str:
    """Return a hash of `count` blocks read through the tunnel."""
    with closing(way.dial(port)) as line:
        line.settimeout(60)
        line.sendall(b"%d\n" % count)
        whole = hashlib.sha256()
        while data := line.recv(1 << 18):
            whole.update(data)
    return whole.hexdigest()


def test_50_parallel_streams_arrive_whole(way: Way, blocks: int) -> None:
    digest(way, blocks, 1)  # later ones share its connection; sshd drops 50 logins at once
    with ThreadPoolExecutor(50) as pool:
        digests = list(pool.map(lambda _: digest(way, blocks, 4), range(50)))
    assert set(digests) == {hashlib.sha256(BLOCK * 4).hexdigest()}


@pytest.mark.core
def test_a_lost_connection_is_reopened(way: Way, pod: Pod, blocks: int) -> None:
    """As in a chat that continues after a night."""
    whole = hashlib.sha256(BLOCK).hexdigest()
    assert digest(way, blocks, 1) == whole
    for pid in pod.sessions():
        kill(pid)
    assert digest(way, blocks, 1) == whole
    way.close()
    assert digest(way, blocks, 1) == whole


@contextlib.contextmanager
def silenced(pod: Pod) -> Iterator[None]:
    """Silence the open connections, as a router does that has lost them."""
    sessions = pod.sessions()
    _signal(sessions, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(sessions, signal.SIGCONT)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


UPLOAD = bytes(16 * 2**20)
"""More than SSH's window of 2 MiB, pipes and TCP buffers hold."""


def test_a_dead_connection_is_replaced(way: Way, pod: Pod, blocks: int) -> None:
    whole = hashlib.sha256(BLOCK).hexdigest()
    assert digest(way, blocks, 1) == whole
    with silenced(pod):
        assert digest(way, blocks, 1) == whole


def test_a_dead_connection_is_left_to_those_who_use_it(way: Way, pod: Pod, blocks: int) -> None:
    with closing(way.dial(blocks)) as line:
        line.settimeout(60)
        with silenced(pod):
            assert digest(way, blocks, 1) == hashlib.sha256(BLOCK).hexdigest()
        line.sendall(b"1\n")
        assert line.recv(1) == BLOCK[:1]


@pytest.mark.parametrize("times", [1, 2])
def test_after_an_upload_stopped_by_ctrl_c_the_way_works(way: Way, pod: Pod, blocks: int, times: int) -> None:
    line = way.dial(blocks)
    main = threading.main_thread().ident or 0
    with silenced(pod):
        for at in range(times):
            threading.Timer(0.5 + at * 0.5, signal.pthread_kill, (main, signal.SIGINT)).start()
        for _ in range(times):
            with pytest.raises(KeyboardInterrupt):
                line.sendall(UPLOAD)
        line.close()
    assert digest(way, blocks, 1) == hashlib.sha256(BLOCK).hexdigest()


def test_a_stuck_upload_times_out(way: Way, pod: Pod, blocks: int) -> None:
    with closing(way.dial(blocks)) as line:
        line.settimeout(0.5)
        with silenced(pod), pytest.raises(TimeoutError):
            line.sendall(UPLOAD)
    assert digest(way, blocks, 1) == hashlib.sha256(BLOCK).hexdigest()


def test_an_unread_upload_fails_only_its_line(way: Way, blocks: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, closing(way.dial(deaf.getsockname()[1])) as line:
        line.settimeout(1)
        with pytest.raises(TimeoutError):
            line.sendall(UPLOAD)
    assert digest(way, blocks, 1) == hashlib.sha256(BLOCK).hexdigest()


def test_a_port_where_nothing_listens_is_refused(way: Way) -> None:
    with pytest.raises(ConnectionRefusedError, match="nothing listens on port"):
        way.dial(free_port())


def test_a_server_without_tunnels_is_named(new_pod: NewPod, tmp_path: Path) -> None:
    pod = new_pod(bare=True, options=("AllowTcpForwarding no",))
    way = openssh.way_to(target.parse(pod.ssh), tmp_path / "pi")
    with pytest.raises(UnreachableError) as refused:
        way.dial(free_port())
    assert refused.value.id == "tunnels-prohibited"
