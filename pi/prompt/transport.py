"""HTTP for the SDK over one line: a channel of the SSH connection, or a socket.

The SDK's own transport takes twice the time for each token. It also needs a local port that forwards to the channel,
and any program on this machine could use that port. `http.client` implements the protocol.
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
"""Pause between reads of a flowing stream: 25 updates of the screen a second."""

FIRST_S = 0.3
"""Time without pauses when a stream begins: the first tokens appear at once."""

WAITS = 20
"""Short waits in one long wait."""

BUFFER_BYTES = 64 * 1024

STALE_S = 5.0
"""Longest idle time of a reusable line: a router or a sleeping laptop may cut it silently."""


class Incoming(io.RawIOBase):
    """Reads the bytes of a line, with pauses once an answer flows.

    Waking up for each token is slow. Calls `before_wait` when the reader has consumed all bytes. A time-out is a number
    of short waits, without a clock, so it excludes the time in which the user has stopped the process (Ctrl+Z).
    Waits count together until `progressed` is called: bytes alone, such as comments, do not renew the patience.
    """

    def __init__(self, line: Line, patience_s: float) -> None:
        self.before_wait: Callable[[], None] = lambda: None
        self._line = line
        self._patience_s = patience_s
        self._rests_from: float | None = None
        self._caught_up = False
        self._waited_s = 0.0

    def progressed(self) -> None:
        """Renew the patience."""
        self._waited_s = 0.0

    def flow(self, patience_s: float) -> None:
        """Begin to pause between reads, and limit a pause of the server to `patience_s`."""
        self._patience_s = patience_s
        self._rests_from = time.monotonic() + FIRST_S
        self.progressed()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises httpx2.ReadTimeout and ReadError."""
        self.before_wait()
        if self._caught_up and self._rests_from and time.monotonic() > self._rests_from:
            time.sleep(REST_S)
        data = self._receive(len(buffer))
        if self._rests_from and data:
            data += self._receive_rest(len(buffer) - len(data))
        self._caught_up = len(data) < len(buffer)
        buffer[: len(data)] = data
        return len(data)

    def _receive_rest(self, size: int) -> bytes:
        """Return bytes that have also arrived, since TLS returns one record at a time.

        Ignores errors: the next read meets them again.
        """
        more = bytearray()
        self._line.settimeout(0)
        with contextlib.suppress(OSError):
            while piece := self._line.recv(size - len(more)):
                more += piece
        return bytes(more)

    def _receive(self, size: int) -> bytes:
        short_s = self._patience_s / WAITS
        self._line.settimeout(short_s)
        while self._waited_s < self._patience_s - short_s / 2:
            began = time.monotonic()
            try:
                return self._line.recv(size)
            except TimeoutError:
                continue
            except OSError as error:
                raise httpx2.ReadError(_words(error)) from error
            finally:
                self._waited_s += min(time.monotonic() - began, short_s)
        raise httpx2.ReadTimeout("nothing came")


class _Ends:
    """A socket for `http.client` that collects the request and reads the answer."""

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
    """Sends requests one after the other, over one line while the server keeps it open.

    The extension "incoming" of a response is its `Incoming`.
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
            self._idle, self._idle_since = line, time.time()  # also counts a laptop's sleep
        else:
            line.close()

    def _line(self) -> Line:
        """Return the line of the last request if still usable, or a new one."""
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
    """Send a request. Ignores a hang-up: the server may answer before it has read everything."""
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
    return False  # the line has ended, or has unexpected bytes


def _words(error: OSError) -> str:
    return error.strerror or str(error)


@contextlib.contextmanager
def _protocol_errors() -> Iterator[None]:
    try:
        yield
    except http.client.HTTPException as error:
        raise httpx2.RemoteProtocolError(str(error) or type(error).__name__) from error
