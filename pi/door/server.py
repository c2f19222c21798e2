"""Serve the door until it is asked to end."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket

import uvicorn

from pi import redaction, screen
from pi.door import kept, starts
from pi.door.admission import LOOPBACK, Admission
from pi.door.app import application
from pi.door.house import House
from pi.door.rules import Rules
from pi.door.starts import Runner
from pi.errors import BusyError, InputError, Interrupted
from pi.pods import state
from pi.steps import keys

END_S = 3
"""How long running answers go on after the door was asked to end."""

BACKLOG = 1024

FILES = 65536
"""Open files that the door asks the system for: each request has two sockets, and many systems allow 256 or 1024."""


def serve(host: str, port: int, rules: Rules) -> None:
    """Serve until Ctrl+C or TERM. Raises BusyError if another door is open or the port is taken, or InputError."""
    saved = state.load()
    if rules.file and (problem := rules.file.read(saved)[1]):
        screen.note(f"warning: {rules.file.path}: {problem}")
    pods_key = keys.api_key()
    redaction.add(pods_key)
    with kept.claimed(host, port, rules.ttl_s, rules.pinned) as door, _listening(host, port) as listener:
        running = uvicorn.Server(settings(host, pods_key, rules))
        _allow_many_connections()
        screen.say(f"the door is at {door.url}; its key is in {kept.key_path()}")
        if host not in LOOPBACK:
            screen.note("note: other machines can reach the door, and it has no TLS")
        with contextlib.suppress(KeyboardInterrupt, Interrupted):
            running.run(sockets=[listener])


def settings(host: str, pods_key: str, rules: Rules, run: Runner = starts.run) -> uvicorn.Config:
    """Return how uvicorn serves the door. It accepts the pods' key as well: who has that one needs no door."""
    admission = Admission(host, (kept.key(), pods_key))
    return uvicorn.Config(
        application(House(pods_key, rules, run), admission),
        http="h11",
        ws="none",
        loop="asyncio",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=END_S,
    )


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise InputError(
                "door-host-invalid", f"this machine has no address {host!r}", "use --host 127.0.0.1"
            ) from None
        raise BusyError(
            "local-port-taken", f"cannot listen on port {port}: {os.strerror(error.errno or 0)}", "use another --port"
        ) from None
    return listener
