"""A pod's addresses on private networks, and the measurement between two pods.

For a measurement, one pod listens at a private address, and another one connects. Both prove that they know a word
that pi made for it, without sending the word. Then the second pod measures round trips, and sends over several streams.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import hashlib
import hmac
import ipaddress
import os
import re
import socket
import struct
import threading
import time
from typing import Dict, Iterator, List, Tuple

from pi.on_pod import container, firewall, reading
from pi.on_pod.network_shapes import (
    ConnectAnswer,
    ConnectRequest,
    ListenAnswer,
    ListenRequest,
    NetworkAnswer,
    PrivateAddress,
)
from pi.on_pod.pace import paced
from pi.on_pod.wire import Wire

PRIVATE = [
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
"""RFC 1918, the shared space of RFC 6598 that overlay networks use, and the unique local addresses of RFC 4193."""

WITHOUT_PODS = re.compile(r"lo|docker\d+|br-[0-9a-f]{12}|virbr\d+|veth.*|cni\d+|podman\d+")
"""Interfaces to containers of the pod itself; their addresses are the same on every pod."""

CLUSTER = "RunPod Instant Cluster"
"""NODE_ADDR is the node's address on the cluster's own network (docs.runpod.io/instant-clusters/configuration)."""

GLOBAL = "RunPod global networking"
"""Only pods of the same account reach POD_ID.runpod.internal, the pod's address (docs.runpod.io/pods/networking).

It carries 100 Mbit/s. Other providers give a pod no variable with its private address: Vast.ai's overlay networks and
Prime Intellect's clusters are found by their interfaces.
"""

LOOK_UP_S = 3

SIOCGIFCONF, IFREQ_BYTES, MOST_INTERFACES = 0x8912, 40, 256
"""The ioctl that lists IPv4 addresses, and the size of one on a 64-bit machine (netdevice(7))."""

ARRIVE_S = 10
"""How long a pod listens for the other one."""

CONNECT_S = 5

PROVE_S = 2
"""How long a connection may take to show that it knows the word."""

MOST_UNPROVED = 32

PINGS, PING_BYTES = 21, 8

CHUNK_BYTES = 1 << 20

POLL_S = 0.1


def look(wire: Wire, request: Dict[str, str]) -> NetworkAnswer:
    """Return the pod's private addresses, the provider's own first, and whether pi may set its firewall."""
    return {"addresses": private_addresses(), "firewall": firewall.objection()}


def private_addresses() -> List[PrivateAddress]:
    """Return the pod's private addresses, those on a provider's isolated network first."""
    own = [(address, interface) for address, interface in own_addresses() if not WITHOUT_PODS.fullmatch(interface)]
    named = _isolated()
    found: List[PrivateAddress] = [
        {"address": address, "interface": interface, "network": named.get(address, "")}
        for address, interface in own
        if address in named or is_private(address)
    ]
    return sorted(found, key=lambda each: (not each["network"], ":" in each["address"], is_shared(each["address"])))


def is_private(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in PRIVATE if network.version == parsed.version)


def is_shared(address: str) -> bool:
    """Return whether it is in the space that overlay networks over the internet use."""
    return ipaddress.ip_address(address) in PRIVATE[3]


def own_addresses() -> List[Tuple[str, str]]:
    """Return the addresses of this pod with their interfaces, without those of one link alone."""
    return [*_ipv4(), *_ipv6()]


def _ipv4() -> Iterator[Tuple[str, str]]:
    space = array.array("B", bytes(IFREQ_BYTES * MOST_INTERFACES))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = struct.pack("iP", len(space), space.buffer_info()[0])
        size = struct.unpack("iP", fcntl.ioctl(control, SIOCGIFCONF, asked))[0]
    entries = space.tobytes()[:size]
    for start in range(0, size, IFREQ_BYTES):
        name = entries[start : start + 16].partition(b"\0")[0].decode("ascii", "replace")
        yield socket.inet_ntoa(entries[start + 20 : start + 24]), name.partition(":")[0]


def _ipv6() -> Iterator[Tuple[str, str]]:
    """Yield addresses of global scope (proc(5): /proc/net/if_inet6 has address, index, prefix, scope, flags, name)."""
    for line in reading.beginning("/proc/net/if_inet6", 1 << 20).splitlines():
        cells = line.split()
        if len(cells) == 6 and cells[3] == "00":
            yield socket.inet_ntop(socket.AF_INET6, bytes.fromhex(cells[0])), cells[5]


def _isolated() -> Dict[str, str]:
    """Return this pod's addresses on a network that its provider isolates, with the name of that network."""
    found = {**container.variables(), **os.environ}
    pod = found.get("RUNPOD_POD_ID", "")
    if not container.POD_ID.fullmatch(pod):
        return {}
    named = {found["NODE_ADDR"]: CLUSTER} if found.get("NODE_ADDR") and found.get("PRIMARY_ADDR") else {}
    with contextlib.suppress(OSError):  # a TimeoutError is one
        host = pod + ".runpod.internal"
        answers = reading.within(paced(LOOK_UP_S), lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        named.update({str(answer[4][0]): GLOBAL for answer in answers})
    return named


def listen(wire: Wire, request: ListenRequest) -> ListenAnswer:
    """Wait for another pod at a private address, and count the bytes that it sends.

    The port ends by itself after seconds, and drops connections without the word.
    """
    try:
        with _socket(request["address"]) as server:
            server.bind((request["address"], 0))
            server.listen(MOST_UNPROVED)
            port = int(server.getsockname()[1])
            with firewall.passing(request["peer"], port):
                wire.emit({"event": "listening", "port": port})
                return _Measuring(wire, request).run(server)
    except OSError as error:
        problem = "cannot listen at %s: %s" % (request["address"], error.strerror or error)
        return {"problem": problem, "seen_from": "", "bytes_per_s": 0}


class _Measuring:
    """What one pod listens to until the other one has closed its first connection."""

    def __init__(self, wire: Wire, request: ListenRequest) -> None:
        self._wire, self._request = wire, request
        self._lock = threading.Lock()
        self._connections: List[socket.socket] = []
        self._bytes = 0
        self._first = self._last = 0.0
        self._seen_from = ""
        self._is_over = threading.Event()

    def run(self, server: socket.socket) -> ListenAnswer:
        server.settimeout(POLL_S)
        began = time.monotonic()
        while not self._is_over.is_set():
            self._wire.check_cancelled()
            most = ARRIVE_S + (2 * ARRIVE_S + self._request["seconds"] if self._seen_from else 0)
            if self._wire.lost.is_set() or time.monotonic() > began + paced(most):
                break
            with contextlib.suppress(socket.timeout):
                connection, peer = server.accept()
                if len(self._connections) >= MOST_UNPROVED:
                    connection.close()
                    continue
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection, str(peer[0])), daemon=True).start()
        for connection in list(self._connections):
            connection.close()
        if not self._seen_from:
            problem = "no pod connected to %s within %d s" % (self._request["address"], ARRIVE_S)
            return {"problem": problem, "seen_from": "", "bytes_per_s": 0}
        taken = max(self._last - self._first, 0.001)
        return {"problem": None, "seen_from": self._seen_from, "bytes_per_s": int(self._bytes / taken)}

    def _serve(self, connection: socket.socket, peer: str) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(PROVE_S)
            proof = _received(connection, PROOF_BYTES + 1)
            if hmac.compare_digest(proof[:-1], _proof(self._request["word"], "connect")):
                connection.sendall(_proof(self._request["word"], "listen"))
                connection.settimeout(ARRIVE_S + self._request["seconds"])
                if proof[-1:] == PING:
                    self._echo(connection, peer)
                else:
                    self._count(connection)
        with contextlib.suppress(ValueError):
            self._connections.remove(connection)

    def _echo(self, connection: socket.socket, peer: str) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._seen_from = peer
        try:
            while True:
                connection.sendall(_received(connection, PING_BYTES))
        finally:
            self._is_over.set()

    def _count(self, connection: socket.socket) -> None:
        """Count what arrives in the first seconds after the first byte of all streams."""
        space = bytearray(CHUNK_BYTES)
        while True:
            size = connection.recv_into(space)
            now = time.monotonic()
            with self._lock:
                self._first = self._first or now
                if not size or now > self._first + self._request["seconds"]:
                    return
                self._bytes += size
                self._last = now


