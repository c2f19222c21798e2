"""Notice that a server hangs: `pi_watch.py PID PORT NAME API RESTARTS`, run by its launcher.

Each minute it compares vLLM's own figures (`/metrics`). If they stand still, it asks for one token through the guard.
A server hangs if several of these probes in a row get no answer and the figures stand still; `/health` may answer then.
The stacks of its processes go into its log. With RESTARTS above 0, it is killed, so that its launcher starts it again;
else the file `hung` tells pi.

The key is in `VLLM_API_KEY`. `PI_PROBE` marks the probes, so that the guard does not count them.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import signal
import socket
import sys
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pi_stack  # type: ignore[import-not-found]  # a start writes pi/on_pod/stack.py beside this file
from pi_beside import HERE, fields_of, started_of, write  # type: ignore[import-not-found]

LOOK_S = 60.0

PROBE_S = 45.0
"""Time for the answer to one token; a busy server that is slower shows in its figures that it works."""

MISSES = 4
"""Probes in a row without an answer, before a server hangs."""

HUNG_S = 180.0
"""Time without a sign of life, before a server hangs. vLLM itself gives up a worker after 300 s, and ends."""

BEAT_S = 2.0
"""How often it looks whether the server lives, and during its load whether it is ready."""

MOST_PROCESSES = 16

FIGURES_BYTES = 8 << 20

ANSWERED = ("vllm:admission_rejections", "vllm:engine_sleep_state")
"""Figures that the API server changes without its engine (vllm/v1/metrics/loggers.py, 0.32)."""

COMPILERS = {"nvcc", "cicc", "ptxas", "ninja", "cc1plus", "cudafe++", "gcc", "g++", "hipcc", "clang"}
"""Programs of a compilation: the first request of a kind may need minutes."""

TEXTS: dict[str, tuple[str, dict[str, Any]]] = {
    "completions": ("/v1/completions", {"prompt": "a", "max_tokens": 1, "temperature": 0}),
    "embedding": ("/v1/embeddings", {"input": "a"}),
    "rerank": ("/v1/rerank", {"query": "a", "documents": ["a"]}),
    "classify": ("/classify", {"input": "a"}),
    "reward": ("/pooling", {"input": "a"}),
}
"""The smallest request of each API; chat models answer to completions too (routes of `pi.pods.apis`)."""


def request_of(api: str, name: str) -> tuple[str, str, bytes]:
    """Return the route, the content type and the body of a probe."""
    if api == "transcription":
        parts = {"model": name, "max_completion_tokens": "1", "response_format": "json"}
        head = "".join(f'--pi\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{parts[key]}\r\n' for key in parts)
        head += '--pi\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        return (
            "/v1/audio/transcriptions",
            "multipart/form-data; boundary=pi",
            head.encode() + silence() + b"\r\n--pi--\r\n",
        )
    path, body = TEXTS.get(api, TEXTS["completions"])
    return path, "application/json", json.dumps({"model": name, **body}).encode()


def silence() -> bytes:
    """Return a second of sound without any."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(bytes(32000))
    return file.getvalue()


def figures_in(metrics: str | None) -> frozenset[str] | None:
    """Return vLLM's own figures in the text of /metrics; empty if it has none, None if /metrics did not answer."""
    if metrics is None:
        return None
    return frozenset(line for line in metrics.split("\n") if line.startswith("vllm:") and not line.startswith(ANSWERED))


class Hang:
    """Decides whether a server hangs.

    The time is a clock that nobody sets. A machine that sleeps or is stopped makes no server hang, because the probes
    count too.
    """

    def __init__(self, pace: float = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._hung_s, self._clock = HUNG_S * pace, clock
        self._alive = clock()
        self._figures: frozenset[str] | None = None
        self.misses = 0

    def still_s(self) -> float:
        """Return the seconds since the last sign of life."""
        return self._clock() - self._alive

    def is_hung(
        self, read: Callable[[], frozenset[str] | None], probe: Callable[[], bool], is_excused: Callable[[], bool]
    ) -> bool:
        """Return whether the server hangs.

        `read` returns its figures now. `probe` returns whether a probe was answered, and is called only if the figures
        show no progress. `is_excused` returns whether something else explains the silence, such as a debugger.
        """
        figures, before = read(), self._figures
        self._figures = figures or before
        if figures and before and figures != before:
            return self._lives()
        if probe():
            self._figures = read() or self._figures  # without what the probe has moved
            return self._lives()
        self.misses += 1
        is_blind = figures is not None and not figures  # --disable-log-stats: a busy server looks the same
        return self.misses >= MISSES and self.still_s() >= self._hung_s and not is_blind and not is_excused()

    def _lives(self) -> bool:
        self._alive, self.misses = self._clock(), 0
        return False


class Answer(NamedTuple):
    """Status 0 if nothing answered in time."""

    status: int
    body: bytes


def ask(port: int, path: str, timeout_s: float, kind: str = "", body: bytes = b"") -> Answer:
    """Send a request that the guard does not count; a POST if it has a body."""
    deadline = time.monotonic() + timeout_s
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.0", f"Host: 127.0.0.1:{port}"]
    lines += ["Authorization: Bearer " + os.environ["VLLM_API_KEY"], "X-Pi-Probe: " + os.environ.get("PI_PROBE", "")]
    lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"] if body else []
    answer = bytearray()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=max(0.05, timeout_s)) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            while len(answer) < FIGURES_BYTES:
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                piece = connection.recv(1 << 16)
                if not piece:
                    break
                answer += piece
    except (OSError, UnicodeEncodeError):
        return Answer(0, b"")
    head, _, content = bytes(answer).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    is_http = len(words) == 3 and words[0].startswith(b"HTTP/1.") and words[1].isdigit()
    return Answer(int(words[1]), content) if is_http else Answer(0, b"")


