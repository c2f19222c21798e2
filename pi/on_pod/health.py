"""Whether a deployment answers as itself: our process, our model, our key."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, Optional

from pi.on_pod import process, records

LOOPBACK = "127.0.0.1"

GUARDED = ("/v1/models", "/metrics", "/tokenize", "/invocations")
"""Routes that must refuse a caller without the key; vLLM by itself guards only the first."""


def get(
    port: int, path: str, key: Optional[str] = None, timeout_s: float = 3, host: str = LOOPBACK
) -> tuple[int, bytes]:
    """Status and up to 1 MiB of body of `http://host:port/path`; status 0 when nothing answers."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Authorization": "Bearer " + key} if key else {})
        reply = connection.getresponse()
        return reply.status, reply.read(1 << 20)
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def is_up(port: int) -> bool:
    return get(port, "/health")[0] == 200


def objection(record: dict[str, Any], key: str) -> Optional[str]:
    """Why a server that says it is healthy is still not this deployment, or None when all holds.

    A stranger's server may answer on the port, another model may, and a server may let everyone in: that it does
    not is asked at the pod's outer address too.
    """
    port = record["port"]
    living = records.living(record)
    strangers = process.strangers(port, living)
    if strangers or not process.holders(process.sockets(port), living):
        who = ", ".join(strangers) or "it is gone again"
        return "port %d is answered by another process than this model's: %s" % (port, who)
    status, body = get(port, "/v1/models", key)
    if status != 200:
        return "/v1/models answered %d to the model's own key" % status
    served = _served(body)
    if record["name"] not in served:
        return "/v1/models lists %s, not %s" % (", ".join(sorted(served)) or "nothing", record["name"])
    return _open_door(port, bool(record.get("private")))


def _open_door(port: int, private: bool) -> Optional[str]:
    """What a stranger gets who should get nothing, on this machine and at its outer address, or None."""
    outer = outer_address()
    if private and outer and get(port, "/health", host=outer)[0]:
        return "the server was to be private and answers at %s:%d" % (outer, port)
    for host in [LOOPBACK] + ([outer] if outer and not private else []):
        for path in GUARDED:
            status = get(port, path, host=host)[0]
            if status != 401:
                return "%s:%d%s answered %s without a key" % (host, port, path, status or "nothing")
    return None


def outer_address() -> Optional[str]:
    """This machine's own address on the network it reaches the world by, or None where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation (RFC 5737); UDP sends nothing yet
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def _served(body: bytes) -> set[str]:
    try:
        return {str(model["id"]) for model in json.loads(body)["data"]}
    except (ValueError, KeyError, TypeError):
        return set()