def connect(wire: Wire, request: ConnectRequest) -> ConnectAnswer:
    """Connect to a pod that listens; measure the round trip, then send for some seconds."""
    try:
        with _dialled(request, PING) as control:
            round_trip_ms = _round_trip_ms(control)
            senders = [threading.Thread(target=_send, args=(request,), daemon=True) for _ in range(request["streams"])]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
            return {"problem": None, "round_trip_ms": round_trip_ms}
    except OSError as error:
        return {"problem": _problem(error, request), "round_trip_ms": 0}


def _round_trip_ms(control: socket.socket) -> float:
    taken = []
    for _ in range(PINGS):
        began = time.monotonic()
        control.sendall(bytes(PING_BYTES))
        _received(control, PING_BYTES)
        taken.append(time.monotonic() - began)
    return round(sorted(taken)[PINGS // 2] * 1000, 3)


def _send(request: ConnectRequest) -> None:
    """Send for some seconds. The other pod counts what arrived."""
    chunk = memoryview(bytes(CHUNK_BYTES))
    with contextlib.suppress(OSError), _dialled(request, DATA) as stream:
        deadline = time.monotonic() + request["seconds"]
        while time.monotonic() < deadline:
            stream.settimeout(max(0.01, deadline - time.monotonic()))
            stream.send(chunk)


PING, DATA = b"p", b"d"
"""What a connection is for: its first byte after the proof."""

PROOF_BYTES = 32


def _proof(word: str, role: str) -> bytes:
    return hashlib.sha256(("%s %s" % (role, word)).encode()).digest()


def _dialled(request: ConnectRequest, purpose: bytes) -> socket.socket:
    """Return a connection from this pod's own address to the pod that listens. Raises OSError."""
    connection = _socket(request["address"])
    try:
        connection.settimeout(paced(CONNECT_S))
        connection.bind((request["own"], 0))
        connection.connect((request["address"], request["port"]))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(_proof(request["word"], "connect") + purpose)
        if not hmac.compare_digest(_received(connection, PROOF_BYTES), _proof(request["word"], "listen")):
            raise OSError(errno.EPROTO, "another program answers there")
    except OSError:
        connection.close()
        raise
    return connection


def _problem(error: OSError, request: ConnectRequest) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return "%s is not an address of this pod" % request["own"]
    if isinstance(error, socket.timeout):
        return "no answer from %s to %s within %d s" % (request["address"], request["own"], CONNECT_S)
    return "no connection from %s to %s: %s" % (request["own"], request["address"], error.strerror or error)


def _socket(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)


def _received(connection: socket.socket, size: int) -> bytes:
    """Return exactly so many bytes. Raises OSError if the connection ends before."""
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise ConnectionResetError(errno.ECONNRESET, "it closed the connection")
        found += piece
    return found