class Server:
    """The server, as its launcher started it."""

    def __init__(self, pid: int, port: int, name: str, api: str, pace: float) -> None:
        self.pid, self._port, self._pace = pid, port, pace
        self._request = request_of(api, name)
        self._started = started_of(pid)
        self._launcher = os.getppid()
        self._counts = [0, 0, 0]
        self._is_fit = True

    def lives(self) -> bool:
        return self._started is not None and started_of(self.pid) == self._started

    def has_launcher(self) -> bool:
        return os.getppid() == self._launcher

    def is_ready(self) -> bool:
        return ask(self._port, "/health", 10).status == 200

    def figures(self) -> frozenset[str] | None:
        answer = ask(self._port, "/metrics", max(1.0, 10 * self._pace))
        return figures_in(answer.body.decode("utf-8", "replace")) if answer.status == 200 else None

    def probe(self) -> bool:
        """Return whether the server answers a request for one token, also if it rejects it."""
        path, kind, body = self._request
        with probing():
            answer = ask(self._port, path, PROBE_S * self._pace, kind, body)
            if answer.status == 200:
                self._count(answer.body)
        if 400 <= answer.status < 500 and self._is_fit:
            self._is_fit = False
            say(
                f"the server rejects the request of pi's watchdog ({path}: {answer.status}); an answer is enough for it"
            )
        return answer.status != 0

    def _count(self, body: bytes) -> None:
        """Keep how many probes were answered, and their tokens, for `pi top` to leave out."""
        try:
            usage = json.loads(body).get("usage") or {}
            tokens = [int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)]
        except (ValueError, AttributeError, TypeError):
            tokens = [0, 0]
        self._counts = [old + new for old, new in zip(self._counts, (1, *tokens), strict=True)]
        write("probes", " ".join(map(str, self._counts)))

    def processes(self) -> list[int]:
        """Return the server and the processes of its session, without the launcher and its helpers."""
        session, found = os.getsid(0), []
        for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
            fields = fields_of(pid)
            if fields and fields[0] not in "ZX" and int(fields[3]) == session:
                is_helper = pid in (session, os.getpid()) or int(fields[1]) in (self._launcher, os.getpid())
                found += [pid] if pid == self.pid or not is_helper else []
        return sorted(found)

    def is_excused(self) -> bool:
        """Return whether it is being stopped, a compiler works, or a debugger holds it."""
        pids = self.processes()
        return (
            (HERE / "stopped").exists()
            or any(pi_stack.is_traced(pid) for pid in pids)
            or any(pi_stack.program_of(pid) in COMPILERS for pid in pids)
        )


@contextlib.contextmanager
def probing() -> Iterator[None]:
    """Keep the watcher of idle servers from counting a probe as a request that runs."""
    with (HERE / "probing").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Write a line into the server's log."""
    print("pi: " + text, flush=True)


def report(server: Server, hang: Hang) -> str:
    """Write what the processes of a hanging server do into its log. Returns it as JSON for the file `hung`."""
    still_s = round(hang.still_s())
    say(f"the server hangs: no answer to {hang.misses} requests for one token, and no progress for {still_s} s")
    uptime = float(Path("/proc/uptime").read_text("ascii").split()[0])
    py_spy = str(Path(sys.executable).with_name("py-spy"))
    found = []
    for pid in server.processes()[:MOST_PROCESSES]:
        doing = pi_stack.of(pid, py_spy, str(HERE / "stacks"))
        say(f"  {doing.program} (pid {pid}, state {doing.state}): {pi_stack.waits(pid)}")
        for line in doing.stack.splitlines():
            say("    " + line)
        found.append(doing._asdict())
    return json.dumps({"since": uptime - still_s, "processes": found})


def main() -> None:
    pid, port = int(sys.argv[1]), int(sys.argv[2])
    pace = float(os.environ.get("PI_TEST_PACE") or 1)
    server, restarts = Server(pid, port, sys.argv[3], sys.argv[4], pace), int(sys.argv[5])

    def lives_after(seconds: float, since: float) -> bool:
        """Return whether the server still lives some time after a moment."""
        while server.lives() and (left := since + seconds * pace - time.monotonic()) > 0:
            time.sleep(min(left, BEAT_S))
        return server.lives()

    while not server.is_ready():
        if not lives_after(BEAT_S, time.monotonic()):
            return
    hang, is_hung, looked = Hang(pace), False, time.monotonic()
    while lives_after(LOOK_S, looked):
        looked = time.monotonic()
        if hang.is_hung(server.figures, server.probe, server.is_excused) and not is_hung:
            is_hung = True
            text = report(server, hang)
            if restarts and server.has_launcher() and not (HERE / "stopped").exists():
                say("ending the server, so that it starts again")
                os.kill(pid, signal.SIGKILL)
                return
            write("hung", text)
        elif is_hung and not hang.misses:
            is_hung = False
            (HERE / "hung").unlink(missing_ok=True)
            say("the server answers again")


if __name__ == "__main__":
    main()
