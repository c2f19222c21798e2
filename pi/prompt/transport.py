"""HTTP for the SDK over one line to an endpoint: a channel of the SSH connection, or a socket.

The SDK's own transport would need a local port that leads into the channel, for every program here to use, and
takes twice the time for each token. The protocol itself is left to `http.client`.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

from pi.prompt.endpoint import Line

REST_S = 0.04
"""How long tokens are let gather when a stream flows: they appear 25 times a second."""

FIRST_S = 0.3
"""How long a stream is read piece by piece, so that the first tokens come without delay."""

LOOKS = 20
"""How many short waits a long one is made of."""

BUFFER_BYTES = 64 * 1024

STALE_S = 5.0
"""How long a line that is not used is trusted: a router or a laptop's sleep may have cut it without a word."""


class Incoming(io.RawIOBase):
    """What comes on a line, read with patience; once an answer flows, with rests in which tokens gather.

    To wake for every token costs more than the token. `before_wait` is called when all that came has been taken.
    The time in which this process is stopped (Ctrl+Z) does not count as waiting: looks are counted, and no clock
    is looked at.
    """

    def __init__(self, line: Line, patience_s: float) -> None:
        self.before_wait: Callable[[], None] = lambda: None
        self._line = line
        self._patience_s = patience_s
        self._rests_from: float | None = None
        self._caught_up = False

    def flow(self, patience_s: float) -> None:
        """The answer has begun; from now on a pause may last this long."""
        self._patience_s = patience_s
        self._rests_from = time.monotonic() + FIRST_S

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        """Raises httpx2.ReadTimeout and ReadError."""
        self.before_wait()
        if self._caught_up and self._rests_from and time.monotonic() > self._rests_from:
            time.sleep(REST_S)
        data = self._received(len(room))
        if self._rests_from and data:
            data += self._rest_of_it(len(room) - len(data))
        self._caught_up = len(data) < len(room)
        room[: len(data)] = data
        return len(data)

    def _rest_of_it(self, size: int) -> bytes:
        """What has come beside: TLS gives its records one by one. An error is met again by the next read."""
        more = bytearray()
        self._line.settimeout(0)
        with contextlib.suppress(OSError):
            while piece := self._line.recv(size - len(more)):
                more += piece
        return bytes(more)

    def _received(self, size: int) -> bytes:
        self._line.settimeout(self._patience_s / LOOKS)
        for _ in range(LOOKS):
            try:
                return self._line.recv(size)
            except TimeoutError:
                continue
            except OSError as error:
                raise httpx2.ReadError(_words(error)) from error
        raise httpx2.ReadTimeout("nothing came")


class _Ends:
    """What `http.client` takes for a socket: it keeps what is to be sent, and reads what comes."""

    def __init__(self, incoming: Incoming) -> None:
        self.outgoing = bytearray()
        self._incoming = incoming

    def sendall(self, data: bytes) -> None:
        self.outgoing += data

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._incoming, BUFFER_BYTES)

    def close(self) -> None:
        """The transport closes the line."""


class _Body(httpx2.SyncByteStream):
    def __init__(self, answer: http.client.HTTPResponse, ended: Callable[[bool], None]) -> None:
        self._answer = answer
        self._ended = ended

    def __iter__(self) -> Iterator[bytes]:
        with _protocol_errors():
            while piece := self._answer.read1(BUFFER_BYTES):
                yield piece
        if self._answer.length:
            raise httpx2.RemoteProtocolError(f"{self._answer.length} bytes of the answer did not come")

    def close(self) -> None:
        self._ended(self._answer.isclosed() and not self._answer.will_close)


class LineTransport(httpx2.BaseTransport):
    """Sends one request after the other, over one line as long as the server keeps it open.

    A response has its `Incoming` among its extensions, as "incoming".
    """

    def __init__(self, dial: Callable[[], Line]) -> None:
        self._dial = dial
        self._idle: Line | None = None
        self._idle_since = 0.0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        patience_s = request.extensions["timeout"]["read"]
        line = self._line()
        incoming = Incoming(line, patience_s)
        exchange = http.client.HTTPConnection("endpoint")
        exchange.sock = ends = _Ends(incoming)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.raw}
        try:
            exchange.request(request.method, request.url.raw_path.decode("ascii"), request.read(), headers)
            _send(line, bytes(ends.outgoing), patience_s)
            with _protocol_errors():
                answer = exchange.getresponse()
        except BaseException:
            line.close()
            raise
        return httpx2.Response(
            answer.status,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.getheaders()],
            stream=_Body(answer, lambda reusable: self._keep(line, reusable)),
            extensions={"incoming": incoming},
        )

    def close(self) -> None:
        if self._idle:
            self._idle.close()
            self._idle = None

    def _keep(self, line: Line, reusable: bool) -> None:
        if reusable:
            self._idle, self._idle_since = line, time.time()  # it counts a sleep as well
        else:
            line.close()

    def _line(self) -> Line:
        """The line that was used just now, if the server has not hung up since, or a new one."""
        line, self._idle = self._idle, None
        if line:
            if time.time() - self._idle_since < STALE_S and _is_silent(line):
                return line
            line.close()
        try:
            return self._dial()
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(_words(error)) from error
        except OSError as error:
            raise httpx2.ConnectError(_words(error)) from error


def _send(line: Line, request: bytes, patience_s: float) -> None:
    """A server may refuse a long request, and hang up, before it has read all of it; then its answer tells."""
    line.settimeout(patience_s)
    try:
        line.sendall(request)
    except TimeoutError as error:
        raise httpx2.WriteTimeout(_words(error)) from error
    except OSError:
        return


def _is_silent(line: Line) -> bool:
    line.settimeout(0)
    try:
        line.recv(1)
    except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False  # neither its end nor words that nobody asked for


def _words(error: OSError) -> str:
    return error.strerror or str(error)


@contextlib.contextmanager
def _protocol_errors() -> Iterator[None]:
    try:
        yield
    except http.client.HTTPException as error:
        raise httpx2.RemoteProtocolError(str(error) or type(error).__name__) from error
