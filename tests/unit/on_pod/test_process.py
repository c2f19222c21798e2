"""Sockets of processes, held against real ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import cast

import pytest

from pi.on_pod import process, status
from pi.on_pod.record_shapes import Record
from pi.on_pod.status_shapes import DeploymentStatus
from tests.rig.skips import skip

ADDRESSES = [
    ("127.0.0.1", True),
    ("127.8.9.10", True),
    ("0.0.0.0", False),
    ("::1", True),
    ("::ffff:127.0.0.1", True),
    ("::ffff:0.0.0.0", False),
    ("::", False),
]


@pytest.mark.parametrize(("address", "is_local"), ADDRESSES)
def test_only_what_binds_loopback_is_out_of_a_networks_reach(address: str, is_local: bool) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        server = socket.create_server((address, 0), family=family, dualstack_ipv6=address == "::")
    except OSError:
        skip("IPv6")
    with server:
        port = server.getsockname()[1]
        assert port in process.listening_ports()
        assert process.others(port, [os.getpid()]) == []
        assert process.others(port, [os.getppid()]) == [process.described(os.getpid())]
        assert (port in process.public_ports([os.getpid()])) is not is_local


def test_a_server_that_started_after_a_look_is_not_another_process() -> None:
    """A launcher may start its server again while pi asks the others."""
    look = process.Look()
    assert look.living
    assert look.listeners is not None
    with subprocess.Popen(SERVER, stdout=subprocess.PIPE, start_new_session=True, text=True) as server:
        assert server.stdout
        port = int(server.stdout.readline())
        record = cast(
            Record, {"name": "m", "port": port, "instance": "x" * 8, "session": server.pid, **identity(server.pid)}
        )
        now = cast(DeploymentStatus, {"state": "running"})
        status._check_server(record, now, True, look)
        other = cast(DeploymentStatus, {"state": "running"})
        status._check_server(cast(Record, {**record, "session": 2**31}), other, True, process.Look())
        assert now["other_processes"] == []
        assert other["other_processes"] == [process.described(server.pid)]
        server.kill()


SERVER = [
    sys.executable,
    "-c",
    "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); time.sleep(60)",
]


def identity(pid: int) -> dict[str, object]:
    fields = process.stat(pid)
    assert fields
    return {"pid": pid, "started": fields[2], "boot_id": process.boot_id()}
