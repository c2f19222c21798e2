"""Sockets of processes, held against real ones."""

from __future__ import annotations

import os
import socket

import pytest

from pi.on_pod import process
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
