"""Commands of pi forked from a process that has imported pi, since a start of Python costs more than most of them.

No module of pi reads its environment or its files while it is imported, except those of `pi.on_pod`, whose places are
those of the process that runs them on the pod.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

LIMIT = 100_000
"""Bytes of a command and its environment in one message."""

PID_BYTES, CODE_BYTES = 10, 4

LONGEST_S = 3600

MOST_FILES = 1024

READ_AT_START = ("LANG", "LC_", "PYTHON")
"""Variables with these beginnings count when Python starts."""


def suits(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether a fork behaves as a new process would."""
    given = {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}
    return given == {"LANG": "C.UTF-8"} and len(_message(words, environment, Path())) < LIMIT


class Fork:
    """A running pi, with those parts of `subprocess.Popen` that the rig uses. Its stdout is a pipe."""

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.PIPE,
    ) -> None:
        self.args = ["pi", *words]
        self.returncode: int | Any = None
        out, err, status = os.pipe(), os.pipe(), os.pipe()
        error = {subprocess.PIPE: err[1], subprocess.STDOUT: out[1]}.get(stderr, stderr)
        with open(os.devnull, "rb") as nothing:
            given = [nothing.fileno() if stdin == subprocess.DEVNULL else stdin, out[1], error, status[1]]
            socket.send_fds(_server(), [_message(words, environment, folder)], given)
        for pipe in (out, err, status):
            os.close(pipe[1])
        self.stdout, self.stderr, self._status = (os.fdopen(pipe[0], "rb", buffering=0) for pipe in (out, err, status))
        self._printed = {self.stdout: b"", self.stderr: b""}
        self.pid = int(self._status.read(PID_BYTES))

    def poll(self) -> int | None:
        """Return the exit code, or None if it runs."""
        return self._ended(within_s=0)

    def _ended(self, within_s: float) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], within_s)[0]:
            with self._status:
                self.returncode = int(self._status.read(CODE_BYTES))
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Return the rest of stdout and stderr, at its end. Raises TimeoutExpired; another call loses nothing."""
        deadline = time.monotonic() + (LONGEST_S if timeout is None else timeout)
        with selectors.DefaultSelector() as selector:
            for file in self._printed:
                if not file.closed:
                    selector.register(file, selectors.EVENT_READ)
            while selector.get_map() and time.monotonic() < deadline:
                for key, _ in selector.select(deadline - time.monotonic()):
                    file = self.stdout if key.fileobj is self.stdout else self.stderr
                    chunk = file.read(65536)
                    self._printed[file] += chunk
                    if not chunk:
                        selector.unregister(file)
                        file.close()
            is_read = not selector.get_map()
        out, err = self._printed.values()
        if not is_read or self._ended(within_s=max(0, deadline - time.monotonic())) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or LONGEST_S, out, err)
        return out, err


def _message(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> bytes:
    return json.dumps({"words": list(words), "environment": dict(environment), "folder": str(folder)}).encode()


@cache
def _server() -> socket.socket:
    """Start the process, one for each worker of pytest, and return the socket that leads to it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        server = subprocess.Popen(
            [sys.executable, __file__, str(its.fileno())],
            env={"LANG": "C.UTF-8", "PATH": os.environ["PATH"]},
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def end() -> None:
        ours.close()
        server.communicate()

    atexit.register(end)
    return ours


def _serve(control: socket.socket) -> tuple[bytes, list[int]] | None:
    """Fork a process for each message; there, return the message and its files. At the end, return None."""
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data:
                pid, status = key.data
                _, waited = os.waitpid(pid, 0)
                with suppress(BrokenPipeError):  # nobody waits any more
                    os.write(status, b"%d" % os.waitstatus_to_exitcode(waited))
                selector.unregister(key.fd)
                os.close(key.fd)
                os.close(status)
                continue
            message, files, _, _ = socket.recv_fds(control, LIMIT, 4)
            if not message:
                return None
            if b'"prompt"' in message:
                import_module("pi.prompt.sdk")  # half a second that no other verb needs
            pid = os.fork()
            if not pid:
                selector.close()
                return message, files
            os.write(files[3], b"%*d" % (PID_BYTES, pid))
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, files[3]))
            for file in files[:3]:
                os.close(file)


def _become(message: bytes, files: Sequence[int]) -> None:
    """Run pi in this process."""
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    os.closerange(3, MOST_FILES)
    call = json.loads(message)
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    sys.argv = ["pi", *call["words"]]
    if "PI_TEST_KILL" in os.environ:  # tests.rig.killing.VARIABLE
        import_module("tests.rig.killing").install()
    try:
        import_module("pi.cli.entry").main()
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        _exit(int(end.code or 0))
    _exit(0)


def _exit(code: int) -> NoReturn:
    """End this process as Python does, except that modules stay in memory: freeing them copies each page of the fork."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parent.parent.parent)
    import_module("pi.cli.program")
    import_module("pi.ssh.connection")
    for verb in pkgutil.iter_modules(import_module("pi.fabric_tasks").__path__, "pi.fabric_tasks."):
        import_module(verb.name)
    for package in ("jinja2", "requests", "tabulate"):
        import_module(package)
    import_module("pi.calls.bootstrap").program("status")
    import_module("pi.planning.catalog").load()
    import_module("pi.planning.families").load().named("no-family-of-that-name")
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as given_control:
        forked = _serve(given_control)
    if forked:
        _become(*forked)
