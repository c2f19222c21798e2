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
import selectors
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
from typing import NoReturn

LIMIT = 100_000
"""Bytes of a command and its environment in one message."""

READ_AT_START = ("LANG", "LC_", "PYTHON")
"""Variables with these beginnings count when Python starts."""


def suits(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether a fork behaves as a new process would."""
    given = {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}
    return given == {"LANG": "C.UTF-8"} and len(_message(words, environment, Path())) < LIMIT


def run(
    words: Sequence[str], environment: Mapping[str, str], folder: Path, timeout_s: float, merged: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """Run pi and wait for its end, as `subprocess.run` does; `merged` puts stderr into stdout."""
    out, err, status = os.pipe(), os.pipe(), os.pipe()
    with open(os.devnull, "rb") as nothing:
        given = [nothing.fileno(), out[1], out[1] if merged else err[1], status[1]]
        socket.send_fds(_server(), [_message(words, environment, folder)], given)
    for pipe in (out, err, status):
        os.close(pipe[1])
    printed = _read({out[0]: b"", err[0]: b"", status[0]: b""}, time.monotonic() + timeout_s)
    pid, _, code = printed[status[0]].partition(b"\n")
    if not code:
        os.kill(int(pid), 9)
        raise subprocess.TimeoutExpired(["pi", *words], timeout_s, printed[out[0]], printed[err[0]])
    return subprocess.CompletedProcess(["pi", *words], int(code), printed[out[0]], printed[err[0]])


def _read(printed: dict[int, bytes], deadline: float) -> dict[int, bytes]:
    """Read files to their ends, or until the deadline, and close them."""
    with selectors.DefaultSelector() as selector:
        for file in printed:
            selector.register(file, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(max(0, deadline - time.monotonic())):
                chunk = os.read(key.fd, 65536)
                printed[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fd)
    for file in printed:
        os.close(file)
    return printed


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
                with suppress(BrokenPipeError):  # `run` has given up waiting
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
            os.write(files[3], b"%d\n" % pid)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, files[3]))
            for file in files[:3]:
                os.close(file)


def _become(message: bytes, files: Sequence[int]) -> None:
    """Run pi in this process."""
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    os.closerange(3, max(files) + 1)
    call = json.loads(message)
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    sys.argv = ["pi", *call["words"]]
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
    del sys.path[0]
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
