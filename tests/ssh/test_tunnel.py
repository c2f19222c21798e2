"""The tunnel of a link, over a real sshd: whole streams, many at once, with renewed keys."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pi.errors import UnreachableError
from pi.ssh import connection, target
from pi.ssh.link import Link
from tests.rig.pod import Pod, kill, until
from tests.rig.sshd import free_port

BLOCK = bytes(range(256)) * 1024


class _Blocks(socketserver.StreamRequestHandler):
    """Answers a line with the number of blocks that it contains."""

    def handle(self) -> None:
        for _ in range(int(self.rfile.readline())):
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


@pytest.fixture
def link(pod: Pod, tmp_path: Path) -> Iterator[connection.SshLink]:
    link = connection.open_link(target.parse(pod.ssh), tmp_path / "known_hosts")
    assert isinstance(link, connection.SshLink)
    yield link
    link.close()


def digest(link: Link, port: int, count: int) -> str:
    """Return a hash of `count` blocks read through the tunnel."""
    with closing(link.dial(port)) as line:
        line.settimeout(60)
        line.sendall(b"%d\n" % count)
        whole = hashlib.sha256()
        while data := line.recv(1 << 18):
            whole.update(data)
    return whole.hexdigest()


def test_50_parallel_streams_arrive_whole(link: connection.SshLink, blocks: int) -> None:
    with ThreadPoolExecutor(50) as pool:
        digests = list(pool.map(lambda _: digest(link, blocks, 4), range(50)))
    assert set(digests) == {hashlib.sha256(BLOCK * 4).hexdigest()}


def test_a_long_stream_renews_the_keys_of_its_cipher(
    link: connection.SshLink, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = link.transport
    assert "-gcm@" in transport.remote_cipher  # type: ignore[attr-defined]  # not in the stubs
    renewed: list[object] = []
    activate = transport._activate_inbound  # type: ignore[attr-defined]

    def renew() -> None:
        renewed.append(1)
        activate()

    monkeypatch.setattr(transport, "_activate_inbound", renew)
    monkeypatch.setattr(transport.packetizer, "REKEY_BYTES", 4 * 2**20)
    assert digest(link, blocks, 100) == hashlib.sha256(BLOCK * 100).hexdigest()
    assert renewed


@pytest.mark.core
def test_a_lost_connection_is_reopened(link: connection.SshLink, pod: Pod, blocks: int) -> None:
    """As in a chat that continues after a night."""
    whole = hashlib.sha256(BLOCK).hexdigest()
    assert digest(link, blocks, 1) == whole
    for pid in pod.sessions():
        kill(pid)
    assert until(lambda: not link.transport.is_active())
    assert digest(link, blocks, 1) == whole
    link.close()
    assert digest(link, blocks, 1) == whole


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


UPLOAD = bytes(8 * 2**20)
"""More than SSH's window of 2 MiB and the small TCP buffers of `a_stuck_line` hold."""


def a_stuck_line(link: connection.SshLink, port: int) -> connection.ChannelLine:
    """Return a line on which an upload to a silent pod stops within a packet."""
    assert isinstance(link.transport.sock, socket.socket)
    link.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    line = link.dial(port)
    line.settimeout(60)
    return line


def test_a_dead_connection_is_reopened(
    link: connection.SshLink, pod: Pod, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = hashlib.sha256(BLOCK).hexdigest()
    assert digest(link, blocks, 1) == whole
    first = link.transport
    again = link.reopen

    def reopen() -> None:
        monkeypatch.setattr(connection, "OPEN_PATIENCE_S", 15)
        again()

    monkeypatch.setattr(link, "reopen", reopen)
    monkeypatch.setattr(connection, "OPEN_PATIENCE_S", 1)
    with silenced(pod):
        assert digest(link, blocks, 1) == whole
    assert link.transport is not first


@pytest.mark.parametrize("times", [1, 2])
def test_after_an_upload_stopped_by_ctrl_c_the_link_works(
    link: connection.SshLink, pod: Pod, blocks: int, times: int
) -> None:
    """The second Ctrl+C comes while the first still waits for the data in transit."""
    line = a_stuck_line(link, blocks)
    main = threading.main_thread().ident or 0
    with silenced(pod):
        for at in range(times):
            threading.Timer(0.5 + at * 0.5, signal.pthread_kill, (main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            line.sendall(UPLOAD)
        line.close()
    assert line._channel.out_window_size > 0
    assert not link.transport.is_active()
    assert digest(link, blocks, 1) == hashlib.sha256(BLOCK).hexdigest()


def test_a_stuck_upload_times_out(link: connection.SshLink, pod: Pod, blocks: int) -> None:
    line = a_stuck_line(link, blocks)
    line.settimeout(0.5)
    with silenced(pod), pytest.raises(TimeoutError):
        line.sendall(UPLOAD)
    assert line._channel.out_window_size > 0
    assert digest(link, blocks, 1) == hashlib.sha256(BLOCK).hexdigest()


def test_an_unread_upload_fails_only_its_line(link: connection.SshLink, blocks: int) -> None:
    first = link.transport
    with socket.create_server(("127.0.0.1", 0)) as deaf, closing(link.dial(deaf.getsockname()[1])) as line:
        line.settimeout(1)
        with pytest.raises(TimeoutError):
            line.sendall(UPLOAD * 2)
    assert digest(link, blocks, 1) == hashlib.sha256(BLOCK).hexdigest()
    assert link.transport is first


def test_a_line_of_a_closed_connection_fails_like_a_socket(link: connection.SshLink, pod: Pod, blocks: int) -> None:
    line = link.dial(blocks)
    with silenced(pod):
        link.transport.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            line.sendall(b"0")
    line.close()
    line.settimeout(10)
    assert line.recv(1) == b""


def test_a_port_where_nothing_listens_is_refused(link: connection.SshLink) -> None:
    with pytest.raises(ConnectionRefusedError, match="nothing listens at port"):
        link.dial(free_port())


def test_a_server_without_that_cipher_works_too(new_pod: object, tmp_path: Path) -> None:
    pod: Pod = new_pod(options=("Ciphers aes256-ctr",))  # type: ignore[operator]
    link = connection.open_link(target.parse(pod.ssh), tmp_path / "known_hosts")
    assert isinstance(link, connection.SshLink)
    assert link.transport.remote_cipher == "aes256-ctr"  # type: ignore[attr-defined]  # not in the stubs
    link.close()


def test_other_work_begins_before_the_pod_answers(tmp_path: Path) -> None:
    begun = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = target.parse(f"ssh -o ConnectTimeout=1 -p {silent.getsockname()[1]} root@127.0.0.1")
        opening = threading.Thread(target=_refused, args=(place, tmp_path, begun))
        opening.start()
        accepted, _ = silent.accept()
        assert begun.wait(1)
        time.sleep(0.1)
        accepted.close()
        opening.join()


def _refused(place: target.SshTarget, folder: Path, begun: threading.Event) -> None:
    with pytest.raises(UnreachableError):
        connection.open_link(place, folder / "known_hosts", meanwhile=begun.set)
