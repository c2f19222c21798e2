"""The tunnels of this machine: a file for each model, which a running tunnel locks.

`tunnels/POD/NAME.json` in pi's folder stays after the tunnel is closed, so that a model keeps its local port.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pi import config
from pi.errors import BusyError, InputError, RemoteError

if TYPE_CHECKING:
    from pi.steps.json_shapes import TunnelJson

LOOPBACK = "127.0.0.1"

FIRST_PORT, LAST_PORT = 8001, 8999
"""Local ports for models whose own number is taken here."""

CLOSE_PATIENCE_S = 5

CONNECT_S = 0.5

READERS_S = 0.5
"""How long other commands may lock a tunnel's file while they read it."""


@dataclass(frozen=True)
class Tunnel:
    """A local port that connects to a model on a pod, at port `remote` there. `pid` is 0 if it is closed."""

    pod: str
    model: str
    port: int
    remote: int
    pid: int = 0
    started: float = 0.0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/v1"

    def is_up(self) -> bool:
        """Return whether the port accepts connections now."""
        try:
            socket.create_connection((LOOPBACK, self.port), CONNECT_S).close()
        except OSError:
            return False
        return True

    def as_json(self) -> TunnelJson:
        return {
            "model": self.model,
            "pod": self.pod,
            "url": self.url,
            "port": self.port,
            "pid": self.pid,
            "is_up": self.is_up(),
        }


def folder() -> Path:
    return config.config_dir() / "tunnels"


def log_path(pod: str, model: str) -> Path:
    return folder() / pod / f"{model}.log"


def everything() -> list[Tunnel]:
    """Return every tunnel, open or closed."""
    return [found for path in sorted(folder().glob("*/*.json")) if (found := _read(path))]


def opened(pod: str | None = None) -> list[Tunnel]:
    """Return the open tunnels, of one pod or of all."""
    return [tunnel for tunnel in everything() if tunnel.pid and pod in (None, tunnel.pod)]


def opened_to(pod: str, model: str) -> Tunnel | None:
    found = _read(_path(pod, model))
    return found if found and found.pid else None


def port_for(pod: str, model: str, remote: int, given: int | None) -> int:
    """Return the local port of a model: the given one, that of last time, its number on the pod, or the next free one.

    Raises BusyError if the given port is taken, or none is free.
    """
    if given is not None:
        if not _is_free(given):
            raise BusyError("local-port-taken", f"port {given} is taken on this machine", "use another --port")
        return given
    kept = {(tunnel.pod, tunnel.model): tunnel.port for tunnel in everything()}
    own = kept.pop((pod, model), None)
    wanted: list[int] = [*([own] if own else []), remote, *range(FIRST_PORT, LAST_PORT)]
    found = next((port for port in wanted if port not in kept.values() and _is_free(port)), None)
    if found is None:
        raise BusyError("local-port-taken", f"no port from {FIRST_PORT} to {LAST_PORT} is free here", "use --port")
    return found


@contextlib.contextmanager
def claimed(tunnel: Tunnel) -> Iterator[None]:
    """Hold a tunnel's file while it is open. Raises BusyError if another process holds it."""
    path = _path(tunnel.pod, tunnel.model)
    try:
        config.make_private(path.parent)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+", encoding="utf-8")
    except OSError as error:
        raise InputError("tunnel-file-unwritable", f"cannot write {path}: {error.strerror}") from None
    with file:
        deadline = time.monotonic() + READERS_S
        while not _lock(file):
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise BusyError(
                "tunnel-open",
                f"a tunnel to {tunnel.model} is already open",
                f"close it: pi tunnel {tunnel.model} --close",
            )
        document = {"port": tunnel.port, "remote": tunnel.remote, "pid": os.getpid(), "started": time.time()}
        file.seek(0)
        file.truncate()
        json.dump(document | {"log": str(log_path(tunnel.pod, tunnel.model))}, file)
        file.flush()
        yield


def close(tunnel: Tunnel) -> None:
    """End the process of a tunnel and its children. Raises RemoteError if it does not end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(tunnel.pid, number)
        deadline = time.monotonic() + CLOSE_PATIENCE_S
        while time.monotonic() < deadline:
            if opened_to(tunnel.pod, tunnel.model) is None:
                return
            time.sleep(0.05)
    raise RemoteError("tunnel-not-closed", f"the tunnel to {tunnel.model} (pid {tunnel.pid}) does not end")


def leave(pod: str) -> list[Tunnel]:
    """Close the tunnels of a pod that pi forgets, and delete their files. Returns those that were open."""
    found = opened(pod)
    for tunnel in found:
        if opened_to(pod, tunnel.model):  # one process may have had several
            close(tunnel)
    shutil.rmtree(folder() / pod, ignore_errors=True)
    return found


def _path(pod: str, model: str) -> Path:
    return folder() / pod / f"{model}.json"


def _read(path: Path) -> Tunnel | None:
    """Return the tunnel of a file, or None if it is missing or damaged."""
    try:
        with path.open(encoding="utf-8") as file:
            is_open = not _lock(file)
            document = json.load(file)
        port, remote, pid = (int(document[key]) for key in ("port", "remote", "pid"))
        started = float(document["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not 0 < port < 65536 or pid <= 1:
        return None
    return Tunnel(path.parent.name, path.name.removesuffix(".json"), port, remote, pid if is_open else 0, started)


def _lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed; return whether no other process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
