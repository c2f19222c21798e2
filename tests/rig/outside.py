"""What programs in a namespace with loopback alone try to reach elsewhere: addresses, and names that they look up."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator

ANY_PROTOCOL = 0x0003

IPV4, UDP, TCP = 0x0800, 17, 6


@contextlib.contextmanager
def tries(allowed: tuple[str, ...]) -> Iterator[set[str]]:
    """Collect destinations outside 127.0.0.0/8 and `allowed`, as seen on loopback, where every route leads."""
    found: set[str] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ANY_PROTOCOL)) as wire:
        wire.settimeout(0.2)
        stopping = threading.Event()

        def read() -> None:
            while not stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    data, source = wire.recvfrom(65535)
                    if source[1] == IPV4 and (place := destination(data)):
                        found.add(place)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        yield found
        stopping.set()
        reader.join()
    found.difference_update({place for place in found if place.partition(":")[0] in allowed})


def destination(packet: bytes) -> str | None:
    """Return where an IPv4 packet goes, or the name that it looks up; None if it stays on this machine."""
    address, head = ipaddress.IPv4Address(packet[16:20]), 4 * (packet[0] & 15)
    port = int.from_bytes(packet[head + 2 : head + 4], "big")
    if packet[9] == UDP and port == 53:
        return f"dns:{looked_up(packet[head + 8 :])}"
    is_start = packet[9] == TCP and packet[head + 13] & 0x12 == 0x02
    return f"{address}:{port}" if is_start and not address.is_loopback else None


def looked_up(query: bytes) -> str:
    labels, at = [], 12
    while at < len(query) and query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    return ".".join(labels)
