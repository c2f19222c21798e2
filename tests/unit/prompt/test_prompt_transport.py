"""The SDK's HTTP over pi's own line: one line for many requests, bursts, TLS."""

from __future__ import annotations

import datetime
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pi.errors import InputError, UnreachableError
from pi.prompt.transport import Incoming
from tests.unit.prompt.conftest import Prompt, Reply, calls, delta, fails, says, sse

TOKEN = sse(delta(content="a"), done=False)
END = sse(delta("stop"))


@pytest.fixture
def dialled(prompt: Prompt) -> Iterator[list[socket.socket]]:
    """The lines that `dialling` has opened."""
    opened: list[socket.socket] = []
    yield opened
    for line in opened:
        line.close()


@pytest.fixture
def dialling(prompt: Prompt, dialled: list[socket.socket]) -> Callable[[], socket.socket]:
    def dial() -> socket.socket:
        dialled.append(socket.create_connection(prompt.server.address))
        return dialled[-1]

    return dial


def test_all_rounds_of_a_turn_go_over_one_line(
    prompt: Prompt, dialled: list[socket.socket], dialling: Callable[[], socket.socket]
) -> None:
    prompt.server.answer(*[calls(("ls", {"path": "."}))] * 3, says("Done."))
    said = prompt("Look", endpoint=prompt.endpoint(dial=dialling))
    assert said.of("turn_end")[0]["rounds"] == 4
    assert len(dialled) == 1


def test_a_line_closed_by_the_server_is_replaced(
    prompt: Prompt, dialled: list[socket.socket], dialling: Callable[[], socket.socket], client: Any
) -> None:
    prompt.server.answer(says("One"), says("Two"))
    asking = client(dial=dialling)
    list(asking.stream({"messages": []}))
    dialled[0].shutdown(socket.SHUT_RDWR)
    assert len(list(asking.stream({"messages": []}))) == 5
    assert len(dialled) == 2


def test_a_line_unused_for_long_is_replaced(
    prompt: Prompt,
    dialled: list[socket.socket],
    dialling: Callable[[], socket.socket],
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompt.server.answer(says("One"))
    asking = client(dial=dialling)
    monkeypatch.setattr("pi.prompt.transport.STALE_S", 0)
    for count in (1, 2):
        assert len(list(asking.stream({"messages": []}))) == 5
        assert len(dialled) == count


def test_a_server_that_closes_lines_gets_one_for_each_answer(
    prompt: Prompt, dialled: list[socket.socket], dialling: Callable[[], socket.socket], client: Any
) -> None:
    prompt.server.answer(Reply(says("One").pieces, headers={"Connection": "close"}))
    asking = client(dial=dialling)
    for count in (1, 2):
        assert len(list(asking.stream({"messages": []}))) == 5
        assert len(dialled) == count


def test_an_abandoned_answer_does_not_spoil_the_next(
    prompt: Prompt, dialled: list[socket.socket], dialling: Callable[[], socket.socket], client: Any
) -> None:
    prompt.server.answer(Reply([TOKEN, 0.5, END]), says("Two"))
    asking = client(dial=dialling)
    stream = asking.stream({"messages": []})
    next(stream)
    stream.close()
    assert len(list(asking.stream({"messages": []}))) == 5
    assert len(dialled) == 2


def test_a_lost_connection_to_the_pod_passes_through(prompt: Prompt) -> None:
    def dial() -> socket.socket:
        raise UnreachableError("connection-lost", "the connection to the pod was lost")

    with fails(UnreachableError, "connection-lost"):
        prompt("hi", endpoint=prompt.endpoint(dial=dial))


def test_received_pieces_are_announced_before_each_wait(prompt: Prompt, client: Any) -> None:
    prompt.server.answer(Reply([TOKEN * 5, 0.7, TOKEN * 3, 0.7, END]))
    items: list[Any] = []
    taken: set[int] = set()
    for item in client().stream({"messages": []}, before_wait=lambda: taken.add(len(items))):
        items.append(item)
    assert {5, 8} <= taken
    assert len(items) == 10


def test_only_a_flowing_stream_is_read_in_bursts(prompt: Prompt, client: Any) -> None:
    pieces: list[bytes | float] = []
    for _ in range(200):
        pieces += [TOKEN, 0.005]
    prompt.server.answer(Reply([*pieces, END]))
    reads: list[float] = []
    assert len(list(client().stream({"messages": []}, before_wait=lambda: reads.append(time.monotonic())))) == 202
    begun = [at for at in reads if at < reads[0] + 0.25]
    flowing = [at for at in reads if at > reads[0] + 0.4]
    assert len(begun) > 10
    assert min(later - earlier for earlier, later in itertools.pairwise(flowing)) > 0.03


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "localhost.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + signed.public_bytes(pem))
    return file


@pytest.fixture
def tls(prompt: Prompt, certificate: Path) -> Iterator[int]:
    """The port of a server that answers over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=unwrapping, args=(listener, context, prompt), daemon=True).start()
        yield listener.getsockname()[1]


def unwrapping(listener: socket.socket, context: ssl.SSLContext, prompt: Prompt) -> None:
    while True:
        try:
            plain, _ = listener.accept()
            with context.wrap_socket(plain, server_side=True) as line:
                line.settimeout(5)
                asked = b""
                while not asked.endswith(b"}"):  # what is left unread would reset the connection
                    asked += line.recv(65536)
                assert b"Bearer" in asked
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + TOKEN + END)
        except ssl.SSLError:
            continue
        except OSError:
            return


def test_a_trusted_tls_server_is_used(
    prompt: Prompt, tls: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    said = prompt("hi", endpoint=prompt.endpoint(base_url=f"https://localhost:{tls}/v1"))
    assert said.of("turn_end")[0]["text"] == "a"
    with fails(UnreachableError, "endpoint-unreachable", "certificate verify failed"):
        prompt("hi", endpoint=prompt.endpoint(base_url=f"https://127.0.0.1:{tls}/v1"))


def test_unreadable_certificates_fail(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    with fails(InputError, "certificates-unreadable", "SSL_CERT_FILE: No such file"):
        prompt("hi", endpoint=prompt.endpoint(base_url="https://localhost:1/v1"))


def test_gathered_tls_records_are_read_together(certificate: Path) -> None:
    """TLS returns one record at a time; a pause for each would limit a stream to 25 tokens a second."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    near, far = socket.socketpair()
    trusting = ssl.create_default_context(cafile=certificate)
    with ThreadPoolExecutor() as pool:
        accepted = pool.submit(context.wrap_socket, far, server_side=True)
        line = trusting.wrap_socket(near, server_hostname="localhost")
        server = accepted.result()
    with line, server:
        incoming = Incoming(line, patience_s=10)
        incoming.flow(patience_s=10)
        for _ in range(9):
            server.sendall(TOKEN)
        assert incoming.read(65536) == TOKEN * 9
        server.sendall(END)
        assert incoming.read(65536) == END


def test_an_untrusted_tls_server_gets_no_key(prompt: Prompt, tls: int) -> None:
    with fails(UnreachableError, "endpoint-unreachable", "certificate verify failed"):
        prompt("hi", endpoint=prompt.endpoint(base_url=f"https://localhost:{tls}/v1"))
